//! Chunks: their bounds, and copying one.

use std::sync::atomic::Ordering;

use replank_core::driver::Copied;
use replank_core::value::{Bounds, Key};
use replank_core::{ErrorKind, Result};

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
        "SELECT {} FROM {} AS s WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
        encoded("s", &names),
        core.source_rows(),
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
///
/// As a rule none of a chunk is there: nothing else writes the table during the copy. A statement that looks for each
/// row first takes twice the time, so that is what follows when a row was there: of a chunk whose answer was lost, or of
/// changes that were applied in a pause.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    let flow = core.flow()?;
    let condition = Condition::range(bounds, &flow.key)?.sql("s", &core.source_key()?);
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let filling = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s WHERE {condition}",
        core.written(),
        columns.join(", "),
        values.join(", "),
        core.source_rows()
    );
    let mut connection = core.server.take().await?;
    if !core.meets_rows.load(Ordering::Relaxed) {
        match run(&mut connection, filling.clone()).await {
            Ok(written) => {
                core.server.keep(connection);
                return Ok(copied(written, written));
            }
            Err(error) if error.kind() == ErrorKind::Duplicate => {
                core.meets_rows.store(true, Ordering::Relaxed);
            }
            Err(error) => return Err(core.told_of_misfits(core.missed(error), "", &condition).await),
        }
    }
    // The one index that is there may be of fewer columns than the key: there is no other.
    let sql = format!("{filling} ON CONFLICT DO NOTHING");
    let written = match run(&mut connection, sql).await {
        Ok(written) => written,
        Err(error) => return Err(core.told_of_misfits(core.missed(error), "", &condition).await),
    };
    let counting = format!("SELECT count(*) FROM {} AS s WHERE {condition}", core.source_rows());
    let read = number(&mut connection, counting).await?;
    core.server.keep(connection);
    Ok(copied(u64::try_from(read).unwrap_or_default().max(written), written))
}

/// The server does not count bytes. Nothing is displaced: there is no other unique index than the key's.
fn copied(read: u64, written: u64) -> Copied {
    Copied { read, written, bytes: 0, displaced: Vec::new() }
}
