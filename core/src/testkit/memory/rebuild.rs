//! The rebuild, as a client uses it: each method sends one statement.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::client::{Client, Kind};
use super::feed::MemoryFeed;
use super::server::Server;
use super::{log, statement};
use crate::Result;
use crate::driver::{
    Applied, ChangeFeed, Compared, Copied, CutOver, Effort, IndexBuild, Pace, Rebuild, RebuildJob, Rebuilder,
};
use crate::ident::Fence;
use crate::value::{Bounds, Change, Key, Position};

/// Opens rebuilds for a client.
pub(super) struct MemoryRebuilder {
    pub client: Client,
}

#[async_trait]
impl Rebuilder for MemoryRebuilder {
    async fn open(&self, job: &RebuildJob) -> Result<Arc<dyn Rebuild>> {
        let pace = self.client.server.look(|state| state.config.pace);
        Ok(Arc::new(MemoryRebuild { client: self.client.clone(), pace, job: Mutex::new(job.clone()) }))
    }
}

/// A handle on a rebuild.
pub(super) struct MemoryRebuild {
    pub client: Client,
    pace: Pace,
    /// The token in it changes with a fence.
    job: Mutex<RebuildJob>,
}

impl MemoryRebuild {
    pub fn job(&self) -> RebuildJob {
        self.job.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn send<T, Work>(
        &self,
        kind: Kind,
        what: String,
        work: impl FnOnce(Server, RebuildJob) -> Work,
    ) -> Result<T>
    where
        T: Send + 'static,
        Work: Future<Output = Result<T>> + Send + 'static,
    {
        let job = self.job();
        let what = format!("{what} ({:?} under {})", job.direction, job.fence);
        self.client.call(kind, what, |server| work(server, job)).await
    }
}

#[async_trait]
impl Rebuild for MemoryRebuild {
    fn pace(&self) -> Pace {
        self.pace
    }

    async fn prepare(&self) -> Result<()> {
        self.send(Kind::Write, "prepare".to_owned(), statement::prepare).await
    }

    async fn open_feed(&self, from: &Position) -> Result<Box<dyn ChangeFeed>> {
        let from = log::index(from)?;
        let open = |server, job| statement::open_feed(server, job, from);
        self.send(Kind::Read, format!("open feed at {from}"), open).await?;
        Ok(Box::new(MemoryFeed::new(self.client.clone(), self.job(), from)))
    }

    async fn head(&self) -> Result<Position> {
        self.send(Kind::Read, "head".to_owned(), statement::head).await
    }

    fn reached(&self, at: &Position, goal: &Position) -> bool {
        // Positions of another server would be a bug of the caller's: not reached is the safe answer.
        log::index(at).ok().zip(log::index(goal).ok()).is_some_and(|(at, goal)| at >= goal)
    }

    async fn forget(&self, position: &Position) -> Result<()> {
        let position = position.clone();
        let what = format!("forget {position}");
        self.send(Kind::Write, what, |server, job| statement::forget(server, job, position)).await
    }

    async fn next_bound(&self, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        let after = after.cloned();
        let what = format!("next bound after {after:?}, {rows} rows");
        self.send(Kind::Read, what, |server, job| statement::next_bound(server, job, after, rows)).await
    }

    async fn copy(&self, bounds: &Bounds) -> Result<Copied> {
        let bounds = bounds.clone();
        let what = format!("copy {}", shown(&bounds));
        self.send(Kind::Write, what, |server, job| statement::copy(server, job, bounds)).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<Applied> {
        let changes = changes.to_vec();
        let keys: Vec<_> = changes.iter().map(|change| change.key.0.as_str()).collect();
        let what = format!("apply {keys:?}");
        self.send(Kind::Write, what, |server, job| statement::apply(server, job, changes)).await
    }

    async fn compare(&self, bounds: &Bounds) -> Result<Compared> {
        let bounds = bounds.clone();
        let what = format!("compare {}", shown(&bounds));
        self.send(Kind::Read, what, |server, job| statement::compare(server, job, bounds)).await
    }

    async fn compare_keys(&self, keys: &[Key]) -> Result<Compared> {
        let keys = keys.to_vec();
        let what = format!("compare {keys:?}");
        self.send(Kind::Read, what, |server, job| statement::compare_keys(server, job, keys)).await
    }

    async fn deferred_indexes(&self) -> Result<Vec<String>> {
        self.send(Kind::Read, "list deferred indexes".to_owned(), statement::deferred_indexes).await
    }

    async fn build_index(&self, name: &str, _effort: Effort) -> Result<IndexBuild> {
        let (what, name) = (format!("build index {name}"), name.to_owned());
        self.send(Kind::Write, what, |server, job| statement::build_index(server, job, name)).await
    }

    async fn fence(&self, to: Fence) -> Result<()> {
        let what = format!("fence to {to}");
        self.send(Kind::Write, what, |server, job| statement::fence(server, job, to)).await?;
        self.job.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fence = to;
        Ok(())
    }

    async fn check_source(&self) -> Result<()> {
        let check =
            |server: Server, job: RebuildJob| async move { server.look(|state| state.check_source(&job)) };
        self.send(Kind::Read, "check source".to_owned(), check).await
    }

    async fn collisions(&self, keys: &[Key]) -> Result<Vec<String>> {
        let keys = keys.to_vec();
        let what = format!("collisions of {keys:?}");
        self.send(Kind::Read, what, |server, job| statement::collisions(server, job, keys)).await
    }

    async fn discard(&self) -> Result<()> {
        self.send(Kind::Write, "discard".to_owned(), statement::discard).await
    }

    fn cut_over(&self) -> &dyn CutOver {
        self
    }
}

fn shown(bounds: &Bounds) -> String {
    let end = |key: &Option<Key>| key.as_ref().map_or_else(|| "∞".to_owned(), |key| key.0.clone());
    format!("({}, {}]", end(&bounds.lower), end(&bounds.upper))
}
