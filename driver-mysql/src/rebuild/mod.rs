//! The shadow rebuild: everything that happens to the table that is not live.

mod apply;
mod compare;
mod copy;
mod cut_over;
mod discard;
mod fence;
pub mod identity;
mod index;
mod lock;
mod mend;
mod moving;
pub mod names;
pub mod orphans;
mod parked;
mod prepare;
mod range;
mod sentry;
mod slots;
mod two_sessions;

pub use compare::grouped;
use identity::FileName;
pub use moving::MARK;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Row;
use replank_core::driver::{
    Applied, ChangeFeed, Compared, Copied, CutOver, Effort, IndexBuild, Pace, Rebuild, RebuildJob, Rebuilder,
};
use replank_core::ident::{Fence, Role, helper_name};
use replank_core::run::Direction;
use replank_core::value::{Bounds, Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Product, Server};
use crate::feed;
use crate::key::Values;
use crate::preflight;
use crate::spec::{Flow, Spec};
use crate::sql::{ident, number, run, table, text};
use crate::state::{Names, ObjectRole, Objects, check_token};

/// Changes of different rows are applied side by side; more sessions than this only wait for each other.
/// Chosen.
pub const LANES: u16 = 4;

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
        let prefix = names::prefix(self.server.product(), &job.table.name).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("no helper's name comes after `{}`", job.table.name))
        })?;
        let (fence, token) = (AtomicU64::new(job.fence.0), AtomicU64::new(job.fence.0));
        check_topology(&self.server).await?;
        let (server, job) = (Arc::clone(&self.server), job.clone());
        Ok(Arc::new(Handle {
            core: Arc::new(Core { server, names, objects, job, spec, prefix, fence, token }),
        }))
    }
}

/// It was looked at when the plan was made; since then the server may have been demoted, or another is in its place.
async fn check_topology(server: &Server) -> Result<()> {
    let mut connection = server.take().await?;
    let bad = preflight::blocking(preflight::topology(&mut connection).await?);
    server.keep(connection);
    match bad.into_iter().next() {
        None => Ok(()),
        Some(bad) => Err(Error::new(ErrorKind::Refused, bad.found).hint(bad.mend.unwrap_or_default())),
    }
}

/// A rebuild as its parts see it.
pub struct Core {
    server: Arc<Server>,
    names: Names,
    objects: Objects,
    job: RebuildJob,
    spec: Spec,
    /// What stands in front of helpers' names.
    prefix: &'static str,
    /// Of the names.
    fence: AtomicU64,
    /// The newest that was ours: ahead of the names while a fence is under way, or has failed.
    token: AtomicU64,
}

impl Core {
    fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::SeqCst))
    }

    /// How rows flow in this direction. A change without a way back can still be made final.
    fn flow(&self) -> Result<&Flow> {
        self.spec.flow(self.job.direction)
    }

    /// The database of a table that is not live.
    fn home(&self, role: ObjectRole) -> &str {
        match (&self.spec.homes, role) {
            (Some(homes), ObjectRole::Shadow) => &homes.shadow,
            (Some(homes), ObjectRole::Retired) => &homes.retired,
            _ => self.schema(),
        }
    }

    /// That of the table that is written in this direction.
    fn written_home(&self) -> &str {
        self.home(self.written_role().1)
    }

    /// The database of the live table.
    fn schema(&self) -> &str {
        &self.spec.schema
    }

    /// The table that applications write, quoted.
    fn source(&self) -> String {
        table(self.schema(), &self.job.table.name)
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

    /// The name of the table that is written in this direction, under the present token.
    fn written_name(&self) -> String {
        self.name(self.written_role().0)
    }

    /// The name of a table that is not live, under the present token.
    fn name(&self, role: Role) -> String {
        self.name_under(self.fence(), role)
    }

    fn name_under(&self, fence: Fence, role: Role) -> String {
        format!("{}{}", self.prefix, helper_name(&self.job.run, fence, role))
    }

    fn written(&self) -> String {
        table(self.written_home(), &self.written_name())
    }

    /// How InnoDB spells the name of the table that is written.
    fn written_file(&self) -> FileName {
        let name = self.written_name();
        // Our own databases' names can be spelt from here.
        let at_home = self.spec.homes.as_ref().and_then(|_| FileName::of(self.written_home(), &name));
        at_home.unwrap_or_else(|| self.spec.file.beside(&name))
    }

    fn source_key(&self) -> Result<Vec<&str>> {
        Ok(self.flow()?.key.iter().map(|column| column.source.as_str()).collect())
    }

    fn written_key(&self) -> Result<Vec<&str>> {
        Ok(self.flow()?.key.iter().map(|column| column.written.as_str()).collect())
    }

    fn decoded(&self, keys: &[Key]) -> Result<Vec<Values>> {
        let columns = &self.flow()?.key;
        keys.iter().map(|key| Values::decode(key, columns)).collect()
    }

    /// Lines that begin with the columns of the key, as changes that removed nothing.
    fn changes(&self, rows: &[Row]) -> Result<Vec<Change>> {
        let key = &self.flow()?.key;
        rows.iter().map(|row| self.change(&Values::read(row, 0, key)?, false)).collect()
    }

    fn change(&self, values: &Values, removed: bool) -> Result<Change> {
        let lane = values.lane(&self.flow()?.key, LANES);
        Ok(Change { key: values.encode(), lane, removed })
    }

    /// MariaDB: an index over a column that is computed when read, built while rows change, misses some of them, and
    /// the table is marked as corrupt later. Seen on 10.11.18.
    fn builds_over_virtual_columns(&self) -> bool {
        let side = &self.spec.new;
        let is_virtual = |line: &&String| line.contains(" GENERATED ALWAYS AS ") && line.contains(" VIRTUAL");
        let names: Vec<&str> =
            side.columns.iter().filter(is_virtual).filter_map(|line| line.split('`').nth(1)).collect();
        let mut deferred = side.indexes.iter().filter(|index| index.is_deferred);
        self.server.product() == Product::MariaDb
            && deferred.any(|index| names.iter().any(|name| index.clause.contains(&ident(name))))
    }

    /// The name of the table of a role that is there, of those that were noted for it.
    async fn standing(&self, connection: &mut Conn, role: ObjectRole) -> Result<Option<String>> {
        for object in self.objects.of(connection, role).await? {
            if exists(connection, self.home(role), &object.name).await? {
                return Ok(Some(object.name));
            }
        }
        Ok(None)
    }

    /// A statement that did not find its table: it does not have the name of our token. Or a column.
    fn missed(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::NotFound => {}
            ErrorKind::ForeignDdl if error.message().starts_with("mysql: ") => {
                let said = format!("somebody else changed the definition of `{}`", self.job.table);
                return Error::new(ErrorKind::ForeignDdl, said)
                    .with("the server says", error.message())
                    .caused_by(error);
            }
            _ => return error,
        }
        Error::new(ErrorKind::Fenced, format!("there is no table `{}`, or none to read", self.written_name()))
            .hint("another runner took over, or removed it; `replank status` shows who")
            .caused_by(error)
    }
}

/// Whether there is such a table.
async fn exists(connection: &mut Conn, schema: &str, name: &str) -> Result<bool> {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        text(schema),
        text(name)
    );
    Ok(number(connection, sql).await? > 0)
}

/// A rebuild as the engine sees it.
struct Handle {
    core: Arc<Core>,
}

#[async_trait]
impl Rebuild for Handle {
    fn pace(&self) -> Pace {
        // By default MariaDB lets one statement at a time count in a table, and a batch waits for a chunk.
        let counts = self.core.spec.written(self.core.job.direction).auto_increment.is_some();
        let takes_turns = self.core.server.product() == Product::MariaDb && counts;
        Pace {
            // While a chunk goes into the log nobody else commits. Measured with 400 bytes a row: chunks of 500 ms keep
            // others waiting for up to 200 ms, and those of 100 ms cost nothing more.
            chunk_target: Duration::from_millis(100),
            // Two sessions keep two cores and a disk busy. Measured by others and by us on small machines.
            copy_workers: if takes_turns { 1 } else { 2 },
            lanes: LANES,
            batch_keys: 500,
            // A build lets changes through; the written rows of the build's own log are merged at its end.
            apply_during_build: !self.core.builds_over_virtual_columns(),
            apply_during_copy: true,
            write_percent: 100,
        }
    }

    async fn prepare(&self) -> Result<()> {
        prepare::prepare(&self.core).await
    }

    async fn open_feed(&self, from: &Position) -> Result<Box<dyn ChangeFeed>> {
        let core = &self.core;
        Ok(Box::new(feed::open(&core.server, &core.job, &core.spec, LANES, from).await?))
    }

    async fn head(&self) -> Result<Position> {
        let mut connection = self.core.server.take().await?;
        let head = feed::head(&mut connection).await?;
        self.core.server.keep(connection);
        Ok(head)
    }

    fn reached(&self, at: &Position, goal: &Position) -> bool {
        feed::reached(self.core.server.product(), at, goal)
    }

    async fn forget(&self, _position: &Position) -> Result<()> {
        // The log is the server's own, and others may read it: only the token is looked at.
        let core = &self.core;
        let mut connection = core.server.take().await?;
        let token = Fence(core.token.load(Ordering::SeqCst));
        check_token(&mut connection, &core.names, &core.job.table, token).await?;
        core.server.keep(connection);
        Ok(())
    }

    async fn next_bound(&self, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        copy::next_bound(&self.core, after, rows).await
    }

    async fn copy(&self, bounds: &Bounds) -> Result<Copied> {
        copy::copy(&self.core, bounds).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<Applied> {
        let mut connection = self.core.server.take().await?;
        run(&mut connection, "START TRANSACTION").await?;
        // On an error the session is closed, and with it the transaction is rolled back.
        let applied = apply::apply(&mut connection, &self.core, changes).await;
        let applied = applied.map_err(|error| self.core.missed(error))?;
        run(&mut connection, "COMMIT").await?;
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
        let missing = index::missing(&mut connection, &self.core).await?;
        let names = missing.into_iter().map(|index| index.name.clone()).collect();
        self.core.server.keep(connection);
        Ok(names)
    }

    async fn build_index(&self, name: &str, _effort: Effort) -> Result<IndexBuild> {
        index::build(&self.core, name).await
    }

    async fn fence(&self, to: Fence) -> Result<()> {
        fence::fence(&self.core, to).await
    }

    async fn check_source(&self) -> Result<()> {
        let mut connection = self.core.server.take().await?;
        self.core.check_definition(&mut connection).await?;
        self.core.server.keep(connection);
        Ok(())
    }

    async fn collisions(&self, keys: &[Key]) -> Result<Vec<String>> {
        let mut connection = self.core.server.take().await?;
        let found = compare::collisions(&mut connection, &self.core, keys).await?;
        self.core.server.keep(connection);
        Ok(found)
    }

    async fn unsettled(&self) -> Result<Option<String>> {
        let mut connection = self.core.server.take().await?;
        let found = moving::noted(&self.core, &mut connection).await?;
        self.core.server.keep(connection);
        Ok(found.map(|begun| begun.to_string()))
    }

    async fn discard(&self) -> Result<()> {
        discard::discard(&self.core).await
    }

    fn cut_over(&self) -> &dyn CutOver {
        self
    }
}
