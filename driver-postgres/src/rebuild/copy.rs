//! Chunks: their bounds, and copying one.

use replank_core::Result;
use replank_core::driver::Copied;
use replank_core::value::{Bounds, Key};

use super::Core;
use super::range::{Condition, encoded};
use crate::sql::{first, get, ident, number, run};

/// The key of the last of the next `rows` rows.
pub async fn next_bound(core: &Core, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
    let flow = core.flow()?;
    let condition = Condition::range(&Bounds { lower: after.cloned(), upper: None }, &flow.key)?;
    let names = core.source_key()?;
    let order: Vec<String> = names.iter().map(|name| format!("s.{}", ident(name))).collect();
    let sql = format!(
        "SELECT {} FROM ONLY {} AS s WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
        encoded("s", &names),
        core.source(),
        condition.sql("s", &names),
        order.join(", "),
        rows.saturating_sub(1).min(i64::MAX.unsigned_abs())
    );
    let mut connection = core.server.take().await?;
    let found = first(&mut connection, sql).await.map_err(|error| core.missed(error))?;
    let key = found.map(|row| get::<String>(&row, 0)).transpose()?;
    core.server.keep(connection);
    Ok(key.map(Key))
}

/// Copies the rows of a range whose keys are absent from the written table. Its other unique indexes are not there yet.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    let flow = core.flow()?;
    let condition = Condition::range(bounds, &flow.key)?.sql("s", &core.source_key()?);
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let key: Vec<String> = core.written_key()?.iter().map(|name| ident(name)).collect();
    let mut connection = core.server.take().await?;
    let sql = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM ONLY {} AS s WHERE {condition}
         ON CONFLICT ({}) DO NOTHING",
        core.written(),
        columns.join(", "),
        values.join(", "),
        core.source(),
        key.join(", ")
    );
    let written = run(&mut connection, sql).await.map_err(|error| core.missed(error))?;
    let counting = format!("SELECT count(*) FROM ONLY {} AS s WHERE {condition}", core.source());
    let read = number(&mut connection, counting).await?;
    core.server.keep(connection);
    Ok(Copied {
        read: u64::try_from(read).unwrap_or_default().max(written),
        written,
        // The server does not count them.
        bytes: 0,
        displaced: Vec::new(),
    })
}
