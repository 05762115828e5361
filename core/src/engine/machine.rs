//! The state machine: what may start now, and what follows from what ended. Pure: no clock, no I/O.
//!
//! [`pump`](super::pump) asks [`Machine::next`] for actions, carries them out at the same time, and hands
//! each end back to [`Machine::take`]. Everything that the rules R2, R4, R5 and R6 demand of the order of
//! actions is decided here and nowhere else.

mod next;
mod phase;
mod take;
#[cfg(test)]
mod tests;

use next::PULL_WAIT;
pub use next::{PULL_KEYS, shown};
pub use phase::{Milestone, duplicate};

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff::Backoff;
use super::chunker::Chunker;
use super::epoch::{Epoch, Epochs};
use super::queue::{Batch, Owed, Queue};
use super::share::Share;
use super::suspects::{Goal, Suspects};
use super::sweep::{Index, Sweep};
use crate::driver::{Applied, Compared, Copied, Effort, FeedBatch, IndexBuild, Pace};
use crate::run::{Checkpoint, Conflict, Direction, RunState};
use crate::throttle::Limits;
use crate::value::{Bounds, Key, Position};
use crate::{Error, Result};

/// Which sweep a bound is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepKind {
    /// The copy.
    Copy,
    /// The comparison.
    Verify,
}

/// Something to do. Each is answered by the [`Outcome`] of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Pull the feed.
    Pull,
    /// Read the head.
    Head,
    /// Count what others have written.
    Count,
    /// Find the end of the next chunk.
    Bound(SweepKind, Option<Key>, u64),
    /// Copy a chunk.
    Copy(Epoch, Bounds),
    /// Apply a batch.
    Apply(Batch),
    /// Compare a chunk.
    CompareChunk(Index, Bounds),
    /// Compare the rows of a batch that was applied.
    CompareBatch(Vec<Owed>),
    /// Compare rows again.
    CompareAgain(Vec<Key>),
    /// List the deferred indexes.
    ListIndexes,
    /// Build one.
    BuildIndex(String, Effort),
    /// Ask whether rows really collide.
    Collisions(Vec<Owed>),
    /// Take a new fencing token and rename the written table. Nothing else is in flight.
    Fence,
}

/// How an action ended.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Action::Pull`].
    Pull(Result<FeedBatch>),
    /// Of [`Action::Head`].
    Head(Result<Position>),
    /// Of [`Action::Count`].
    Count(Result<Option<u64>>),
    /// Of [`Action::Bound`].
    Bound(SweepKind, Result<Option<Key>>),
    /// Of [`Action::Copy`].
    Copy(Epoch, Duration, Result<Copied>),
    /// Of [`Action::Apply`].
    Apply(Batch, Duration, Result<Applied>),
    /// Of [`Action::CompareChunk`].
    CompareChunk(Index, Duration, Result<Compared>),
    /// Of [`Action::CompareBatch`].
    CompareBatch(Vec<Owed>, Result<Compared>),
    /// Of [`Action::CompareAgain`].
    CompareAgain(Vec<Key>, Result<Compared>),
    /// Of [`Action::ListIndexes`].
    ListIndexes(Result<Vec<String>>),
    /// Of [`Action::BuildIndex`].
    BuildIndex(Result<IndexBuild>),
    /// Of [`Action::Collisions`].
    Collisions(Vec<Owed>, Result<Vec<String>>),
    /// Of [`Action::Fence`].
    Fence(Result<()>),
}

/// What the machine is fixed to.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The driver's pace.
    pub pace: Pace,
    /// Which way rows flow.
    pub direction: Direction,
    /// The person's limits.
    pub limits: Limits,
    /// Changes that may wait in memory; the feed is not pulled while there are more.
    pub queue_max: usize,
    /// A swap follows: some rows can be left to the comparison under its lock.
    pub swaps: bool,
}

/// A row that had to make room, on its way back into the queue (R6).
#[derive(Debug)]
struct Displaced {
    owed: Owed,
    goal: Goal,
    /// Not tried again before: what stands in its way may need a while.
    not_before: Duration,
}

type Reached = Box<dyn Fn(&Position, &Position) -> bool + Send>;

/// The machine.
pub struct Machine {
    setup: Setup,
    reached: Reached,
    state: RunState,

    queue: Queue,
    epochs: Epochs,
    copy: Sweep,
    copy_size: Chunker,
    verify: Sweep,
    verify_size: Chunker,
    suspects: Suspects,
    /// Rows of a chunk of the comparison that are not settled.
    held: BTreeMap<Index, usize>,
    repaired: u64,
    pass_repaired: u64,
    /// The first of them, for the person.
    pass_repaired_keys: Vec<Key>,
    passes: u32,

    position: Option<Position>,
    finished_position: Option<Position>,
    lag: Duration,
    backlog: Option<u64>,
    is_pulling: bool,
    /// A goal has become known since the last pull began.
    hurries: bool,
    /// How long the pull that was begun last may wait for a change.
    pull_wait: Duration,
    is_reading_head: bool,
    catch_up: Goal,

    copying: BTreeMap<Epoch, Index>,
    applying: usize,
    compared_next: Vec<Vec<Owed>>,
    comparing: usize,
    comparing_chunks: usize,
    bounding: usize,

    displaced: Vec<Displaced>,
    displaced_often: BTreeMap<Key, u32>,
    /// Chunks of the copy that left rows out: they count as copied when those rows are applied.
    left_out: BTreeMap<Key, Vec<Index>>,
    /// Rows that one source snapshot shows colliding: applied again under the lock, and now and then.
    colliding: BTreeMap<Key, (Owed, Duration)>,
    asking: Vec<Owed>,
    is_asking: bool,
    collision_note: Option<String>,
    /// Since when rows have really collided, and when that was seen last.
    colliding_since: Option<(Duration, Duration)>,
    conflicts: BTreeMap<Key, Conflict>,
    /// Batches of one that follow a batch with an unfit row, so that the row is found.
    solo: usize,

    indexes: Option<Vec<String>>,
    is_building: bool,
    /// In this phase one was built, or found what stands in its way.
    has_tried_index: bool,

    needs_fence: bool,
    is_fencing: bool,
    lost_chunks: Vec<Epoch>,
    lost_batches: Vec<Batch>,

    throttle: Option<String>,
    is_paused: bool,
    is_held: bool,
    rest_until: Duration,
    pull_rest_until: Duration,
    chunk_rest_until: Duration,
    share: Share,
    /// Keys applied and the time that it took, for the prediction of the drain.
    apply_cost: (u64, Duration),
    backoff: Backoff,
    fatal: Option<Error>,
}

impl Machine {
    /// A machine that goes on from a checkpoint. `reached` compares positions.
    #[must_use]
    pub fn new(setup: Setup, state: RunState, checkpoint: &Checkpoint, reached: Reached) -> Self {
        let sizes = |setup: &Setup| {
            let (target, rows, bytes) = chunk_bounds(setup);
            Chunker::new(target, rows, bytes)
        };
        Self {
            reached,
            state,
            queue: Queue::default(),
            epochs: Epochs::default(),
            copy: Sweep::resume(checkpoint.copied.clone()),
            copy_size: sizes(&setup),
            verify: Sweep::resume(checkpoint.verified.clone()),
            verify_size: sizes(&setup),
            suspects: Suspects::default(),
            held: BTreeMap::new(),
            repaired: checkpoint.repaired,
            pass_repaired: checkpoint.pass_repaired,
            pass_repaired_keys: Vec::new(),
            passes: checkpoint.passes,
            position: checkpoint.position.clone(),
            finished_position: checkpoint.position.clone(),
            lag: Duration::ZERO,
            backlog: None,
            is_pulling: false,
            hurries: false,
            pull_wait: PULL_WAIT,
            is_reading_head: false,
            catch_up: Goal::Wanted,
            copying: BTreeMap::new(),
            applying: 0,
            compared_next: Vec::new(),
            comparing: 0,
            comparing_chunks: 0,
            bounding: 0,
            displaced: Vec::new(),
            displaced_often: BTreeMap::new(),
            left_out: BTreeMap::new(),
            colliding: BTreeMap::new(),
            asking: Vec::new(),
            is_asking: false,
            collision_note: None,
            colliding_since: None,
            conflicts: checkpoint.conflicts.clone(),
            solo: 0,
            indexes: None,
            is_building: false,
            has_tried_index: false,
            needs_fence: false,
            is_fencing: false,
            lost_chunks: Vec::new(),
            lost_batches: Vec::new(),
            throttle: None,
            is_paused: false,
            is_held: false,
            rest_until: Duration::ZERO,
            pull_rest_until: Duration::ZERO,
            chunk_rest_until: Duration::ZERO,
            share: Share::default(),
            apply_cost: (0, Duration::ZERO),
            backoff: Backoff::default(),
            fatal: None,
            setup,
        }
    }
}

/// Kinds of calls that back off separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Pulling the feed.
    Pull,
    /// Reading the head.
    Head,
    /// Copying, and finding bounds.
    Copy,
    /// Applying.
    Apply,
    /// Comparing, and counting what others write.
    Compare,
    /// Building indexes.
    Index,
    /// Fencing.
    Fence,
}

fn chunk_bounds(setup: &Setup) -> (Duration, u64, u64) {
    let target = setup.pace.chunk_target.min(Duration::from_millis(setup.limits.chunk_target_ms));
    (target, setup.limits.chunk_rows_max, setup.limits.chunk_bytes_max)
}
