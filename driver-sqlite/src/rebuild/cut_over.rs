//! The lock and what happens under it: one transaction, from the lock to the new names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{Applied, Compared, CutOver, Holder, Owner, Revision, SwapGuard, SwapOutcome};
use replank_core::run::{Direction, Run};
use replank_core::value::{Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::{Core, Handle, apply, compare, exists, feed, parked, prepare, swap};
use crate::connect::begin_within;
use crate::definition::{self, Live, Shape};
use crate::error::{from_sqlx, leaves_commit_unknown};
use crate::spec::opposite;
use crate::sql::{query, run};
use crate::state::{ObjectRole, check_token, is_made, save_run};

#[async_trait]
impl CutOver for Handle {
    async fn holders(&self, _budget: Duration) -> Result<Vec<Holder>> {
        // SQLite keeps no list of who holds a lock. Readers are in nobody's way in WAL mode, and a writer
        // is found by trying: the lock polls for its budget, and nobody queues behind it meanwhile.
        Ok(Vec::new())
    }

    async fn lock(&self, budget: Duration) -> Result<Box<dyn SwapGuard>> {
        let core = Arc::clone(&self.core);
        // Opened first, so that the hold is only the hold.
        let mut connection = core.database.lock_connection(budget).await?;
        begin_within(&mut connection, budget).await?;
        check_token(&mut connection, &core.names, &core.job.table, core.fence()).await?;
        core.check_written(&mut connection).await?;
        definition::check(&mut connection, &core.names, &core.objects).await?;
        feed::check_capture(&mut connection, &core).await?;
        Ok(Box::new(Guard { core, connection, stage: Stage::Locked, installed: false }))
    }

    async fn owner(&self) -> Result<Owner> {
        let mut connection = self.core.database.fresh_reader().await?;
        run(&mut connection, "BEGIN").await?;
        let owner = owner(&mut connection, &self.core).await?;
        connection.close().await.map_err(from_sqlx)?;
        Ok(owner)
    }
}

/// SQLite gives a table no identity that outlives a rename or a VACUUM. What tells the two apart is a
/// record that the swap's own transaction writes: it is there if and only if the names were swapped. It is
/// believed only where the catalogue bears it out in every part: the live table's definition, its indexes
/// and triggers included, is the one that the record names, and the other table stands aside under its own
/// name with the role that it must then have.
async fn owner(connection: &mut SqliteConnection, core: &Core) -> Result<Owner> {
    if !is_made(connection, &core.names).await? {
        return Ok(Owner::Unknown);
    }
    let Some((name, live)) = Live::load(connection, &core.objects).await? else { return Ok(Owner::Unknown) };
    let present = definition::read(connection, &name, &core.names).await?;
    if name != core.source() || present != live.definition {
        return Ok(Owner::Unknown);
    }
    let (other, gone) = match live.shape {
        Shape::Old => (ObjectRole::Shadow, ObjectRole::Retired),
        Shape::New => (ObjectRole::Retired, ObjectRole::Shadow),
    };
    // After `discard` neither is registered, and the record stands alone.
    if let Some(aside) = core.objects.one(connection, other).await?
        && !exists(connection, "table", &aside.name).await?
    {
        return Ok(Owner::Unknown);
    }
    if core.objects.one(connection, gone).await?.is_some() {
        return Ok(Owner::Unknown);
    }
    let is_original = match core.job.direction {
        Direction::Forward => live.shape == Shape::Old,
        Direction::Reverse => live.shape == Shape::New,
    };
    Ok(if is_original { Owner::Original } else { Owner::Shadow })
}

/// How far a guard has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Locked,
    /// Committed, or rolled back: the lock is gone.
    Over,
}

/// The write lock. Dropping it closes the connection, which rolls back.
struct Guard {
    core: Arc<Core>,
    connection: SqliteConnection,
    stage: Stage,
    installed: bool,
}

impl Guard {
    fn still_locked(&self) -> Result<()> {
        match self.stage {
            Stage::Locked => Ok(()),
            Stage::Over => Err(Error::new(ErrorKind::Internal, "the lock was given back already")),
        }
    }

    async fn roll_back(&mut self) {
        self.stage = Stage::Over;
        if let Err(error) = run(&mut self.connection, "ROLLBACK").await {
            // SQLite rolled back by itself, or closing the connection will.
            tracing::debug!(%error, "a rollback had nothing to do");
        }
    }
}

#[async_trait]
impl SwapGuard for Guard {
    async fn head(&mut self) -> Result<Position> {
        self.still_locked()?;
        let log = feed::log(&mut self.connection, &self.core).await?;
        Ok(Position(feed::newest(&mut self.connection, &log).await?.to_string()))
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Applied> {
        self.still_locked()?;
        apply::apply(&mut self.connection, &self.core, changes).await
    }

    async fn compare_keys(&mut self, keys: &[Key]) -> Result<Compared> {
        self.still_locked()?;
        compare::keys(&mut self.connection, &self.core, keys).await
    }

    async fn install_reverse(&mut self) -> Result<Position> {
        self.still_locked()?;
        let direction = opposite(self.core.job.direction);
        let log = prepare::make_log(&self.core, &mut self.connection, direction).await?;
        parked::make(&self.core, &mut self.connection, direction).await?;
        // The triggers are made when the table has its new name. Nobody writes before that.
        self.installed = true;
        Ok(Position(feed::newest(&mut self.connection, &log).await?.to_string()))
    }

    async fn save(&mut self, run: &Run, expected: Revision) -> Result<Revision> {
        self.still_locked()?;
        save_run(&mut self.connection, &self.core.names, run, expected, self.core.fence()).await
    }

    async fn commit(&mut self) -> SwapOutcome {
        if let Err(error) = self.still_locked() {
            return SwapOutcome::NotDone(error);
        }
        if let Err(error) = swap::swap(&mut self.connection, &self.core, self.installed).await {
            self.roll_back().await;
            return SwapOutcome::NotDone(error);
        }
        match query("COMMIT").execute(&mut self.connection).await {
            Ok(_) => {
                self.stage = Stage::Over;
                SwapOutcome::Done
            }
            Err(error) if leaves_commit_unknown(&error) => {
                self.stage = Stage::Over;
                SwapOutcome::Unknown(from_sqlx(error))
            }
            Err(error) => {
                self.roll_back().await;
                SwapOutcome::NotDone(from_sqlx(error))
            }
        }
    }

    async fn release(mut self: Box<Self>) -> Result<()> {
        if self.stage == Stage::Locked {
            self.roll_back().await;
        }
        self.connection.close().await.map_err(from_sqlx)
    }
}
