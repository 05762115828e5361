//! What happens under the lock: `LOCK TABLES` on one session, which also drains, compares and, in MySQL, renames.
//!
//! `RENAME TABLE` under `LOCK TABLES` is allowed from MySQL 8.0.13 on. Writers wait in the lock's queue and
//! find the new table under the old name. For MariaDB see [`two_sessions`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{Applied, Compared, CutOver, Holder, Owner, Revision, SwapGuard, SwapOutcome};
use replank_core::run::{Direction, Run};
use replank_core::value::{Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::lock::{Locks, lock_within};
use super::moving::{self, Move, Shape};
use super::{Core, Handle, apply, compare, identity, mend, sentry, two_sessions};
use crate::attached::{Attached, inbound};
use crate::connect::Conn;
use crate::feed;
use crate::holders::holders;
use crate::sessions::{end, is_there};
use crate::sql::{number, run, table, text};
use crate::state::{ObjectRole, check_token, save_run};

/// The server ends a session that says nothing for so long, and with it the lock: a runner that is stopped
/// under it keeps writers out no longer. The server counts in whole seconds.
const SILENCE_SECONDS: u64 = 1;
/// A killed session rolls back what it did under the lock: some keys. What takes longer is left to the server, which
/// has ended it by itself by then.
const END_WAIT: Duration = Duration::from_secs(5);
/// Writers wait for the rename, for as long as a bad disk takes; a session that is silent for longer is lost.
pub const RENAME_WAIT: Duration = Duration::from_secs(10);
const END_PAUSE: Duration = Duration::from_millis(1);

#[async_trait]
impl CutOver for Handle {
    async fn holders(&self, budget: Duration) -> Result<Vec<Holder>> {
        let mut connection = self.core.server.take().await?;
        let (schema, table) = (self.core.schema(), &self.core.job.table.name);
        let mut found = holders(&mut connection, schema, table, budget).await?;
        let inbound = inbound(&mut connection, schema, table).await?;
        for (schema, name) in self.core.joined(&mut connection, &inbound).await? {
            found.extend(holders(&mut connection, &schema, &name, budget).await?);
        }
        self.core.server.keep(connection);
        Ok(found)
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

/// A session that may hold the lock.
pub async fn locking_session(core: &Core) -> Result<Conn> {
    let mut connection = core.server.connect().await?;
    // COMMIT keeps the table locks only if the transaction did not begin with START TRANSACTION:
    // https://dev.mysql.com/doc/refman/9.7/en/lock-tables.html
    let idle = if connection.is_mariadb() { ", idle_transaction_timeout = 1" } else { "" };
    let timeouts = format!("lock_wait_timeout = 1, wait_timeout = {SILENCE_SECONDS}{idle}");
    run(&mut connection, format!("SET SESSION autocommit = 0, {timeouts}")).await?;
    Ok(connection)
}

async fn lock(core: &Arc<Core>, budget: Duration) -> Result<Box<dyn SwapGuard>> {
    let mut aside = core.server.take().await?;
    check_token(&mut aside, &core.names, &core.job.table, core.fence()).await?;
    let mut connection = locking_session(core).await?;
    let is_mariadb = connection.is_mariadb();
    let attached = Attached::read(&mut aside, core.schema(), &core.job.table.name).await?;
    let joined = core.joined(&mut aside, &attached.inbound).await?;
    let following = match core.follows(&attached) {
        true => Some(Move::planned(core, &mut aside, attached.clone()).await?),
        false => None,
    };
    let retired = core.name(core.retiring_role().0);
    // Before there is a table of that name, so that it is never without an owner.
    core.objects.put(&mut aside, core.retiring_role().1, &retired, &json!({})).await?;
    let mut renamer = None;
    if is_mariadb {
        sentry::make(core, &mut aside, &retired).await?;
        let mut another = core.server.connect().await?;
        run(&mut another, "SET SESSION lock_wait_timeout = 1").await?;
        renamer = Some(another);
    }
    let in_the_way = is_mariadb.then_some(retired.as_str());
    let locks = Locks::for_swap(core, in_the_way, &joined)?;
    lock_within(&mut connection, &mut aside, core, &locks, budget).await?;
    // From here on every wait of others is ours: nothing that can be done before is done here.
    check_token(&mut aside, &core.names, &core.job.table, core.fence()).await?;
    core.check_definition(&mut connection).await?;
    if !core.is_attached(&mut connection, &attached).await? {
        return Err(Error::new(ErrorKind::Retry, "a trigger or a foreign key came or went just now"));
    }
    let core = Arc::clone(core);
    Ok(Box::new(Guard {
        core,
        connection,
        aside,
        renamer,
        retired,
        following,
        has_moved: false,
        is_working: false,
    }))
}

/// By identity: the server's number of the live table is the original's, or the shadow's. `None` where it is neither's,
/// or cannot be shown.
pub async fn live_shape(connection: &mut Conn, core: &Core) -> Result<Option<Shape>> {
    let Some(live) = core.objects.one(connection, ObjectRole::Live).await? else { return Ok(None) };
    // Each server numbers its tables by itself.
    if live.extra["server"].as_str().is_some_and(|server| server != core.server.identity()) {
        return live_shape_by_names(connection, core).await;
    }
    let number = identity::read(connection, &core.spec.file).await?;
    let (Some(number), Some(original), Some(shadow)) =
        (number, live.extra["original"].as_u64(), live.extra["shadow"].as_u64())
    else {
        return Ok(None);
    };
    let known = [(original, Shape::Old), (shadow, Shape::New)];
    Ok(known.into_iter().find(|(known, _)| *known == number).map(|(_, shape)| shape))
}

/// On a server that took over: nothing that was sent to the other one can still arrive, so the names stand still. The
/// swap takes the written table's name away, and gives the retired one its own, in one statement.
async fn live_shape_by_names(connection: &mut Conn, core: &Core) -> Result<Option<Shape>> {
    let (before, after) = core.shapes();
    for (role, shape) in [(core.written_role().1, before), (core.retiring_role().1, after)] {
        if core.standing(connection, role).await?.is_some() {
            return Ok(Some(shape));
        }
    }
    Ok(None)
}

async fn owner(connection: &mut Conn, core: &Core) -> Result<Owner> {
    let (before, _) = core.shapes();
    Ok(match live_shape(connection, core).await? {
        None => Owner::Unknown,
        Some(shape) if shape == before => Owner::Original,
        Some(_) => Owner::Shadow,
    })
}

/// Holds the lock.
struct Guard {
    core: Arc<Core>,
    connection: Conn,
    /// For what the lock does not shut others out of.
    aside: Conn,
    /// Where this session cannot rename.
    renamer: Option<Conn>,
    /// What the live table will be called.
    retired: String,
    /// What hangs on the live name, if anything has to follow it.
    following: Option<Move>,
    /// It has begun to, and is perhaps not where it shall be.
    has_moved: bool,
    /// A statement is on its way: true after a caller dropped a call half-way.
    is_working: bool,
}

impl Guard {
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
        let live = match (core.job.direction, core.spec.counter) {
            // The server sees to it that it is not below the rows that are there.
            (Direction::Forward, Some(counter)) => counter,
            _ => number(&mut self.connection, counter(core.schema(), &core.job.table.name)).await?,
        };
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
        if let Err(error) = self.carry_counter().await {
            // Without the session the lock is gone, and no swap was sent: another attempt may go better.
            let kind =
                if error.kind() == ErrorKind::ConnectionLost { ErrorKind::Retry } else { error.kind() };
            return SwapOutcome::NotDone(Error::new(kind, error.to_string()).caused_by(error));
        }
        let core = Arc::clone(&self.core);
        if let Some(following) = &self.following {
            self.has_moved = true;
            let beginning = moving::begin(&core, &mut self.connection, &mut self.aside, following);
            if let Err(error) = within_reason(beginning).await {
                return SwapOutcome::NotDone(error);
            }
        }
        let outcome = self.rename(&core).await;
        let is_done = matches!(outcome, SwapOutcome::Done);
        match self.settle(&core, is_done).await {
            Err(error) if is_done => SwapOutcome::Unknown(error),
            // The release mends it.
            Err(_) | Ok(()) => outcome,
        }
    }

    async fn rename(&mut self, core: &Core) -> SwapOutcome {
        let sql = format!(
            "RENAME TABLE {} TO {}, {} TO {}",
            core.source(),
            table(core.home(core.retiring_role().1), &self.retired),
            core.written(),
            core.source()
        );
        if let Some(renamer) = &mut self.renamer {
            let (locked, aside) = (&mut self.connection, &mut self.aside);
            return two_sessions::swap(core, locked, aside, renamer, &sql, &self.retired).await;
        }
        outcome(within_reason(run(&mut self.connection, sql)).await.map(drop))
    }

    /// The rest of what follows the name, under the lock where this session has it still.
    async fn settle(&mut self, core: &Core, is_done: bool) -> Result<()> {
        let Some(following) = &self.following else { return Ok(()) };
        if self.renamer.is_some() {
            // Everything was moved in front of the rename.
            if is_done {
                mend::mend(core).await?;
                self.has_moved = false;
            }
            return Ok(());
        }
        let (before, after) = core.shapes();
        let (shape, name) = match is_done {
            true => (after, self.retired.clone()),
            false => (before, core.written_name()),
        };
        let other = (core.home(shape.role_of_other()).to_owned(), name);
        let settling = async {
            let left = moving::steps_left(core, &mut self.connection, shape, Some(&other), following).await?;
            moving::carry_out(core, &mut self.connection, &left).await?;
            moving::forget(core, &mut self.aside).await
        };
        within_reason(settling).await?;
        self.has_moved = false;
        Ok(())
    }
}

/// What writers wait for has an end.
async fn within_reason<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(RENAME_WAIT, call).await.unwrap_or_else(|_elapsed| {
        Err(Error::new(ErrorKind::ConnectionLost, "the session that holds the lock does not answer"))
    })
}

/// How a rename ended.
pub fn outcome(renamed: Result<()>) -> SwapOutcome {
    match renamed {
        Ok(()) => SwapOutcome::Done,
        Err(error) if error.kind() == ErrorKind::ConnectionLost => SwapOutcome::Unknown(error),
        Err(error) => SwapOutcome::NotDone(error),
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
        noted(&mut self.is_working, feed::head_under_lock(&mut self.aside)).await
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
        let Self { core, aside, .. } = self;
        let saving = save_run(aside, &core.names, run, expected, core.fence());
        noted(&mut self.is_working, saving).await
    }

    async fn commit(&mut self) -> SwapOutcome {
        self.is_working = true;
        let outcome = self.swap().await;
        self.is_working = false;
        outcome
    }

    async fn release(self: Box<Self>) -> Result<()> {
        let Self { mut connection, aside, renamer, core, is_working, has_moved, .. } = *self;
        if is_working {
            if let Some(renamer) = renamer {
                // It must not be let through by the end of the lock.
                end_session(&core, &renamer).await?;
            }
            // The record of a swap that is not to be must not be saved later.
            end_session(&core, &aside).await?;
            // UNLOCK TABLES would wait for the end of whatever was dropped half-way.
            return end_session(&core, &connection).await;
        }
        match timeout(END_WAIT, run(&mut connection, "UNLOCK TABLES")).await {
            // The network does not tell what became of it.
            Err(_elapsed) => return end_session(&core, &connection).await,
            // A session that is gone holds nothing.
            Ok(Err(error)) if error.kind() != ErrorKind::ConnectionLost => return Err(error),
            _ => {}
        }
        core.server.keep(aside);
        if has_moved {
            mend::mend(&core).await?;
        }
        if let Err(error) = connection.into_inner().disconnect().await {
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
    while is_there(&mut connection, id).await? && Instant::now() < until {
        sleep(END_PAUSE).await;
    }
    core.server.keep(connection);
    Ok(())
}
