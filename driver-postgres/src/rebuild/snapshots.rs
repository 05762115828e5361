//! Snapshots that are older than the last change to the shadow.
//!
//! A transaction that keeps one snapshot to its end would find in the new table what its snapshot sees there, and that is
//! not what was in the old one: rows that were brought over later are absent. So the swap waits for such snapshots to end.
//! The server's own rewrites do not: <https://www.postgresql.org/docs/current/mvcc-caveats.html>.

use std::collections::BTreeMap;
use std::time::Duration;

use replank_core::driver::Holder;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::connect::Conn;
use crate::sql::{first, get, rows};

/// A look costs less than a millisecond.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until no session has a snapshot from before this call, but for those that wait for `locker`: they have looked up
/// a table, and take the snapshot that they read with when they get it. One that keeps its snapshot all the same is told
/// to begin again when it writes: see [`crate::capture`].
///
/// # Errors
/// [`ErrorKind::LockTimeout`] at the deadline, naming who has one.
pub async fn wait_for_older(connection: &mut Conn, locker: i32, deadline: Instant) -> Result<()> {
    let since: f64 = match first(connection, "SELECT extract(epoch FROM clock_timestamp())::float8").await? {
        Some(row) => get(&row, 0)?,
        None => return Err(Error::new(ErrorKind::Internal, "the server tells no time")),
    };
    let mut old: Option<BTreeMap<String, Holder>> = None;
    loop {
        let now = holders(connection, locker, &format!("to_timestamp({since:.6})")).await?;
        // Whoever had none at one look, or another transaction, has none from before.
        let left = match old {
            None => now,
            Some(old) => now.into_iter().filter(|(known, _)| old.contains_key(known)).collect(),
        };
        let Some(one) = left.values().next() else { return Ok(()) };
        if Instant::now() + PAUSE >= deadline {
            return Err(Error::new(
                ErrorKind::LockTimeout,
                format!(
                    "session {} has a snapshot from before the last change was brought over: {}",
                    one.id, one.about
                ),
            ));
        }
        old = Some(left);
        sleep(PAUSE).await;
    }
}

/// Transactions older than `age` that have a snapshot: the swap would wait for them in vain.
pub async fn older_than(connection: &mut Conn, age: Duration) -> Result<Vec<Holder>> {
    let before = format!("clock_timestamp() - interval '{} milliseconds'", age.as_millis());
    Ok(holders(connection, 0, &before).await?.into_values().collect())
}

/// The same but for one session, which is not asked whom it waits for: whoever waits for it may have a snapshot as well.
pub async fn older_than_beside(connection: &mut Conn, own: i32, age: Duration) -> Result<Vec<Holder>> {
    let own = own.to_string();
    let all = older_than(connection, age).await?;
    Ok(all.into_iter().filter(|holder| holder.id != own).collect())
}

async fn holders(connection: &mut Conn, locker: i32, before: &str) -> Result<BTreeMap<String, Holder>> {
    let sql = format!(
        "SELECT a.pid::text, a.pid::text || ' ' || coalesce(a.xact_start::text, ''),
                coalesce(a.usename::text, '?') || ', ' || coalesce(a.state, '?') || ', for '
                || coalesce(floor(extract(epoch FROM clock_timestamp() - a.xact_start))::text, '?') || ' s: '
                || coalesce(left(a.query, 80), '?')
         FROM pg_stat_activity a
         WHERE a.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND a.pid NOT IN (pg_backend_pid(), {locker}) AND a.backend_xmin IS NOT NULL
         AND coalesce(a.xact_start, '-infinity') < {before}
         AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'autovacuum launcher', 'REPACK decoding worker')
         -- One that copies a table for a subscriber reads it by its name, with a snapshot of its own.
         AND NOT EXISTS (SELECT FROM pg_stat_replication r WHERE r.pid = a.pid AND r.state IN ('catchup', 'streaming', 'backup'))
         AND NOT (a.wait_event_type IS NOT DISTINCT FROM 'Lock' AND {locker} = ANY (pg_blocking_pids(a.pid)))"
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok((get(row, 1)?, Holder { id: get(row, 0)?, about: get(row, 2)? })))
        .collect()
}
