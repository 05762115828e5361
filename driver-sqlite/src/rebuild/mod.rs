//! The shadow rebuild: everything that happens to the table that is not live.

mod apply;
mod compare;
mod copy;
mod cut_over;
mod discard;
mod feed;
mod fence;
mod insert;
mod parked;
mod prepare;
mod range;
mod swap;

pub use compare::{grouped, mapped};
pub use prepare::columns as column_lines;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{
    Applied, ChangeFeed, Compared, Copied, CutOver, Effort, IndexBuild, Pace, Rebuild, RebuildJob, Rebuilder,
};
use replank_core::ident::{Fence, Role, helper_name};
use replank_core::run::Direction;
use replank_core::value::{Bounds, Change, Key, Lane, Position};
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use crate::connect::{Database, WriteTx};
use crate::definition;
use crate::error::from_sqlx;
use crate::key::Values;
use crate::spec::{Flow, Spec};
use crate::sql::query;
use crate::state::{Names, ObjectRole, Objects, check_token};

/// Opens rebuilds on a database.
pub struct Opener {
    database: Arc<Database>,
}

impl Opener {
    /// For a database.
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Rebuilder for Opener {
    async fn open(&self, job: &RebuildJob) -> Result<Arc<dyn Rebuild>> {
        let spec = Spec::read(&job.spec)?;
        let names = Names::new(&self.database.settings().state_name);
        let objects = Objects::new(&names, &job.run);
        let fence = AtomicU64::new(job.fence.0);
        let job = job.clone();
        Ok(Arc::new(Handle {
            core: Arc::new(Core { database: Arc::clone(&self.database), names, objects, job, spec, fence }),
        }))
    }
}

/// A rebuild as its parts see it.
pub struct Core {
    database: Arc<Database>,
    names: Names,
    objects: Objects,
    job: RebuildJob,
    spec: Spec,
    fence: AtomicU64,
}

impl Core {
    fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::SeqCst))
    }

    /// How rows flow in this direction. A change without a way back can still be made final.
    fn flow(&self) -> Result<&Flow> {
        self.spec.flow(self.job.direction)
    }

    /// The table that applications write.
    fn source(&self) -> &str {
        &self.job.table.name
    }

    /// The role of the table that is written in this direction.
    fn written_role(&self) -> (Role, ObjectRole) {
        role_of(self.job.direction)
    }

    /// The name of the table that is written in this direction, under the present token.
    fn written(&self) -> String {
        helper_name(&self.job.run, self.fence(), self.written_role().0)
    }

    fn log_role(&self) -> ObjectRole {
        log_role(self.job.direction)
    }

    /// A writing transaction under the token.
    async fn write(&self) -> Result<WriteTx<'_>> {
        let mut tx = self.database.write().await?;
        check_token(tx.connection(), &self.names, &self.job.table, self.fence()).await?;
        Ok(tx)
    }

    /// Fails with [`ErrorKind::Fenced`] when the written table does not have the name of our token: another
    /// runner renamed it, or [`Rebuild::fence`] is still to be called.
    async fn check_written(&self, connection: &mut SqliteConnection) -> Result<()> {
        let name = self.written();
        if exists(connection, "table", &name).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Fenced, format!("there is no table `{name}`"))
            .hint("another runner took over, or removed it; `replank status` shows who"))
    }

    fn decoded(&self, keys: &[Key]) -> Result<Vec<Values>> {
        let columns = self.flow()?.key.len();
        keys.iter().map(|key| Values::decode(key, columns)).collect()
    }
}

fn role_of(direction: Direction) -> (Role, ObjectRole) {
    match direction {
        Direction::Forward => (Role::Shadow, ObjectRole::Shadow),
        Direction::Reverse => (Role::Retired, ObjectRole::Retired),
    }
}

fn log_role(direction: Direction) -> ObjectRole {
    match direction {
        Direction::Forward => ObjectRole::Log,
        Direction::Reverse => ObjectRole::LogBack,
    }
}

fn capture_role(direction: Direction) -> ObjectRole {
    match direction {
        Direction::Forward => ObjectRole::Capture,
        Direction::Reverse => ObjectRole::CaptureBack,
    }
}

/// Whether there is such an object, by its exact name.
async fn exists(connection: &mut SqliteConnection, kind: &str, name: &str) -> Result<bool> {
    let found = query("SELECT 1 FROM sqlite_schema WHERE type = ? AND name = ?")
        .bind(kind.to_owned())
        .bind(name.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(from_sqlx)?;
    Ok(found.is_some())
}

/// A change of a key. There is one lane: SQLite has one writer, and only it knows which keys are equal.
fn change(values: &Values, removed: bool) -> Change {
    Change { key: values.encode(), lane: Lane(0), removed }
}

fn place(position: &Position) -> Result<i64> {
    position.0.parse().map_err(|_| {
        Error::new(ErrorKind::Internal, "a position of another driver").with("position", position)
    })
}

/// A rebuild as the engine sees it.
struct Handle {
    core: Arc<Core>,
}

#[async_trait]
impl Rebuild for Handle {
    fn pace(&self) -> Pace {
        Pace {
            // SQLite has one writer in the whole database, and one who waits for it polls with a back-off
            // of up to 100 ms. So a hold is short, and followed by a rest of equal length. Chosen.
            chunk_target: Duration::from_millis(20),
            apply_during_copy: true,
            write_percent: 50,
            copy_workers: 1,
            lanes: 1,
            // Some 15 ms of work with three indexes. Measured, see `figures` in the crate's tests.
            batch_keys: 100,
            // No index is deferred.
            apply_during_build: false,
        }
    }

    async fn prepare(&self) -> Result<()> {
        prepare::prepare(&self.core).await
    }

    async fn open_feed(&self, from: &Position) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(feed::Feed::open(Arc::clone(&self.core), from).await?))
    }

    async fn head(&self) -> Result<Position> {
        let mut tx = self.core.database.read().await?;
        let log = feed::log(tx.connection(), &self.core).await?;
        let head = feed::newest(tx.connection(), &log).await?;
        tx.end().await?;
        Ok(Position(head.to_string()))
    }

    fn reached(&self, at: &Position, goal: &Position) -> bool {
        // A position that is no number was not made here, and nothing has passed it.
        matches!((place(at), place(goal)), (Ok(at), Ok(goal)) if at >= goal)
    }

    async fn forget(&self, position: &Position) -> Result<()> {
        feed::forget(&self.core, position).await
    }

    async fn next_bound(&self, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        copy::next_bound(&self.core, after, rows).await
    }

    async fn copy(&self, bounds: &Bounds) -> Result<Copied> {
        copy::copy(&self.core, bounds).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<Applied> {
        let mut tx = self.core.write().await?;
        let applied = apply::apply(tx.connection(), &self.core, changes).await?;
        tx.commit().await?;
        Ok(applied)
    }

    async fn compare(&self, bounds: &Bounds) -> Result<Compared> {
        let mut tx = self.core.database.read().await?;
        let compared = compare::range(tx.connection(), &self.core, bounds).await?;
        tx.end().await?;
        Ok(compared)
    }

    async fn compare_keys(&self, keys: &[Key]) -> Result<Compared> {
        let mut tx = self.core.database.read().await?;
        let compared = compare::keys(tx.connection(), &self.core, keys).await?;
        tx.end().await?;
        Ok(compared)
    }

    async fn deferred_indexes(&self) -> Result<Vec<String>> {
        // None, ever: building an index holds the only write lock from its first row to its last, for
        // minutes on a large table. The shadow has all its indexes while it is still empty, and they grow
        // with each chunk.
        Ok(Vec::new())
    }

    async fn build_index(&self, name: &str, _effort: Effort) -> Result<IndexBuild> {
        Err(Error::new(ErrorKind::Internal, format!("no index `{name}` was deferred")))
    }

    async fn fence(&self, to: Fence) -> Result<()> {
        fence::fence(&self.core, to).await
    }

    async fn check_source(&self) -> Result<()> {
        let mut tx = self.core.database.read().await?;
        definition::check(tx.connection(), &self.core.names, &self.core.objects).await?;
        feed::check_capture(tx.connection(), &self.core).await?;
        tx.end().await
    }

    async fn collisions(&self, keys: &[Key]) -> Result<Vec<String>> {
        let mut tx = self.core.database.read().await?;
        let found = compare::collisions(tx.connection(), &self.core, keys).await?;
        tx.end().await?;
        Ok(found)
    }

    async fn discard(&self) -> Result<()> {
        discard::discard(&self.core).await
    }

    fn cut_over(&self) -> &dyn CutOver {
        self
    }
}
