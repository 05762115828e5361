//! How large a table is, and how long SQLite would hold the write lock for it.

use std::time::{Duration, Instant};

use replank_core::Result;
use sqlx::sqlite::SqliteConnection;

use crate::error::from_sqlx;
use crate::inspect::{Table, get};
use crate::sql::{ident, number, query, rows};

/// Above this the pages of a table are not counted one by one: that reads all of them. 512 MiB: about a
/// second from a warm cache. Chosen.
const COUNTED_MAX: u64 = 512 << 20;

/// A page that is freed costs about this much: it is read and written once. Measured on a laptop's disk,
/// rounded up.
const PAGE_FREED: Duration = Duration::from_micros(10);

/// Rows that a trial reads and sorts.
const TRIAL_ROWS: u64 = 20_000;

/// A table's size.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rows.
    pub rows: u64,
    /// Whether they were counted.
    pub rows_exact: bool,
    /// Bytes of rows and indexes; of the whole file where they were not counted.
    pub bytes: u64,
}

/// Measures a table.
pub async fn size(connection: &mut SqliteConnection, table: &Table) -> Result<Size> {
    let page = number(connection, "PRAGMA page_size").await?.unsigned_abs();
    let pages = number(connection, "PRAGMA page_count").await?.unsigned_abs();
    let free = number(connection, "PRAGMA freelist_count").await?.unsigned_abs();
    let whole = pages.saturating_sub(free) * page;
    if whole > COUNTED_MAX {
        return Ok(Size { rows: estimated_rows(connection, table).await?, rows_exact: false, bytes: whole });
    }
    let rows = number(connection, format!("SELECT count(*) FROM {}", ident(&table.name))).await?;
    let found = query(
        "SELECT coalesce(sum(d.pgsize), 0) FROM dbstat AS d
         WHERE d.name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ? AND type IN ('table', 'index'))",
    )
    .bind(table.name.clone())
    .fetch_one(&mut *connection)
    .await;
    let bytes = match found {
        Ok(row) => get::<i64>(&row, 0)?.unsigned_abs(),
        // A library that was built without it.
        Err(_) => whole,
    };
    Ok(Size { rows: rows.unsigned_abs(), rows_exact: true, bytes })
}

/// Without reading every row: what ANALYZE found, or the largest row id.
async fn estimated_rows(connection: &mut SqliteConnection, table: &Table) -> Result<u64> {
    let analysed = query("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'")
        .fetch_optional(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    if analysed.is_some() {
        let found = query("SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = ?")
            .bind(table.name.clone())
            .fetch_one(&mut *connection)
            .await
            .map_err(from_sqlx)?;
        if let Some(rows) = get::<Option<i64>>(&found, 0)? {
            return Ok(rows.unsigned_abs());
        }
    }
    let row_id = table.unique.iter().find(|unique| unique.is_row_id);
    let row_id = row_id.and_then(|unique| unique.terms.first()).map(|term| term.sql.clone());
    match row_id.or_else(|| table.hidden_row_id().map(ToOwned::to_owned)) {
        Some(row_id) => {
            let sql = format!("SELECT max({row_id}) FROM {}", ident(&table.name));
            Ok(u64::try_from(number(connection, sql).await?).unwrap_or(0))
        }
        None => Ok(number(connection, format!("SELECT count(*) FROM {}", ident(&table.name)))
            .await?
            .unsigned_abs()),
    }
}

/// How long building an index would hold the write lock: a trial reads and sorts some rows.
pub async fn index_build(
    connection: &mut SqliteConnection,
    table: &Table,
    terms: &[String],
    size: Size,
) -> Result<Duration> {
    let begun = Instant::now();
    let list = terms.join(", ");
    let sql = format!(
        "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY {list}) FROM (SELECT * FROM {} LIMIT {TRIAL_ROWS}))",
        ident(&table.name)
    );
    number(connection, sql).await?;
    // Writing what was sorted costs as much again.
    Ok(scaled(begun.elapsed() * 2, size))
}

/// How long it would take to read and write every row.
pub async fn rewrite(connection: &mut SqliteConnection, table: &Table, size: Size) -> Result<Duration> {
    let columns: Vec<String> =
        table.stored().map(|column| format!("length({})", ident(&column.name))).collect();
    let begun = Instant::now();
    let sql = format!(
        "SELECT count({}) FROM (SELECT * FROM {} LIMIT {TRIAL_ROWS})",
        columns.join(" + "),
        ident(&table.name)
    );
    rows(connection, sql).await?;
    // Writing a row costs several times what reading it does: the page, the WAL, the table's tree.
    Ok(scaled(begun.elapsed() * 5, size))
}

/// How long freeing an object's pages would hold the write lock.
pub fn free(bytes: u64) -> Duration {
    let pages = u32::try_from(bytes / 4096).unwrap_or(u32::MAX);
    PAGE_FREED.saturating_mul(pages)
}

fn scaled(trial: Duration, size: Size) -> Duration {
    if size.rows <= TRIAL_ROWS {
        return trial;
    }
    trial.saturating_mul(u32::try_from(size.rows.div_ceil(TRIAL_ROWS)).unwrap_or(u32::MAX))
}

/// In whole milliseconds, never none.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
