//! Emptying a table bit by bit before it is dropped: a DROP visits every page, and holds the only write
//! lock meanwhile.

use std::time::Duration;

use replank_core::Result;
use sqlx::sqlite::SqliteConnection;

use crate::inspect::Table;
use crate::sql::{ident, idents, run};

/// One piece holds the write lock about this long. Chosen: as long as a chunk of the copy.
const HOLD: Duration = Duration::from_millis(20);

/// Rows of the first piece.
pub const FIRST: u64 = 500;

/// Deletes up to `rows` rows; answers how many there were. A table that is not there has none.
pub async fn delete_some(connection: &mut SqliteConnection, table: &str, rows: u64) -> Result<u64> {
    let Some(found) = Table::read(connection, table).await? else { return Ok(0) };
    let name = ident(table);
    let row = row_address(&found);
    run(connection, format!("DELETE FROM {name} WHERE ({row}) IN (SELECT {row} FROM {name} LIMIT {rows})"))
        .await
}

/// Rests as long as the piece took, as a waiting writer polls; answers with the size of the next piece.
pub async fn rest(rows: u64, took: Duration) -> u64 {
    tokio::time::sleep(took.min(HOLD * 2)).await;
    if took > HOLD { (rows / 2).max(50) } else { (rows * 3 / 2).min(20_000) }
}

/// What tells rows apart.
fn row_address(table: &Table) -> String {
    if let Some(hidden) = table.hidden_row_id() {
        return hidden.to_owned();
    }
    let alias = table.unique.iter().find(|unique| unique.is_row_id);
    match alias.and_then(|unique| unique.terms.first()) {
        Some(term) => term.sql.clone(),
        None if table.without_rowid => {
            idents(table.columns.iter().filter(|column| column.primary > 0).map(|column| &column.name))
        }
        // The row id has no name left: all columns together, which removes rows that look alike at once.
        None => idents(table.stored().map(|column| &column.name)),
    }
}
