//! The shadow rebuild: everything that happens to the collection that is not live.
//!
//! `renameCollection` over the live collection destroys it. So the way back is a second collection, of the old shape, which
//! is filled and kept in step beside the first one from the start.

mod apply;
mod compare;
mod copy;
mod cut_over;
mod discard;
mod fence;
mod guard;
mod index;
mod log;
mod prepare;
mod tail;

pub use fence::rename;
pub use guard::{closing, mend, whose};
pub use log::MARK;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bson::Document;
use mongodb::{ClientSession, Collection as Handled};
use replank_core::driver::{
    Applied, ChangeFeed, Compared, Copied, CutOver, Effort, IndexBuild, Pace, Rebuild, RebuildJob, Rebuilder,
};
use replank_core::ident::{Fence, Role, helper_name};
use replank_core::run::Direction;
use replank_core::value::{Bounds, Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};

use crate::collation::Collation;
use crate::connect::{Server, begin};
use crate::feed::{Feed, Place};
use crate::key;
use crate::ranges;
use crate::spec::{Side, Spec, documents};
use crate::state::{Noted, ObjectRole, Objects, check_token};

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
        Ok(Arc::new(Handle {
            core: Arc::new(Core {
                server: Arc::clone(&self.server),
                objects: Objects::new(&job.run),
                sessions: Noted::default(),
                collation: Collation::of(&spec.old.options.0),
                fence: AtomicU64::new(job.fence.0),
                job: job.clone(),
                spec,
            }),
        }))
    }
}

/// A rebuild as its parts see it.
pub struct Core {
    server: Arc<Server>,
    objects: Objects,
    sessions: Noted,
    job: RebuildJob,
    spec: Spec,
    collation: Collation,
    fence: AtomicU64,
}

/// A collection that is written, and what is made of a document on the way into it.
struct Target<'a> {
    role: ObjectRole,
    name: String,
    pipeline: Vec<Document>,
    side: &'a Side,
}

impl Core {
    fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::SeqCst))
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The collection that applications write.
    pub fn live(&self) -> &str {
        &self.job.table.name
    }

    /// The collection whose writes tell how far a feed is: its name never changes.
    pub fn log(&self) -> String {
        helper_name(&self.job.run, Fence(0), Role::Log)
    }

    /// Whether a rename is a swap of this run's.
    pub fn is_own_swap(&self, from: &str, to: &str) -> bool {
        to == self.live() && from.starts_with(&format!("_rp_{}_", self.job.run.short()))
    }

    /// How texts of `_id` are compared.
    pub fn collation(&self) -> &Collation {
        &self.collation
    }

    /// The name of a helper under the present token.
    fn helper(&self, role: ObjectRole) -> String {
        let role = if role == ObjectRole::Shadow { Role::Shadow } else { Role::Retired };
        helper_name(&self.job.run, self.fence(), role)
    }

    /// The collections that are written in this direction. Forwards the one for the way back is among them.
    fn targets(&self) -> Result<Vec<Target<'_>>> {
        let target = |role, pipeline, side| Target { role, name: self.helper(role), pipeline, side };
        match self.job.direction {
            Direction::Forward => {
                let mut all = vec![target(ObjectRole::Shadow, documents(&self.spec.forward), &self.spec.new)];
                if self.job.revertible {
                    all.push(target(ObjectRole::Retired, Vec::new(), &self.spec.old));
                }
                Ok(all)
            }
            Direction::Reverse => {
                let backward = self
                    .spec
                    .backward
                    .as_deref()
                    .ok_or_else(|| Error::new(ErrorKind::Refused, "this change has no way back"))?;
                Ok(vec![target(ObjectRole::Retired, documents(backward), &self.spec.old)])
            }
        }
    }

    fn collection(&self, name: &str) -> Handled<Document> {
        self.server.database().collection(name)
    }

    async fn check_token(&self) -> Result<()> {
        check_token(&self.server, None, &self.job.table, self.fence()).await
    }

    /// A transaction that reads our token before anything else, on a session by which whoever takes over ends it: see
    /// [`crate::state`]'s sessions.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] where somebody has taken over.
    pub async fn transaction(&self) -> Result<ClientSession> {
        let (table, token) = (&self.job.table, self.fence());
        let mut session = self.server.session().await?;
        self.sessions.note(&self.server, table, token, &session).await?;
        begin(&mut session).await?;
        if let Err(error) = check_token(&self.server, Some(&mut session), table, token).await {
            apply::abort(&mut session).await;
            return Err(error);
        }
        Ok(session)
    }

    /// The comment on what is sent for this run: a statement that outlives its runner is found by it.
    fn comment(&self) -> String {
        format!("replank {} {}", self.job.run, self.fence())
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
            // `$merge` keeps nobody out, and the server yields between documents. Chosen: as short as a checkpoint may be old.
            chunk_target: Duration::from_secs(2),
            apply_during_copy: true,
            write_percent: 100,
            copy_workers: 1,
            lanes: key::LANES,
            // One transaction each, far below its 16 MiB of log and 60 s.
            batch_keys: 200,
            apply_during_build: true,
        }
    }

    async fn prepare(&self) -> Result<()> {
        prepare::prepare(&self.core).await
    }

    async fn open_feed(&self, from: &Position) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(Feed::open(Arc::clone(&self.core), from).await?))
    }

    async fn head(&self) -> Result<Position> {
        log::head(&self.core).await
    }

    fn reached(&self, at: &Position, goal: &Position) -> bool {
        // A position that cannot be read was not made here, and nothing has passed it.
        matches!((Place::read(at), Place::read(goal)), (Ok(at), Ok(goal)) if at.has_passed(&goal))
    }

    async fn forget(&self, _position: &Position) -> Result<()> {
        // The oplog is the server's own to shorten.
        self.core.check_token().await?;
        // At each checkpoint: what a runner before us raised late keeps writers out until we take it away.
        guard::sweep(&self.core).await
    }

    async fn next_bound(&self, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        ranges::next_bound(&self.core.server, self.core.live(), after, rows).await
    }

    async fn copy(&self, bounds: &Bounds) -> Result<Copied> {
        copy::copy(&self.core, bounds).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<Applied> {
        apply::apply(&self.core, changes).await
    }

    async fn compare(&self, bounds: &Bounds) -> Result<Compared> {
        compare::range(&self.core, bounds).await
    }

    async fn compare_keys(&self, keys: &[Key]) -> Result<Compared> {
        compare::keys(&self.core, keys).await
    }

    async fn deferred_indexes(&self) -> Result<Vec<String>> {
        index::deferred(&self.core).await
    }

    async fn build_index(&self, name: &str, _effort: Effort) -> Result<IndexBuild> {
        index::build(&self.core, name).await
    }

    async fn fence(&self, to: Fence) -> Result<()> {
        fence::fence(&self.core, to).await
    }

    async fn check_source(&self) -> Result<()> {
        prepare::check_source(&self.core).await
    }

    async fn collisions(&self, keys: &[Key]) -> Result<Vec<String>> {
        index::collisions(&self.core, keys).await
    }

    async fn unsettled(&self) -> Result<Option<String>> {
        tail::left(&self.core).await
    }

    async fn discard(&self) -> Result<()> {
        discard::discard(&self.core).await
    }

    fn cut_over(&self) -> &dyn CutOver {
        self
    }
}
