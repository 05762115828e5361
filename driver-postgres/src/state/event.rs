//! The record of what happened, each entry chained to the one before.

use replank_core::driver::EventRecord;
use replank_core::ident::RunId;
use replank_core::journal::chain::{GENESIS, hash, moment, settled};
use replank_core::{Error, ErrorKind, Result};
use sqlx::postgres::PgRow;

use super::{NOW_MS, Names, broken};
use crate::connect::Conn;
use crate::sql::{first, get, rows, run as execute, text};

// Two runners that append at once take turns; a hundred turns lost in a row is no accident. Chosen.
const TRIES: u32 = 100;

/// Adds an entry. The number is the key: of two that append at once one finds it taken, and chains itself
/// to the other.
pub async fn append(
    connection: &mut Conn,
    names: &Names,
    run: &RunId,
    kind: &str,
    body: &serde_json::Value,
) -> Result<()> {
    let body = settled(body)?;
    for _ in 0..TRIES {
        match append_once(connection, names, run, kind, &body).await {
            Err(error) if error.kind() == ErrorKind::Duplicate => {}
            answer => return answer,
        }
    }
    Err(Error::new(ErrorKind::Retry, "others append to the record all the time"))
}

async fn append_once(
    connection: &mut Conn,
    names: &Names,
    run: &RunId,
    kind: &str,
    body: &serde_json::Value,
) -> Result<()> {
    let table = names.table("events");
    let last = first(
        connection,
        format!(
            "SELECT {NOW_MS}, last.seq, last.hash, last.at_ms FROM (SELECT 1) AS one
             LEFT JOIN (SELECT seq, hash, at_ms FROM {table} ORDER BY seq DESC LIMIT 1) AS last ON true"
        ),
    )
    .await?
    .ok_or_else(|| Error::new(ErrorKind::Internal, "a row of one came back empty"))?;
    let now_ms: i64 = get(&last, 0)?;
    let (seq, previous, last_ms) = match get::<Option<i64>>(&last, 1)? {
        Some(seq) => (seq + 1, get::<String>(&last, 2)?, get::<i64>(&last, 3)?),
        None => (1, GENESIS.to_owned(), i64::MIN),
    };
    // A clock that was set back must not make the record look as if it was shuffled.
    let at_ms = now_ms.max(last_ms);
    let hash = hash(&previous, u64::try_from(seq).unwrap_or_default(), moment(at_ms)?, run, kind, body);
    let sql = format!(
        "INSERT INTO {table} (seq, at_ms, run, kind, body, previous, hash)
         VALUES ({seq}, {at_ms}, {}, {}, {}, {}, {})",
        text(run.as_str()),
        text(kind),
        text(&body.to_string()),
        text(&previous),
        text(&hash)
    );
    execute(connection, sql).await.map(drop)
}

/// The entries of one run, or all, oldest first.
pub async fn load(connection: &mut Conn, names: &Names, run: Option<&RunId>) -> Result<Vec<EventRecord>> {
    let of = run.map_or_else(String::new, |run| format!("WHERE run = {}", text(run.as_str())));
    let sql = format!(
        "SELECT seq, at_ms, run, kind, body, previous, hash FROM {} {of} ORDER BY seq",
        names.table("events")
    );
    rows(connection, sql).await?.iter().map(record).collect()
}

fn record(row: &PgRow) -> Result<EventRecord> {
    let body: String = get(row, 4)?;
    Ok(EventRecord {
        seq: u64::try_from(get::<i64>(row, 0)?).unwrap_or_default(),
        at: moment(get(row, 1)?)?,
        run: RunId::parse(&get::<String>(row, 2)?)?,
        kind: get(row, 3)?,
        body: serde_json::from_str(&body).map_err(|error| broken("an event's body", error))?,
        previous: get(row, 5)?,
        hash: get(row, 6)?,
    })
}
