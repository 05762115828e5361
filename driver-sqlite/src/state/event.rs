//! The record of what happened, each entry chained to the one before.

use replank_core::Result;
use replank_core::driver::EventRecord;
use replank_core::ident::RunId;
use replank_core::journal::chain::{GENESIS, hash, moment, settled};
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{Names, broken, now_ms};
use crate::error::from_sqlx;
use crate::inspect::get;
use crate::sql::query;

/// Adds an entry in the caller's transaction.
pub async fn append(
    connection: &mut SqliteConnection,
    names: &Names,
    run: &RunId,
    kind: &str,
    body: &serde_json::Value,
) -> Result<()> {
    let table = names.table("events");
    let last = query(format!("SELECT seq, hash, at_ms FROM {table} ORDER BY seq DESC LIMIT 1"))
        .fetch_optional(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    let (seq, previous, last_ms) = match &last {
        Some(row) => (get::<i64>(row, 0)? + 1, get::<String>(row, 1)?, get::<i64>(row, 2)?),
        None => (1, GENESIS.to_owned(), i64::MIN),
    };
    // A clock that was set back must not make the record look as if it was shuffled.
    let at_ms = now_ms().max(last_ms);
    let body = settled(body)?;
    let hash = hash(&previous, seq.unsigned_abs(), moment(at_ms)?, run, kind, &body);
    query(format!(
        "INSERT INTO {table} (seq, at_ms, run, kind, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
    ))
    .bind(seq)
    .bind(at_ms)
    .bind(run.as_str().to_owned())
    .bind(kind.to_owned())
    .bind(body.to_string())
    .bind(previous)
    .bind(hash)
    .execute(connection)
    .await
    .map_err(from_sqlx)
    .map(|_| ())
}

/// The entries of one run, or all, oldest first.
pub async fn load(
    connection: &mut SqliteConnection,
    names: &Names,
    run: Option<&RunId>,
) -> Result<Vec<EventRecord>> {
    let sql = format!(
        "SELECT seq, at_ms, run, kind, body, previous, hash FROM {} WHERE ?1 IS NULL OR run = ?1 ORDER BY seq",
        names.table("events")
    );
    let rows = query(sql)
        .bind(run.map(|run| run.as_str().to_owned()))
        .fetch_all(connection)
        .await
        .map_err(from_sqlx)?;
    rows.iter().map(record).collect()
}

fn record(row: &SqliteRow) -> Result<EventRecord> {
    let body: String = get(row, 4)?;
    Ok(EventRecord {
        seq: get::<i64>(row, 0)?.unsigned_abs(),
        at: moment(get(row, 1)?)?,
        run: RunId::parse(&get::<String>(row, 2)?)?,
        kind: get(row, 3)?,
        body: serde_json::from_str(&body).map_err(|error| broken("an event's body", error))?,
        previous: get(row, 5)?,
        hash: get(row, 6)?,
    })
}
