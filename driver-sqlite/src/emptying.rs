//! Emptying a table bit by bit before it is dropped: a DROP visits every page, and holds the only write
//! lock meanwhile.

use std::time::Duration;

use replank_core::Result;
use sqlx::sqlite::SqliteConnection;

use crate::error::from_sqlx;
use crate::inspect::{Table, get};
use crate::sql::{ident, idents, query, run};

/// One piece holds the write lock about this long. Chosen: as long as a chunk of the copy.
const HOLD: Duration = Duration::from_millis(20);

/// What has no more pages than this is dropped at once: some 30 ms at 15 µs a page. Measured with a cold
/// cache on a virtual machine.
const AT_ONCE: i64 = 2_000;

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

/// Which of these tables and indexes are small enough to be dropped at once. Reads their pages, and so has
/// no place under the write lock. None where the library cannot tell.
pub async fn small(connection: &mut SqliteConnection, names: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        let pages = query("SELECT count(*) FROM (SELECT 1 FROM dbstat WHERE name = ? LIMIT ?)")
            .bind(name.clone())
            .bind(AT_ONCE + 1)
            .fetch_one(&mut *connection)
            .await;
        // Libraries are built without `dbstat`: then everything goes bit by bit.
        let Ok(row) = pages else { return Ok(Vec::new()) };
        if get::<i64>(&row, 0)? <= AT_ONCE {
            found.push(name.clone());
        }
    }
    Ok(found)
}

/// The explicit indexes of a table.
pub async fn indexes(connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>> {
    let rows =
        query("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL")
            .bind(table.to_owned())
            .fetch_all(connection)
            .await
            .map_err(from_sqlx)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The indexes of a table's constraints, which go with it and not alone.
pub async fn constraint_indexes(connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>> {
    let rows = query("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NULL")
        .bind(table.to_owned())
        .fetch_all(connection)
        .await
        .map_err(from_sqlx)?;
    rows.iter().map(|row| get(row, 0)).collect()
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
