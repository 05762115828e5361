//! The change feed: reads the log that the capture triggers fill.
//!
//! A position is the number of a log row. Numbers have no gaps: SQLite has one writer, a rolled back
//! transaction takes its numbers back with its rows, and only we delete, from the start, always leaving the
//! newest row. So whatever is missing is a gap, and a position may stand at any row: all that lies at or
//! before it was handed out, and keys are read again anyway. R1 holds by itself, as the log row is part of
//! the transaction that it tells of.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{ChangeFeed, FeedBatch};
use replank_core::value::{Change, Position};
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;
use tokio::time::Instant;

use super::{Core, capture_role, change, exists, place};
use crate::definition;
use crate::error::from_sqlx;
use crate::inspect::get;
use crate::key::{Values, selected};
use crate::sql::{ident, number, query};

/// How long to wait before looking again. A look costs some 50 µs. Chosen.
const POLL: Duration = Duration::from_millis(10);

/// An open feed.
pub struct Feed {
    core: Arc<Core>,
    at: i64,
    /// The schema's version when everything was as it should be.
    checked: Option<i64>,
    failed: Option<(ErrorKind, String)>,
}

impl Feed {
    /// Just after a position.
    pub async fn open(core: Arc<Core>, from: &Position) -> Result<Self> {
        let at = place(from)?;
        // The first row is only there to show that the log was never emptied.
        if at < 1 {
            return Err(gap("the log never was at the saved position"));
        }
        let mut feed = Self { core, at, checked: None, failed: None };
        feed.look(0).await?;
        Ok(feed)
    }

    /// One look at the log, in one snapshot, with every check of R7.
    async fn look(&mut self, keys_max: usize) -> Result<(Vec<Entry>, i64)> {
        let core = Arc::clone(&self.core);
        let mut tx = core.database.read().await?;
        let connection = tx.connection();
        let version = number(connection, "PRAGMA schema_version").await?;
        if self.checked != Some(version) {
            definition::check(connection, &core.names, &core.objects).await?;
            check_capture(connection, &core).await?;
            self.checked = Some(version);
        }
        let log = log(connection, &core).await?;
        let newest = newest(connection, &log).await?;
        if newest < self.at {
            return Err(gap("the log ends before the saved position"));
        }
        let entries = entries(connection, &core, &log, self.at, keys_max.max(1)).await?;
        tx.end().await?;
        for (index, entry) in entries.iter().enumerate() {
            if entry.seq - self.at != i64::try_from(index).unwrap_or(i64::MAX) + 1 {
                return Err(gap("changes are missing from the log"));
            }
        }
        if entries.is_empty() && newest > self.at {
            return Err(gap("changes are missing from the log"));
        }
        Ok((entries, newest))
    }
}

#[async_trait]
impl ChangeFeed for Feed {
    async fn next(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some((kind, message)) = &self.failed {
                return Err(Error::new(*kind, message.clone()));
            }
            let (entries, newest) = match self.look(keys_max).await {
                Ok(found) => found,
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::FeedGap | ErrorKind::ForeignDdl) {
                        self.failed = Some((error.kind(), error.to_string()));
                    }
                    return Err(error);
                }
            };
            if let Some(last) = entries.last() {
                self.at = last.seq;
                return Ok(FeedBatch {
                    lag: age(last.at_ms),
                    backlog: Some((newest - self.at).unsigned_abs()),
                    position: Some(Position(self.at.to_string())),
                    changes: entries.into_iter().map(|entry| entry.change).collect(),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(FeedBatch {
                    changes: Vec::new(),
                    position: Some(Position(self.at.to_string())),
                    lag: Duration::ZERO,
                    backlog: Some(0),
                });
            }
            tokio::time::sleep(left.min(POLL)).await;
        }
    }
}

struct Entry {
    seq: i64,
    at_ms: i64,
    change: Change,
}

async fn entries(
    connection: &mut SqliteConnection,
    core: &Core,
    log: &str,
    at: i64,
    keys_max: usize,
) -> Result<Vec<Entry>> {
    let columns = core.flow()?.key.len();
    let slots: Vec<String> = (0..columns).map(|index| format!("k{index}")).collect();
    let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
    let sql = format!(
        "SELECT l.seq, l.at_ms, l.removed, {} FROM {} AS l WHERE l.seq > ? ORDER BY l.seq LIMIT ?",
        selected("l", &slots),
        ident(log)
    );
    let rows = query(sql)
        .bind(at)
        .bind(i64::try_from(keys_max).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await
        .map_err(from_sqlx)?;
    rows.iter()
        .map(|row| {
            let values = Values::read(row, 3, columns)?;
            Ok(Entry {
                seq: get(row, 0)?,
                at_ms: get(row, 1)?,
                change: change(&values, get::<i64>(row, 2)? != 0),
            })
        })
        .collect()
}

/// Fails with [`ErrorKind::FeedGap`] unless the log and every trigger are as they were made.
pub async fn check_capture(connection: &mut SqliteConnection, core: &Core) -> Result<()> {
    log(connection, core).await?;
    let triggers = core.objects.of(connection, capture_role(core.job.direction)).await?;
    if triggers.is_empty() {
        return Err(gap("no trigger captures changes"));
    }
    for trigger in triggers {
        let sql: Option<String> =
            query("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ? AND tbl_name = ?")
                .bind(trigger.name.clone())
                .bind(core.source().to_owned())
                .fetch_optional(&mut *connection)
                .await
                .map_err(from_sqlx)?
                .map(|row| get(&row, 0))
                .transpose()?;
        if sql.as_deref() != trigger.extra.as_str() {
            return Err(
                gap("a trigger that captures changes is gone or was changed").with("trigger", trigger.name)
            );
        }
    }
    Ok(())
}

/// The log's name.
pub async fn log(connection: &mut SqliteConnection, core: &Core) -> Result<String> {
    let log = core.objects.one(connection, core.log_role()).await?;
    match log {
        Some(log) if exists(connection, "table", &log.name).await? => Ok(log.name),
        _ => Err(gap("the log is gone")),
    }
}

/// The number of the newest log row.
pub async fn newest(connection: &mut SqliteConnection, log: &str) -> Result<i64> {
    // Not sqlite_sequence: a statement that fails half-way under OR FAIL keeps its rows and leaves that
    // behind. The newest row is never deleted.
    match number(connection, format!("SELECT max(seq) FROM {}", ident(log))).await? {
        0 => Err(gap("the log was emptied")),
        newest => Ok(newest),
    }
}

/// Shortens the log.
pub async fn forget(core: &Core, position: &Position) -> Result<()> {
    /// Log rows deleted at a time: some 5 ms of the write lock. Chosen.
    const PIECE: u64 = 5_000;
    let upto = place(position)?;
    loop {
        let mut tx = core.write().await?;
        let log = log(tx.connection(), core).await?;
        let newest = newest(tx.connection(), &log).await?;
        let log = ident(&log);
        let done = query(format!(
            "DELETE FROM {log} WHERE seq IN (SELECT seq FROM {log} WHERE seq <= ? AND seq < ? ORDER BY seq LIMIT {PIECE})"
        ))
        .bind(upto)
        .bind(newest)
        .execute(tx.connection())
        .await
        .map_err(from_sqlx)?;
        tx.commit().await?;
        if done.rows_affected() < PIECE {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn age(at_ms: i64) -> Duration {
    let now = jiff::Timestamp::now().as_millisecond();
    Duration::from_millis(u64::try_from(now - at_ms).unwrap_or(0))
}

fn gap(what: &str) -> Error {
    Error::new(ErrorKind::FeedGap, what.to_owned())
}
