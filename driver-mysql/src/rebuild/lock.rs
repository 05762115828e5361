//! Asking for the lock: in a moment in which nobody holds the table, if there is one soon. Whoever has read it and
//! then writes it while a lock waits is told of a deadlock, since the server lets the lock win.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, timeout};

use super::Core;
use super::compare::{SOURCE_ALIASES, WRITTEN_ALIASES};
use crate::connect::{Conn, Product};
use crate::error::{code, codes, from_mysql};
use crate::holders::{are_visible, old_transactions};
use crate::sql::{ident, run, table, text};

/// So long a quiet moment is looked for, this often. Four writers with transactions of some milliseconds leave
/// one every few tens of milliseconds; fifty leave none. Chosen.
const QUIET_WAIT: Duration = Duration::from_secs(1);
const QUIET_PAUSE: Duration = Duration::from_millis(1);

/// The tables of a lock.
pub struct Locks {
    /// Each quoted, with an alias if need be.
    locked: Vec<String>,
    /// Those that others use: databases and names.
    of_others: Vec<(String, String)>,
}

impl Locks {
    /// Of a swap: both tables under every name that our statements use, the sentry where there is one, and the tables
    /// that foreign keys join with them.
    pub fn for_swap(core: &Core, sentry: Option<&str>, joined: &[(String, String)]) -> Result<Self> {
        let mut all = vec![core.source(), core.written()];
        let aliased = |name: String, alias: &str| format!("{name} AS {}", ident(alias));
        all.extend(SOURCE_ALIASES.iter().map(|alias| aliased(core.source(), alias)));
        if core.parks()? {
            all.push(core.parked());
            all.extend(["p", "p2"].iter().map(|alias| aliased(core.parked(), alias)));
        }
        all.extend(WRITTEN_ALIASES.iter().map(|alias| aliased(core.written(), alias)));
        all.extend(sentry.map(|name| table(core.schema(), name)));
        Ok(Self::with(core, all, joined))
    }

    /// Of foreign keys and triggers that move without a swap.
    pub fn for_mending(core: &Core, other: Option<&(String, String)>, joined: &[(String, String)]) -> Self {
        let mut all = vec![core.source()];
        all.extend(other.map(|(schema, name)| table(schema, name)));
        Self::with(core, all, joined)
    }

    fn with(core: &Core, mut locked: Vec<String>, joined: &[(String, String)]) -> Self {
        locked.extend(joined.iter().map(|(schema, name)| table(schema, name)));
        let mut of_others = vec![(core.schema().to_owned(), core.job.table.name.clone())];
        of_others.extend_from_slice(joined);
        Self { locked, of_others }
    }

    fn statement(&self) -> String {
        let all: Vec<String> = self.locked.iter().map(|name| format!("{name} WRITE")).collect();
        format!("LOCK TABLES {}", all.join(", "))
    }
}

/// Takes the lock.
///
/// # Errors
/// [`ErrorKind::LockTimeout`] when it is not granted within the budget.
pub async fn lock_within(
    connection: &mut Conn,
    aside: &mut Conn,
    core: &Core,
    locks: &Locks,
    budget: Duration,
) -> Result<()> {
    let lock = locks.statement();
    let when_quiet = match connection.product() {
        // In one packet, so that little can happen between the question and the lock.
        Product::MySql => format!("{}; {lock}", question(locks)),
        Product::MariaDb => format!("{lock} NOWAIT"),
    };
    let until = Instant::now() + QUIET_WAIT;
    while Instant::now() < until {
        match ask(connection, aside, core, &when_quiet, budget).await? {
            Asked::Locked => return Ok(()),
            Asked::Busy => sleep(QUIET_PAUSE).await,
        }
    }
    if connection.is_mariadb() && !are_visible(aside).await? {
        let old = old_transactions(aside).await?;
        if !old.is_empty() {
            let old: Vec<String> = old.iter().map(|it| format!("{} ({})", it.id, it.about)).collect();
            return Err(timed_out(core, budget)
                .with("transactions that may hold it", old.join("; "))
                .hint("nobody waits behind them: end them, or wait"));
        }
    }
    // It never is quiet here: then in the queue, behind those who are at it.
    match ask(connection, aside, core, &lock, budget).await? {
        Asked::Locked => Ok(()),
        Asked::Busy => Err(timed_out(core, budget)),
    }
}

fn timed_out(core: &Core, budget: Duration) -> Error {
    Error::new(
        ErrorKind::LockTimeout,
        format!("the lock on `{}` was not granted within {} ms", core.job.table, budget.as_millis()),
    )
}

/// A query that fails with [`codes::SEVERAL_ROWS`] while somebody holds one of the tables.
fn question(locks: &Locks) -> String {
    let pairs = locks.of_others.iter().map(|(schema, name)| format!("({}, {})", text(schema), text(name)));
    format!(
        "SELECT IF((SELECT COUNT(*) FROM performance_schema.metadata_locks
                    WHERE object_type = 'TABLE' AND (object_schema, object_name) IN ({})
                    AND lock_status = 'GRANTED' AND owner_thread_id <> PS_CURRENT_THREAD_ID()) = 0,
                   1, (SELECT 1 UNION SELECT 2))",
        pairs.collect::<Vec<_>>().join(", ")
    )
}

/// How a request for the lock ended, if it did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Locked,
    /// Somebody holds the table; nobody has waited, or for no longer than the server's own second.
    Busy,
}

/// The server's own timeout has a floor of a second, so another session ends the wait at the budget. The answer to
/// the kill is waited for before this session says anything more: it cannot hit a later statement.
async fn ask(
    connection: &mut Conn,
    aside: &mut Conn,
    core: &Core,
    sql: &str,
    budget: Duration,
) -> Result<Asked> {
    let (id, lookout) = (connection.id(), connection.lookout());
    let locking = lookout.answer(connection.query_drop(sql));
    tokio::pin!(locking);
    match timeout(budget, &mut locking).await {
        Ok(Ok(())) => return Ok(Asked::Locked),
        Ok(Err(error)) if matches!(code(&error), Some(codes::SEVERAL_ROWS | codes::LOCK_TIMEOUT)) => {
            return Ok(Asked::Busy);
        }
        Ok(Err(error)) => return Err(from_mysql(error)),
        Err(_elapsed) => {}
    }
    let killed = run(aside, format!("KILL QUERY {id}")).await;
    // Where the kill was refused, the server's own second ends the wait.
    let locked = locking.await;
    killed?;
    if let Err(error) = &locked
        && code(error) == Some(codes::SEVERAL_ROWS)
    {
        // The question itself took that long, and was answered before the kill.
        return Ok(Asked::Busy);
    }
    match locked.map_err(from_mysql) {
        Err(error) if error.kind() != ErrorKind::LockTimeout => Err(error),
        // Granted in the last moment: too late all the same, and released by closing the session.
        _ => Err(timed_out(core, budget)),
    }
}
