//! The shadow rebuild: everything that happens to the table that is not live.

mod apply;
mod chunks;
mod compare;
mod copy;
mod cut_over;
mod discard;
mod feed;
mod fence;
mod index;
pub mod lasting;
mod long;
mod matview_filling;
mod matview_making;
mod matviews;
mod parked;
mod parts;
mod polite;
mod prepare;
mod range;
mod readiness;
mod slot;
mod snapshot;
mod snapshots;
mod spool;
mod swap;

pub use compare::{grouped, with_computed};
pub use matview_making::reads_the_same;
pub use matviews::other_columns;
pub use prepare::{closing, not_nulls};
pub use snapshots::older_than_beside as older_snapshots;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{
    Applied, ChangeFeed, Compared, Copied, CutOver, Effort, IndexBuild, Pace, Rebuild, RebuildJob, Rebuilder,
};
use replank_core::ident::{Fence, Role, helper_name, stable_hash};
use replank_core::run::Direction;
use replank_core::value::{Bounds, Change, Key, Lane, Position};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::definition::Index;
use crate::spec::{Flow, Spec};
use crate::sql::{first, get, number, table, text};
use crate::state::{Names, ObjectRole, Objects, check_token};
use snapshot::Snapshot;
use tokio::sync::Mutex;

/// Changes of different rows are applied side by side; more sessions than this only wait for each other. Chosen.
const LANES: u16 = 4;

/// Opens rebuilds on a server.
pub struct Opener {
    server: Arc<Server>,
}

impl Opener {
    /// For a server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Rebuilder for Opener {
    async fn open(&self, job: &RebuildJob) -> Result<Arc<dyn Rebuild>> {
        let spec = Spec::read(&job.spec)?;
        let names = Names::new(&self.server.settings().state_name);
        let objects = Objects::new(&names, &job.run);
        let (fence, token) = (AtomicU64::new(job.fence.0), AtomicU64::new(job.fence.0));
        let (server, job) = (Arc::clone(&self.server), job.clone());
        let is_analyzed = AtomicBool::new(false);
        let (looked, filling) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Handle {
            core: Arc::new(Core {
                server,
                names,
                objects,
                job,
                spec,
                fence,
                token,
                is_analyzed,
                looked,
                filling,
            }),
        }))
    }
}

/// A rebuild as its parts see it.
pub struct Core {
    server: Arc<Server>,
    names: Names,
    objects: Objects,
    job: RebuildJob,
    spec: Spec,
    /// Of the names.
    fence: AtomicU64,
    /// The newest that was ours: ahead of the names while a fence is under way, or has failed.
    token: AtomicU64,
    is_analyzed: AtomicBool,
    /// Of the slot: one reads it at a time.
    looked: Mutex<spool::Looked>,
    /// What the last attempt to swap has begun, to be gone on with before the next one.
    filling: Mutex<Option<matview_filling::Filling>>,
}

impl Core {
    fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::SeqCst))
    }

    /// How rows flow in this direction. A change without a way back can still be made final.
    fn flow(&self) -> Result<&Flow> {
        self.spec.flow(self.job.direction)
    }

    /// The table that applications write, quoted.
    fn source(&self) -> String {
        table(&self.spec.schema, &self.job.table.name)
    }

    /// The role of the table that is written in this direction.
    fn written_role(&self) -> (Role, ObjectRole) {
        match self.job.direction {
            Direction::Forward => (Role::Shadow, ObjectRole::Shadow),
            Direction::Reverse => (Role::Retired, ObjectRole::Retired),
        }
    }

    /// The role that the live table has once the names are swapped.
    fn retiring_role(&self) -> (Role, ObjectRole) {
        match self.job.direction {
            Direction::Forward => (Role::Retired, ObjectRole::Retired),
            Direction::Reverse => (Role::Shadow, ObjectRole::Shadow),
        }
    }

    /// The name of a table that is not live, under the present token.
    fn name(&self, role: Role) -> String {
        helper_name(&self.job.run, self.fence(), role)
    }

    /// The name of the table that is written in this direction, under the present token.
    fn written_name(&self) -> String {
        self.name(self.written_role().0)
    }

    fn written(&self) -> String {
        table(&self.spec.schema, &self.written_name())
    }

    /// The name of an index of a table that is not live.
    fn index_name(&self, role: Role, at: usize) -> String {
        let letter = if role == Role::Shadow { 's' } else { 'r' };
        format!("_rp_{}_0_{letter}{at}", self.job.run.short())
    }

    fn source_key(&self) -> Result<Vec<&str>> {
        Ok(self.flow()?.key.iter().map(|column| column.source.as_str()).collect())
    }

    fn written_key(&self) -> Result<Vec<&str>> {
        Ok(self.flow()?.key.iter().map(|column| column.written.as_str()).collect())
    }

    fn log_role(&self) -> ObjectRole {
        log_role(self.job.direction)
    }

    fn log_name(&self, direction: Direction) -> String {
        let name = helper_name(&self.job.run, Fence(0), Role::Log);
        match direction {
            Direction::Forward => name,
            Direction::Reverse => format!("{name}_back"),
        }
    }

    /// A key that the server gave, or core brought back. Only where equal values always have one text are there several
    /// lanes (R2). Nor where rows may stand in each other's way under another index than the key's: batches would wait for
    /// each other, and the server takes a second to see it.
    fn change(&self, key: Key, removed: bool) -> Result<Change> {
        let is_exact = self.flow()?.key.iter().all(|column| column.is_exact);
        let written = self.spec.written(self.job.direction);
        let indexes = &written.definition.indexes;
        let excludes = |index: &&Index| {
            index.is_unique
                || index.constraint.as_ref().is_some_and(|constraint| constraint.starts_with("EXCLUDE"))
        };
        let is_key = !written.tells_apart_fewer(&self.flow()?.key);
        let of_parts =
            written.partitions.iter().flat_map(|part| &part.indexes).filter(|index| index.keeps_out);
        let keeping_out = indexes.iter().filter(excludes).count() + of_parts.count();
        let lane = match is_exact && is_key && keeping_out <= 1 {
            true => Lane((stable_hash(&key.0) % u64::from(LANES)) as u16),
            false => Lane(0),
        };
        Ok(Change { key, lane, removed })
    }

    /// The same for several that removed nothing.
    fn changes(&self, keys: Vec<String>) -> Result<Vec<Change>> {
        keys.into_iter().map(|key| self.change(Key(key), false)).collect()
    }

    /// The written table has an index of which ON CONFLICT knows nothing.
    fn may_defer(&self) -> bool {
        self.spec.written(self.job.direction).definition.indexes.iter().any(Index::is_deferrable)
    }

    /// What leaves out rows that another one's unique value keeps out, where the server can tell.
    fn leaving_out(&self) -> &'static str {
        if self.may_defer() { "" } else { "ON CONFLICT DO NOTHING" }
    }

    async fn check_token(&self, connection: &mut Conn) -> Result<()> {
        check_token(connection, &self.names, &self.job.table, self.fence()).await
    }

    /// A statement that did not find its table: it does not have the name of our token. Or a column.
    fn missed(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::NotFound
                if error.context().iter().any(|(name, value)| *name == "code" && value == "42P01") => {}
            ErrorKind::ForeignDdl if error.message().starts_with("postgres: ") => {
                let said = format!("somebody else changed the definition of `{}`", self.job.table);
                return Error::new(ErrorKind::ForeignDdl, said)
                    .with("the server says", error.message())
                    .caused_by(error);
            }
            _ => return error,
        }
        Error::new(ErrorKind::Fenced, format!("there is no table `{}`, or none to read", self.written_name()))
            .hint("another runner took over, or removed it; `replank status` shows who")
            .with("the server says", error.message())
            .caused_by(error)
    }
}

fn log_role(direction: Direction) -> ObjectRole {
    match direction {
        Direction::Forward => ObjectRole::Log,
        Direction::Reverse => ObjectRole::LogBack,
    }
}

/// By what number the server knows a table; `None` when it is not there.
pub async fn number_of(connection: &mut Conn, full_name: &str) -> Result<Option<i64>> {
    let sql = format!("SELECT to_regclass({})::oid::bigint", text(full_name));
    match first(connection, sql).await? {
        Some(row) => get(&row, 0),
        None => Ok(None),
    }
}

/// A rebuild as the engine sees it.
struct Handle {
    core: Arc<Core>,
}

#[async_trait]
impl Rebuild for Handle {
    fn pace(&self) -> Pace {
        Pace {
            // Nobody waits for a chunk; what it costs is what it holds of the disk and of the log at a time. Chosen.
            chunk_target: Duration::from_millis(500),
            copy_workers: 2,
            lanes: LANES,
            batch_keys: 500,
            // A build that lets writes through takes twice as long.
            apply_during_build: false,
            // Chunks go into a table without the index by which a batch finds its rows.
            apply_during_copy: false,
            write_percent: 100,
        }
    }

    /// Who writes takes a number, whatever it writes.
    async fn written(&self) -> Result<Option<u64>> {
        let mut connection = self.core.server.take().await?;
        let asked = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let count = number(&mut connection, asked).await?;
        self.core.server.keep(connection);
        Ok(u64::try_from(count).ok())
    }

    async fn prepare(&self) -> Result<()> {
        prepare::prepare(&self.core).await
    }

    async fn open_feed(&self, from: &Position) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(feed::Feed::open(Arc::clone(&self.core), from).await?))
    }

    async fn head(&self) -> Result<Position> {
        if self.core.captures_by_slot() {
            spool::drain(&self.core, spool::After::Telling).await?;
        }
        lasting::notice(&self.core).await?;
        let mut connection = self.core.server.take().await?;
        let head = feed::lasting_head(&mut connection).await?;
        self.core.server.keep(connection);
        Ok(head)
    }

    fn reached(&self, at: &Position, goal: &Position) -> bool {
        // A position that is no snapshot was not made here, and nothing has passed it.
        matches!((Snapshot::read(at), Snapshot::read(goal)), (Ok(at), Ok(goal)) if at.sees_all_of(&goal))
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
        let mut connection = self.core.server.take().await?;
        let applied = apply::apply(&mut connection, &self.core, changes).await?;
        self.core.server.keep(connection);
        Ok(applied)
    }

    async fn compare(&self, bounds: &Bounds) -> Result<Compared> {
        let mut connection = self.core.server.take().await?;
        let compared = compare::range(&mut connection, &self.core, bounds).await?;
        self.core.server.keep(connection);
        Ok(compared)
    }

    async fn compare_keys(&self, keys: &[Key]) -> Result<Compared> {
        let mut connection = self.core.server.take().await?;
        let compared = compare::keys(&mut connection, &self.core, keys).await?;
        self.core.server.keep(connection);
        Ok(compared)
    }

    async fn deferred_indexes(&self) -> Result<Vec<String>> {
        let mut connection = self.core.server.take().await?;
        let names = index::to_build(&mut connection, &self.core).await?;
        self.core.server.keep(connection);
        Ok(names)
    }

    async fn build_index(&self, name: &str, effort: Effort) -> Result<IndexBuild> {
        index::build(&self.core, name, effort).await
    }

    async fn fence(&self, to: Fence) -> Result<()> {
        fence::fence(&self.core, to).await
    }

    /// Reads the slot as well: the feed waits for the copy, and what the slot holds of the disk must not.
    async fn check_source(&self) -> Result<()> {
        if self.core.captures_by_slot() {
            spool::keep_up(&self.core).await?;
        }
        lasting::notice(&self.core).await?;
        let mut connection = self.core.server.take().await?;
        self.core.check_definition(&mut connection).await?;
        feed::check_capture(&mut connection, &self.core).await?;
        self.core.server.keep(connection);
        Ok(())
    }

    async fn collisions(&self, keys: &[Key]) -> Result<Vec<String>> {
        let mut connection = self.core.server.take().await?;
        let found = compare::collisions(&mut connection, &self.core, keys).await?;
        self.core.server.keep(connection);
        Ok(found)
    }

    async fn discard(&self) -> Result<()> {
        discard::discard(&self.core).await
    }

    fn cut_over(&self) -> &dyn CutOver {
        self
    }
}
