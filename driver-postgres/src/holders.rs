//! Who holds a table, or an index on it, against a lock that is about to be asked for.

use std::time::Duration;

use replank_core::Result;
use replank_core::driver::Holder;

use crate::connect::Conn;
use crate::sql::{get, rows};

/// Transactions older than `age` that hold a lock on a table which keeps an exclusive lock waiting. Asked before the
/// lock is queued for: whoever comes later would wait behind us. Those whose age the login may not see are not among
/// them; then the budget alone bounds the wait. Of the server's own vacuums there are those that give way to nobody.
pub async fn old_holders(connection: &mut Conn, table: i64, age: Duration) -> Result<Vec<Holder>> {
    holding(connection, &[table], age, "").await
}

/// The same of several tables.
pub async fn old_holders_of_any(connection: &mut Conn, tables: &[i64], age: Duration) -> Result<Vec<Holder>> {
    holding(connection, tables, age, "").await
}

/// The same, of a lock beside which others may read: those who only do are in nobody's way.
pub async fn old_writers_of_any(connection: &mut Conn, tables: &[i64], age: Duration) -> Result<Vec<Holder>> {
    holding(connection, tables, age, "AND mode NOT IN ('AccessShareLock', 'RowShareLock')").await
}

/// Sessions that have waited for an advisory lock for longer than `age`, with a snapshot: `CONCURRENTLY` waits for that
/// snapshot. Where the lock's holder waits for us, nobody ever goes on, and the server does not see it.
pub async fn lock_waiters(connection: &mut Conn, age: Duration) -> Result<Vec<Holder>> {
    let sql = format!(
        "SELECT w.pid::text, 'session ' || coalesce(array_to_string(pg_blocking_pids(w.pid), ', '), '?')
         FROM pg_locks w JOIN pg_stat_activity a ON a.pid = w.pid
         WHERE w.locktype = 'advisory' AND NOT w.granted AND a.backend_xmin IS NOT NULL
         AND w.database = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND clock_timestamp() - w.waitstart > interval '{} milliseconds' ORDER BY w.waitstart",
        age.as_millis()
    );
    let found = rows(connection, sql).await?;
    found.iter().map(|row| Ok(Holder { id: get(row, 0)?, about: get(row, 1)? })).collect()
}

async fn holding(connection: &mut Conn, tables: &[i64], age: Duration, which: &str) -> Result<Vec<Holder>> {
    let tables = tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT l.pid::text,
                coalesce(a.usename::text, '?') || ', ' || coalesce(a.state, '?') || ', for '
                || coalesce(floor(extract(epoch FROM clock_timestamp() - a.xact_start))::text || ' s', '?') || ': '
                || coalesce(left(a.query, 80), '?')
         FROM (SELECT DISTINCT pid FROM pg_locks
               WHERE locktype = 'relation' AND relation IN ({tables}) AND granted {which} AND pid <> pg_backend_pid()
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS l
         JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE clock_timestamp() - a.xact_start > interval '{} milliseconds'
         AND (coalesce(a.backend_type, '') <> 'autovacuum worker' OR a.query LIKE '%(to prevent wraparound)')
         UNION ALL
         SELECT 'prepared ' || p.gid, p.owner || ', prepared ' || p.prepared::text
         FROM pg_locks l JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
         WHERE l.locktype = 'transactionid' AND l.pid IS NULL
         AND EXISTS (SELECT 1 FROM pg_locks r WHERE r.virtualtransaction = l.virtualtransaction
                     AND r.locktype = 'relation' AND r.relation IN ({tables}) AND r.granted)
         ORDER BY 1",
        age.as_millis()
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok(Holder { id: get(row, 0)?, about: get(row, 1)? }))
        .collect()
}
