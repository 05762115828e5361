//! The lock and what happens under it: `LOCK TABLES` on one session, which also drains, compares and renames.
//!
//! `RENAME TABLE` under `LOCK TABLES` is allowed from MySQL 8.0.13 on. Writers wait in the lock's queue and
//! find the new table under the old name.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use replank_core::driver::{Applied, Compared, CutOver, Holder, Owner, Revision, SwapGuard, SwapOutcome};
use replank_core::ident::helper_name;
use replank_core::run::{Direction, Run};
use replank_core::value::{Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::compare::{SOURCE_ALIASES, WRITTEN_ALIASES};
use super::{Core, Handle, apply, compare, identity};
use crate::error::{code, codes, from_mysql};
use crate::feed;
use crate::holders::holders;
use crate::sql::{end, ident, number, run, table, text};
use crate::state::{ObjectRole, check_token, save_run};

/// So long a quiet moment is looked for, this often. Four writers with transactions of some milliseconds leave
/// one every few tens of milliseconds; fifty leave none. Chosen.
const QUIET_WAIT: Duration = Duration::from_secs(1);
const QUIET_PAUSE: Duration = Duration::from_millis(1);

/// The server ends a session that says nothing for so long, and with it the lock: a runner that is stopped
/// under it keeps writers out no longer. The server counts in whole seconds.
const SILENCE_SECONDS: u64 = 1;
/// A killed session rolls back what it did under the lock: some keys. What takes longer is left to the server.
const END_WAIT: Duration = Duration::from_secs(10);

#[async_trait]
impl CutOver for Handle {
    async fn holders(&self, budget: Duration) -> Result<Vec<Holder>> {
        let mut connection = self.core.server.take().await?;
        let table = &self.core.job.table.name;
        let holders = holders(&mut connection, self.core.schema(), table, budget).await?;
        self.core.server.keep(connection);
        Ok(holders)
    }

    async fn lock(&self, budget: Duration) -> Result<Box<dyn SwapGuard>> {
        lock(&self.core, budget).await
    }

    async fn owner(&self) -> Result<Owner> {
        // Not one that may have been opened before a failover.
        let mut connection = self.core.server.connect().await?;
        owner(&mut connection, &self.core).await
    }
}

async fn lock(core: &Arc<Core>, budget: Duration) -> Result<Box<dyn SwapGuard>> {
    let mut aside = core.server.take().await?;
    check_token(&mut aside, &core.names, &core.job.table, core.fence()).await?;
    let mut connection = core.server.connect().await?;
    // COMMIT keeps the table locks only if the transaction did not begin with START TRANSACTION:
    // https://dev.mysql.com/doc/refman/9.7/en/lock-tables.html
    run(
        &mut connection,
        format!("SET SESSION autocommit = 0, lock_wait_timeout = 1, wait_timeout = {SILENCE_SECONDS}"),
    )
    .await?;
    lock_within(&mut connection, &mut aside, core, budget).await?;
    // From here on every wait of others is ours: nothing that can be done before is done here.
    check_token(&mut aside, &core.names, &core.job.table, core.fence()).await?;
    core.check_definition(&mut connection).await?;
    Ok(Box::new(Guard { core: Arc::clone(core), connection, aside, is_working: false, is_registered: false }))
}

/// Asks for the lock in a moment in which nobody holds the table, if there is one soon: whoever has read it and
/// then writes it while a lock waits is told of a deadlock, since MySQL lets the lock win.
async fn lock_within(connection: &mut Conn, aside: &mut Conn, core: &Core, budget: Duration) -> Result<()> {
    // In one packet, so that little can happen between the question and the lock.
    let when_quiet = format!("{}; {}", question(core), lock_statement(core)?);
    let until = Instant::now() + QUIET_WAIT;
    while Instant::now() < until {
        if ask(connection, aside, core, &when_quiet, budget).await? == Asked::Locked {
            return Ok(());
        }
        sleep(QUIET_PAUSE).await;
    }
    // It never is quiet here: then in the queue, behind those who are at it.
    ask(connection, aside, core, &lock_statement(core)?, budget).await.map(drop)
}

/// A query that fails with [`codes::SEVERAL_ROWS`] while somebody holds the table.
fn question(core: &Core) -> String {
    format!(
        "SELECT IF((SELECT COUNT(*) FROM performance_schema.metadata_locks
                    WHERE object_type = 'TABLE' AND object_schema = {} AND object_name = {}
                    AND lock_status = 'GRANTED' AND owner_thread_id <> PS_CURRENT_THREAD_ID()) = 0,
                   1, (SELECT 1 UNION SELECT 2))",
        text(core.schema()),
        text(&core.job.table.name)
    )
}

/// How a request for the lock ended, if it did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Locked,
    /// Somebody holds the table; the lock was not asked for.
    Busy,
}

/// MySQL's own timeout has a floor of a second, so another session ends the wait at the budget. The answer to
/// the kill is waited for before this session says anything more: it cannot hit a later statement.
async fn ask(
    connection: &mut Conn,
    aside: &mut Conn,
    core: &Core,
    sql: &str,
    budget: Duration,
) -> Result<Asked> {
    let id = connection.id();
    let locking = connection.query_drop(sql);
    tokio::pin!(locking);
    match timeout(budget, &mut locking).await {
        Ok(Ok(())) => return Ok(Asked::Locked),
        Ok(Err(error)) if code(&error) == Some(codes::SEVERAL_ROWS) => return Ok(Asked::Busy),
        Ok(Err(error)) => return Err(from_mysql(error)),
        Err(_elapsed) => {}
    }
    let killed = run(aside, format!("KILL QUERY {id}")).await;
    // Where the kill was refused, the server's own second ends the wait.
    let locked = locking.await.map_err(from_mysql);
    killed?;
    match locked {
        Err(error) if error.kind() != ErrorKind::LockTimeout => Err(error),
        // Granted in the last moment: too late all the same, and released by closing the session.
        _ => Err(Error::new(
            ErrorKind::LockTimeout,
            format!("the lock on `{}` was not granted within {} ms", core.job.table, budget.as_millis()),
        )),
    }
}

fn lock_statement(core: &Core) -> Result<String> {
    let mut locks = vec![format!("{} WRITE", core.source()), format!("{} WRITE", core.written())];
    let aliased = |name: String, alias: &str| format!("{name} AS {} WRITE", ident(alias));
    locks.extend(SOURCE_ALIASES.iter().map(|alias| aliased(core.source(), alias)));
    if core.parks()? {
        locks.push(format!("{} WRITE", core.parked()));
        locks.extend(["p", "p2"].iter().map(|alias| aliased(core.parked(), alias)));
    }
    locks.extend(WRITTEN_ALIASES.iter().map(|alias| aliased(core.written(), alias)));
    Ok(format!("LOCK TABLES {}", locks.join(", ")))
}

/// By identity: the server's number of the live table is the original's, or the shadow's.
async fn owner(connection: &mut Conn, core: &Core) -> Result<Owner> {
    let Some(live) = core.objects.one(connection, ObjectRole::Live).await? else { return Ok(Owner::Unknown) };
    let number = identity::read(connection, &core.spec.file).await?;
    let (Some(number), Some(original), Some(shadow)) =
        (number, live.extra["original"].as_u64(), live.extra["shadow"].as_u64())
    else {
        return Ok(Owner::Unknown);
    };
    let (first, second) = match core.job.direction {
        Direction::Forward => (original, shadow),
        Direction::Reverse => (shadow, original),
    };
    Ok(if number == first {
        Owner::Original
    } else if number == second {
        Owner::Shadow
    } else {
        Owner::Unknown
    })
}

/// Holds the lock.
struct Guard {
    core: Arc<Core>,
    connection: Conn,
    /// For what the lock does not shut others out of.
    aside: Conn,
    /// A statement is on its way: true after a caller dropped a call half-way.
    is_working: bool,
    is_registered: bool,
}

impl Guard {
    fn retired_name(&self) -> String {
        helper_name(&self.core.job.run, self.core.fence(), self.core.retiring_role().0)
    }

    /// Before there is a table of that name, so that it is never without an owner.
    async fn register_retired(&mut self) -> Result<()> {
        if !self.is_registered {
            let (name, role) = (self.retired_name(), self.core.retiring_role().1);
            self.core.objects.put(&mut self.aside, role, &name, &json!({})).await?;
            self.is_registered = true;
        }
        Ok(())
    }

    /// The counter must not go back: a number that was given once is not given again.
    async fn carry_counter(&mut self) -> Result<()> {
        let core = &self.core;
        if core.spec.written(core.job.direction).auto_increment.is_none() {
            return Ok(());
        }
        let counter = |schema: &str, name: &str| {
            format!(
                "SELECT auto_increment FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
                text(schema),
                text(name)
            )
        };
        let live = number(&mut self.connection, counter(core.schema(), &core.job.table.name)).await?;
        let written = counter(core.written_home(), &core.written_name());
        let written = number(&mut self.connection, written).await?;
        if live > written {
            run(&mut self.connection, format!("ALTER TABLE {} AUTO_INCREMENT = {live}", core.written()))
                .await?;
        }
        Ok(())
    }

    /// Sends the rename.
    async fn swap(&mut self) -> SwapOutcome {
        if let Err(error) = self.register_retired().await {
            return SwapOutcome::NotDone(error);
        }
        if let Err(error) = self.carry_counter().await {
            // Without the session the lock is gone, and no swap was sent: another attempt may go better.
            let kind =
                if error.kind() == ErrorKind::ConnectionLost { ErrorKind::Retry } else { error.kind() };
            return SwapOutcome::NotDone(Error::new(kind, error.to_string()).caused_by(error));
        }
        let core = Arc::clone(&self.core);
        let sql = format!(
            "RENAME TABLE {} TO {}, {} TO {}",
            core.source(),
            table(core.home(core.retiring_role().1), &self.retired_name()),
            core.written(),
            core.source()
        );
        match run(&mut self.connection, sql).await {
            Ok(_) => SwapOutcome::Done,
            Err(error) if error.kind() == ErrorKind::ConnectionLost => SwapOutcome::Unknown(error),
            Err(error) => SwapOutcome::NotDone(error),
        }
    }
}

/// Notes in `is_working` that a statement is on its way, until its answer is in.
async fn noted<T>(is_working: &mut bool, call: impl Future<Output = T>) -> T {
    *is_working = true;
    let answer = call.await;
    *is_working = false;
    answer
}

#[async_trait]
impl SwapGuard for Guard {
    async fn head(&mut self) -> Result<Position> {
        noted(&mut self.is_working, feed::head(&mut self.aside)).await
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Applied> {
        let Self { core, connection, .. } = self;
        let applying = async {
            let applied = apply::apply(connection, core, changes).await?;
            run(connection, "COMMIT").await?;
            Ok(applied)
        };
        noted(&mut self.is_working, applying).await
    }

    async fn compare_keys(&mut self, keys: &[Key]) -> Result<Compared> {
        noted(&mut self.is_working, compare::keys(&mut self.connection, &self.core, keys)).await
    }

    async fn install_reverse(&mut self) -> Result<Position> {
        // The log takes in every write anyhow: the reverse feed is a place in it.
        self.head().await
    }

    async fn save(&mut self, run: &Run, expected: Revision) -> Result<Revision> {
        self.is_working = true;
        self.register_retired().await?;
        let fence = self.core.fence();
        let saved = save_run(&mut self.aside, &self.core.names, run, expected, fence).await;
        self.is_working = false;
        saved
    }

    async fn commit(&mut self) -> SwapOutcome {
        self.is_working = true;
        let outcome = self.swap().await;
        self.is_working = false;
        outcome
    }

    async fn release(self: Box<Self>) -> Result<()> {
        let Self { mut connection, aside, core, is_working, .. } = *self;
        if is_working {
            // UNLOCK TABLES would wait for the end of whatever was dropped half-way.
            return end_session(&core, &connection).await;
        }
        match run(&mut connection, "UNLOCK TABLES").await {
            // A session that is gone holds nothing.
            Err(error) if error.kind() != ErrorKind::ConnectionLost => return Err(error),
            _ => {}
        }
        core.server.keep(aside);
        if let Err(error) = connection.disconnect().await {
            tracing::debug!(%error, "the lock's session did not end politely");
        }
        Ok(())
    }
}

/// Ends a session in the middle of its statement, and returns when the server has let go of its locks.
async fn end_session(core: &Core, session: &Conn) -> Result<()> {
    let mut connection = core.server.connect().await?;
    let id = session.id();
    end(&mut connection, "KILL", id).await?;
    let until = Instant::now() + END_WAIT;
    let there = format!("SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_id = {id}");
    while number(&mut connection, there.as_str()).await? > 0 && Instant::now() < until {
        sleep(QUIET_PAUSE).await;
    }
    core.server.keep(connection);
    Ok(())
}
