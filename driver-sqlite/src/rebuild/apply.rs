//! Makes the written rows of some keys what the source holds now.

use replank_core::Result;
use replank_core::driver::Applied;
use replank_core::value::{Change, Key};
use sqlx::sqlite::SqliteConnection;

use super::insert::{delete, insert};
use super::range::Condition;
use super::{Core, change, parked};
use crate::error::from_sqlx;
use crate::key::{Values, selected};
use crate::sql::{ident, query};

/// Applies in the caller's transaction, so everything comes from one snapshot: the newest, as the write
/// lock is held.
pub async fn apply(connection: &mut SqliteConnection, core: &Core, changes: &[Change]) -> Result<Applied> {
    if changes.is_empty() {
        return Ok(Applied::default());
    }
    core.check_written(connection).await?;
    let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
    let keys = core.decoded(&keys)?;
    let parked = parked::name(core, connection).await?;
    if let Some(parked) = &parked {
        parked::park(connection, core, parked, &keys).await?;
    }
    // Every key leaves its unique values before any row is written. `removed` is not looked at: where it
    // matters, the triggers have followed the source already.
    delete(connection, core, &keys).await?;
    let present = present(connection, core, &keys).await?;
    let written = insert(connection, core, parked.as_deref(), &present).await?;
    if let Some(parked) = &parked {
        parked::release(connection, core, parked, &keys, &written.displaced).await?;
    }
    Ok(Applied { displaced: written.displaced.iter().map(|values| change(values, false)).collect() })
}

/// The keys that the source holds, as it holds them, in its order.
async fn present(connection: &mut SqliteConnection, core: &Core, keys: &[Values]) -> Result<Vec<Values>> {
    let condition = Condition::keys(keys);
    let columns = core.flow()?.source_key();
    let order: Vec<String> = columns.iter().map(|column| format!("s.{}", ident(column))).collect();
    let sql = format!(
        "SELECT {} FROM {} AS s WHERE {} ORDER BY {}",
        selected("s", &columns),
        ident(core.source()),
        condition.sql("s", &columns),
        order.join(", ")
    );
    let rows = condition.bind(query(sql).persistent(false)).fetch_all(connection).await.map_err(from_sqlx)?;
    rows.iter().map(|row| Values::read(row, 0, columns.len())).collect()
}
