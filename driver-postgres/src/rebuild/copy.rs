//! Chunks: their bounds, and copying one.

use replank_core::Result;
use replank_core::driver::Copied;
use replank_core::value::{Bounds, Key};

use super::range::{Condition, encoded};
use super::{Core, chunks};
use crate::sql::{first, get, ident, is_so, number, run};

/// The key of the last of the next `rows` rows.
pub async fn next_bound(core: &Core, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
    let flow = core.flow()?;
    let condition = Condition::range(&Bounds { lower: after.cloned(), upper: None }, &flow.key)?;
    let names = core.source_key()?;
    let order: Vec<String> = names.iter().map(|name| format!("s.{}", ident(name))).collect();
    let order = order.join(", ");
    // Within, so that the rows that are passed over are not encoded: that takes five times as long as to pass over them.
    let sql = format!(
        "SELECT {} FROM (SELECT {order} FROM {} AS s WHERE {} ORDER BY {order} LIMIT 1 OFFSET {}) AS s",
        encoded("s", &names),
        core.source_rows(),
        condition.sql("s", &names),
        rows.saturating_sub(1).min(i64::MAX.unsigned_abs())
    );
    let mut connection = core.server.take().await?;
    let found = first(&mut connection, sql).await.map_err(|error| core.missed(error))?;
    let key = found.map(|row| get::<String>(&row, 0)).transpose()?;
    core.server.keep(connection);
    Ok(key.map(Key))
}

/// Copies the rows of a range that no chunk has copied. The written table has no index yet: see [`chunks`].
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    let flow = core.flow()?;
    let range = Condition::range(bounds, &flow.key)?.sql("s", &core.source_key()?);
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let mut connection = core.server.take().await?;
    let asked = is_so(&mut connection, chunks::any(core, bounds)?).await;
    let is_partly_there = asked.map_err(|error| core.missed(error))?;
    let condition = match is_partly_there {
        true => format!("{range} AND {}", chunks::without(core, bounds, "s")?),
        false => range.clone(),
    };
    let sql = format!(
        "WITH noted AS ({}) INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s WHERE {condition}",
        chunks::noting(core, bounds)?,
        core.written(),
        columns.join(", "),
        values.join(", "),
        core.source_rows()
    );
    let written = match run(&mut connection, sql).await {
        Ok(written) => written,
        Err(error) => return Err(core.told_of_misfits(core.missed(error), "", &range).await),
    };
    let read = match is_partly_there {
        true => {
            let counting = format!("SELECT count(*) FROM {} AS s WHERE {range}", core.source_rows());
            u64::try_from(number(&mut connection, counting).await?).unwrap_or_default().max(written)
        }
        false => written,
    };
    core.server.keep(connection);
    // The server does not count bytes. Nothing is displaced: there is no unique index.
    Ok(Copied { read, written, bytes: 0, displaced: Vec::new() })
}
