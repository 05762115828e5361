//! Chunks: their bounds, and copying one.

use replank_core::Result;
use replank_core::driver::Copied;
use replank_core::value::{Bounds, Key};

use super::insert::insert;
use super::range::{Condition, same_key};
use super::{Core, change};
use crate::error::{from_sqlx, is_unfit, is_unique};
use crate::inspect::get;
use crate::key::{Values, selected};
use crate::sql::{ident, query};

/// The key of the last of the next `rows` rows.
pub async fn next_bound(core: &Core, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
    let columns = core.flow()?.source_key();
    let condition = Condition::range(&Bounds { lower: after.cloned(), upper: None }, columns.len())?;
    let order: Vec<String> = columns.iter().map(|column| format!("s.{}", ident(column))).collect();
    let sql = format!(
        "SELECT {} FROM {} AS s WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
        selected("s", &columns),
        ident(core.source()),
        condition.sql("s", &columns),
        order.join(", "),
        rows.saturating_sub(1).min(i64::MAX.unsigned_abs())
    );
    let mut tx = core.database.read().await?;
    let found = condition
        .bind(query(sql).persistent(false))
        .fetch_optional(tx.connection())
        .await
        .map_err(from_sqlx)?;
    let key = found.map(|row| Values::read(&row, 0, columns.len())).transpose()?;
    tx.end().await?;
    Ok(key.map(|values| values.encode()))
}

/// Copies the rows of a range whose keys are absent from the written table.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    let flow = core.flow()?;
    let condition = Condition::range(bounds, flow.key.len())?;
    let (source, written) = (ident(core.source()), ident(&core.written()));
    let absent = format!(
        "FROM {source} AS s WHERE {} AND NOT EXISTS (SELECT 1 FROM {written} AS w WHERE {})",
        condition.sql("s", &flow.source_key()),
        same_key("s", &flow.source_key(), "w", &flow.written_key())
    );

    // Counted before the lock is asked for: it also brings the pages in.
    let mut tx = core.database.read().await?;
    core.check_written(tx.connection()).await?;
    let sql = format!("SELECT count(*) FROM {source} AS s WHERE {}", condition.sql("s", &flow.source_key()));
    let counted = condition.bind(query(sql)).fetch_one(tx.connection()).await.map_err(from_sqlx)?;
    let read = get::<i64>(&counted, 0)?.unsigned_abs();
    tx.end().await?;

    let mut tx = core.write().await?;
    core.check_written(tx.connection()).await?;
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let sql = format!(
        "INSERT OR ABORT INTO {written} ({}) SELECT {} {absent}",
        columns.join(", "),
        values.join(", ")
    );
    let done = condition.bind(query(sql)).execute(tx.connection()).await;
    let (rows, displaced) = match done {
        Ok(done) => (done.rows_affected(), Vec::new()),
        Err(error) if is_unique(&error) || is_unfit(&error) => {
            // Rows of different moments meet (R6), or one does not fit: row by row, then.
            let columns = flow.source_key();
            let order: Vec<String> = columns.iter().map(|column| format!("s.{}", ident(column))).collect();
            let sql = format!("SELECT {} {absent} ORDER BY {}", selected("s", &columns), order.join(", "));
            let rows = condition
                .bind(query(sql).persistent(false))
                .fetch_all(tx.connection())
                .await
                .map_err(from_sqlx)?;
            let keys =
                rows.iter().map(|row| Values::read(row, 0, columns.len())).collect::<Result<Vec<_>>>()?;
            let written = insert(tx.connection(), core, None, &keys).await?;
            (written.rows, written.displaced)
        }
        Err(error) => return Err(from_sqlx(error)),
    };
    tx.commit().await?;
    Ok(Copied {
        read,
        written: rows,
        // SQLite does not count them.
        bytes: 0,
        displaced: displaced.iter().map(|values| change(values, false)).collect(),
    })
}
