//! Locks on the table that applications use, outside of the swap: short, and never behind somebody who holds it for long.
//! Each attempt is one transaction, which holds the lease: whoever takes over meanwhile waits for it, or it finds that it
//! was overtaken.

use std::time::Duration;

use replank_core::journal::lease::TTL;
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use crate::connect::Conn;
use crate::holders::{old_holders_of_any, old_writers_of_any};
use crate::sql::{first, get, is_so, number, run};
use crate::state::{held, renew_lease};

/// Others wait behind a lock that waits. Chosen: as the default budget of the swap.
const WAIT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Who is not older may well be gone in time: under load somebody always is at it for longer than we let others wait.
/// Chosen.
const OLD: Duration = Duration::from_secs(1);
/// Some two minutes.
const ATTEMPTS: u32 = 30;
/// What is in the way is told at the third attempt, half a second after the first, and now and then. Chosen.
const TOLD_EVERY: u32 = 8;
const TOLD_FIRST: u32 = 3;
/// Longer than `deadlock_timeout`, after which a vacuum gives way to whoever waits for it.
const VACUUM_WAIT_MS: u32 = 1_500;

/// Which locks the statements take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Others may read.
    AmongReaders,
    /// Nobody else gets in.
    Alone,
}

/// Runs statements in one transaction that needs a lock on these tables, as often as it takes.
pub async fn politely(core: &Core, lock: Lock, tables: &[i64], statements: &[String]) -> Result<()> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        let mut connection = core.server.take().await?;
        renew_lease(&mut connection, &core.names, &core.job.table, core.fence(), TTL).await?;
        match once(&mut connection, core, lock, tables, statements).await {
            Ok(()) => {
                core.server.keep(connection);
                return Ok(());
            }
            Err(error) if is_worth_another(&error) && attempt < ATTEMPTS => {
                if attempt % TOLD_EVERY == TOLD_FIRST {
                    tracing::warn!(%error, "a short lock on the table was not to be had yet");
                }
                drop(connection);
                for table in tables {
                    send_vacuum_away(core, *table).await?;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_worth_another(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LockTimeout | ErrorKind::Retry)
}

async fn once(
    connection: &mut Conn,
    core: &Core,
    lock: Lock,
    tables: &[i64],
    statements: &[String],
) -> Result<()> {
    let holders = match lock {
        _ if tables.is_empty() => Vec::new(),
        Lock::AmongReaders => old_writers_of_any(connection, tables, OLD).await?,
        Lock::Alone => old_holders_of_any(connection, tables, OLD).await?,
    };
    if let Some(holder) = holders.first() {
        return Err(Error::new(
            ErrorKind::LockTimeout,
            format!("session {} holds the table: {}", holder.id, holder.about),
        ));
    }
    run(connection, format!("BEGIN; SET LOCAL lock_timeout = {}", WAIT.as_millis())).await?;
    let ours = format!("SELECT {}", held(&core.names, &core.job.table, core.fence()));
    if !is_so(connection, ours).await? {
        // It says by whom we were overtaken.
        core.check_token(connection).await?;
        return Err(Error::new(ErrorKind::Fenced, "the lease is another runner's"));
    }
    if let Some(locking) = locking(connection, lock, tables).await? {
        run(connection, locking).await?;
    }
    run(connection, statements.join("; ")).await?;
    run(connection, "COMMIT").await.map(drop)
}

/// Locks several tables, a partitioned one before its partitions, as applications do: whoever waits for the first waits no
/// longer than for one.
async fn locking(connection: &mut Conn, lock: Lock, tables: &[i64]) -> Result<Option<String>> {
    if tables.len() < 2 {
        return Ok(None);
    }
    let numbers: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let sql = format!(
        "SELECT string_agg(format('ONLY %I.%I', n.nspname, c.relname), ', ' ORDER BY c.relispartition, c.oid)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({})",
        numbers.join(", ")
    );
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    let mode = match lock {
        Lock::AmongReaders => "SHARE ROW EXCLUSIVE",
        Lock::Alone => "ACCESS EXCLUSIVE",
    };
    let all: Option<String> = get(&row, 0)?;
    let wait = brief(connection, WAIT).await?;
    Ok(all.map(|all| within(wait, &format!("LOCK TABLE {all} IN {mode} MODE"))))
}

/// How long several locks may be waited for: a session that holds one of them and waits for another is one of two that wait
/// for each other, and after `deadlock_timeout` the server ends either. We are gone by then, and it goes on.
pub async fn brief(connection: &mut Conn, at_most: Duration) -> Result<Duration> {
    let deadlock = "SELECT setting::bigint FROM pg_settings WHERE name = 'deadlock_timeout'";
    let deadlock = u64::try_from(number(connection, deadlock).await?).unwrap_or_default();
    Ok(at_most.min(Duration::from_millis((deadlock / 2).max(1))))
}

/// A statement that takes several locks, and all of them within this time: `lock_timeout` is for each.
pub fn within(time: Duration, lock: &str) -> String {
    format!(
        "SET LOCAL statement_timeout = {}; {lock}; SET LOCAL statement_timeout = 0",
        time.as_millis().max(1)
    )
}

/// A vacuum of the server's own gives way to a lock that has waited for longer than we let others wait. One waits in vain
/// for it instead beside which others read and write.
pub async fn send_vacuum_away(core: &Core, table: i64) -> Result<()> {
    let mut connection = core.server.take().await?;
    let at_it = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = {table}
         AND datname = current_database())"
    );
    if !is_so(&mut connection, at_it).await? {
        core.server.keep(connection);
        return Ok(());
    }
    // LOCK TABLE takes no materialized view; whoever comments on one takes the same lock.
    let locking = format!(
        "SELECT format(CASE c.relkind WHEN 'm' THEN 'COMMENT ON MATERIALIZED VIEW %s IS NULL'
                       ELSE 'LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE' END, c.oid::regclass)
         FROM pg_class c WHERE c.oid = {table}"
    );
    let Some(row) = first(&mut connection, locking).await? else { return Ok(()) };
    let lock =
        format!("BEGIN; SET LOCAL lock_timeout = {VACUUM_WAIT_MS}; {}; ROLLBACK", get::<String>(&row, 0)?);
    match run(&mut connection, lock).await {
        Ok(_) => core.server.keep(connection),
        // Against wraparound it does not go.
        Err(error) => tracing::info!(%error, "a vacuum stays"),
    }
    Ok(())
}
