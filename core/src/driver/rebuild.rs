//! The shadow rebuild: copy, apply, compare, and the objects that they need.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::cut_over::CutOver;
use super::feed::ChangeFeed;
use crate::Result;
use crate::ident::{Fence, RunId, TableId};
use crate::run::{Direction, Run};
use crate::value::{Bounds, Change, Key, Position};

/// Opens rebuilds.
#[async_trait]
pub trait Rebuilder: Send + Sync {
    /// A handle on the rebuild of `job`. Reads the catalogue, changes nothing; may be called again for
    /// the same job at any time, also by another process.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) on a server on which the table must not be rebuilt (any more),
    /// such as a replica.
    async fn open(&self, job: &RebuildJob) -> Result<Arc<dyn Rebuild>>;
}

/// What a driver needs to know to go on with a rebuild, from the journal.
#[derive(Debug, Clone)]
pub struct RebuildJob {
    /// The run that owns every helper object.
    pub run: RunId,
    /// The name that applications use.
    pub table: TableId,
    /// Which way rows flow.
    pub direction: Direction,
    /// The token of the helper objects' names, and of every write.
    pub fence: Fence,
    /// Whether the swap installs a reverse feed.
    pub revertible: bool,
    /// The longest that one attempt of the swap may refuse writes, where it refuses them.
    pub fence_budget: Duration,
    /// The driver's own part of the plan.
    pub spec: serde_json::Value,
}

impl RebuildJob {
    /// That of a run, under a token.
    #[must_use]
    pub fn of(run: &Run, fence: Fence) -> Self {
        Self {
            run: run.id.clone(),
            table: run.table.clone(),
            direction: run.direction,
            fence,
            revertible: run.options.revertible,
            fence_budget: Duration::from_millis(run.options.fence_budget_ms),
            spec: run.plan.spec.clone(),
        }
    }
}

/// How hard the driver can be pushed without harming others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest time that one chunk should take.
    pub chunk_target: Duration,
    /// Most chunks in flight.
    pub copy_workers: usize,
    /// Most batches in flight, and the number of lanes.
    pub lanes: u16,
    /// Keys in one batch.
    pub batch_keys: usize,
    /// Changes may be applied while a deferred index is being built.
    pub apply_during_build: bool,
    /// Changes may be applied while chunks are copied. Where not, they stay in the feed, in a pause, too, until the first
    /// deferred index was built: it may be the one by which rows are found, and no throttle keeps it from being built. A copy of such a driver displaces nothing.
    pub apply_during_copy: bool,
    /// How much of the time, in percent, copying may keep writers out; the engine rests between chunks
    /// accordingly. 100 where copying keeps nobody out.
    pub write_percent: u8,
}

/// How much of the server a long statement may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What it takes by itself.
    Usual,
    /// One processor, where the server can be told so: those who write have shown that they lose by what we do.
    Gentle,
}

/// A rebuild of one table, in one direction.
///
/// "Source" is the table that applications write, "written" the other one. Every method may be called
/// from several tasks at once, unless it says otherwise. Every write is made under the job's fencing
/// token: under an older one it fails with [`Fenced`](crate::ErrorKind::Fenced) or misses the table.
#[async_trait]
pub trait Rebuild: Send + Sync {
    /// How hard this may be pushed.
    fn pace(&self) -> Pace;

    /// Creates the shadow, empty, and whatever captures changes; registers each object before or in the
    /// transaction that creates it. Refuses any definition that came out different from the plan.
    /// Fails if something is there already: the caller calls [`Rebuild::discard`] first.
    async fn prepare(&self) -> Result<()>;

    /// Opens the feed just after `from`.
    ///
    /// # Errors
    /// [`FeedGap`](crate::ErrorKind::FeedGap) when the log no longer reaches back to it, or has never
    /// been there. Never "from now".
    async fn open_feed(&self, from: &Position) -> Result<Box<dyn ChangeFeed>>;

    /// A position that includes every change committed before the call, and nothing that a new read on
    /// the source would not see (R1): a feed opened there before the first chunk misses nothing.
    async fn head(&self) -> Result<Position>;

    /// Whether a feed at `at` has passed `goal`. Plain comparison, no I/O.
    fn reached(&self, at: &Position, goal: &Position) -> bool;

    /// The feed will never again be opened before `position`: the log may be shortened. Checks the
    /// token in its own transaction; calling it again, or with an older position, changes nothing.
    async fn forget(&self, position: &Position) -> Result<()>;

    /// The next `rows` rows after `after` in the server's own key order; `None` when none are left, and
    /// the caller then takes the open range from `after` as the last chunk.
    async fn next_bound(&self, after: Option<&Key>, rows: u64) -> Result<Option<Key>>;

    /// Copies the rows of a range whose keys are absent from the written table (R3: never over a row,
    /// never with a statement that bends values). Reads with a snapshot that is no older than the call.
    /// Where nothing is applied during the copy, what can be there is only what another call has copied: one whose
    /// answer was lost and that a fence has outlived, or one of an earlier runner, with other bounds.
    async fn copy(&self, bounds: &Bounds) -> Result<Copied>;

    /// Makes the written rows of these keys equal to what the source holds now, or absent if it holds
    /// none (R3). Atomic; repeating it changes nothing. All rows come from one snapshot no older than the
    /// call; all keys leave their unique values before any is written; a row that still collides is left out.
    async fn apply(&self, changes: &[Change]) -> Result<Applied>;

    /// Compares the rows of a range, both ways, in one snapshot, through the expressions of the copy.
    async fn compare(&self, bounds: &Bounds) -> Result<Compared>;

    /// The same for some keys.
    async fn compare_keys(&self, keys: &[Key]) -> Result<Compared>;

    /// Indexes still to be built after the copy, by name, read from the catalogue at each call. They are built in this
    /// order: first the one by which rows are found, where the copy did without it.
    async fn deferred_indexes(&self) -> Result<Vec<String>>;

    /// Builds one of them, and answers once it is valid.
    async fn build_index(&self, name: &str, effort: Effort) -> Result<IndexBuild>;

    /// R5: renames the written table to the name that carries `to`, waiting for every statement that
    /// still runs on it; what arrives later misses it. Calling it again with the same token changes
    /// nothing. From then on this handle writes under `to`. Where the swap has taken place, there is nothing
    /// to rename and it answers well: the caller asks [`CutOver::owner`] next.
    async fn fence(&self, to: Fence) -> Result<()>;

    /// Notices that the source's definition is not what the plan saw, or that the capture is not as it
    /// was made (R7).
    ///
    /// # Errors
    /// [`ForeignDdl`](crate::ErrorKind::ForeignDdl) or [`FeedGap`](crate::ErrorKind::FeedGap).
    async fn check_source(&self) -> Result<()>;

    /// Whether one source snapshot shows these rows colliding under the new shape's unique keys (R6):
    /// the names and values of those that do.
    async fn collisions(&self, keys: &[Key]) -> Result<Vec<String>>;

    /// How many transactions that write the server has committed, from any beginning; it only grows. By how fast it grows beside
    /// chunks and without them it is judged how much of the time chunks may take. Asked some times a second, so it has
    /// to cost nothing; `None` where the server has no such number, and then chunks take all of the time.
    async fn written(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// What a swap that ended half-way has left for the next runner to make good, in words; `None` where everything
    /// hangs on the table that it belongs to. Changes nothing.
    async fn unsettled(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Removes every object that the run owns, except the table that applications use, in steps that
    /// each stay within the lock budget. Looks ownership up before each; calling it again is harmless.
    async fn discard(&self) -> Result<()>;

    /// The swap.
    fn cut_over(&self) -> &dyn CutOver;
}

/// What a chunk did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows in the range.
    pub read: u64,
    /// Rows that were absent and were written.
    pub written: u64,
    /// Bytes written, where the driver can tell.
    pub bytes: u64,
    /// Rows that were left out because another row holds their unique value in the written table: it is
    /// of another moment. They must be applied behind a head that is read after this (R6).
    pub displaced: Vec<Change>,
}

/// What a batch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows of the batch that were left out (their older versions are gone), because a row outside the
    /// batch, or another of it, holds their unique value. No row outside the batch is ever touched: no change
    /// of it may be left to bring it back. They are applied again behind a head that is read after this (R6).
    pub displaced: Vec<Change>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Rows looked at, in the table that has more of them.
    pub rows: u64,
    /// Keys whose rows differ, or exist on one side only.
    pub differing: Vec<Change>,
}

/// How the build of an index ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexBuild {
    /// It is there and valid.
    Built,
    /// It is unique, and these rows of the written table collide; nothing was left behind.
    Duplicates(Vec<Change>),
}
