//! Copy and apply side by side, with crashes, lost connections, late statements and a unique index (R1 to R6).
//!
//! Two chunks are copied while two appliers work off the change feed, each applier on its own lane.
//! The feed carries keys; an applier reads the row again and writes what it found. Every statement is
//! two steps, a read with a snapshot and a later write, so that everything else can happen in between.
//! A crash or a lost connection leaves the statement behind: it may still be executed at any time,
//! until the shadow's name is gone.
//!
//! Why it works, in one sentence: each row of the shadow is the source's row of some moment, and every
//! change of that row since then is still to come. Every broken rule below breaks this sentence. A row
//! that made way for another one (R6) is no exception: it has a change that is still to come, or is a row
//! of a chunk that still has to be copied.
//!
//! Invariants:
//! - Whenever the feed is drained, nothing is in flight and every chunk is copied, the shadow holds
//!   exactly the rows of the source. Not only at the end: at every such moment.
//! - A position that may be saved now claims no more than the data: each row of a finished chunk is as
//!   new as the changes before that position.
//! - No state is stuck: whatever happened, the run can still complete.
//!
//! Two foldings keep the state space small without leaving anything out. A saved position only
//! matters at the next crash, and the lowest unfinished position only grows, so the crash picks any
//! position that could have been saved since the last one. And a statement left behind is never
//! dropped while it may run: not running at all is the same as waiting until the fence.
//!
//! R6 lets a row that lost a conflict wait for a source head that was read after the conflict. Here it may
//! be applied again at any time, at once too: the wait tells real conflicts from passing ones, and no row
//! depends on it.

mod action;
mod execute;
mod state;
mod tests;
mod unique_tests;

pub use action::Action;
pub use state::{Batch, Chunk, Item, Runner, State, Statement};

use stateright::{Model, Property};

use crate::check::Story;
use crate::history::{ABSENT, History, KEYS, Snapshot, Value};

pub const CHUNKS: usize = 2;
pub const LANES: usize = 2;

/// Keys are in key order, so that a chunk is a range: key 0, and keys 1 and 2.
pub fn chunk_of(key: usize) -> usize {
    key.min(CHUNKS - 1)
}

pub fn keys_of(chunk: usize) -> impl Iterator<Item = usize> {
    (0..KEYS).filter(move |&key| chunk_of(key) == chunk)
}

pub fn lane_of(key: usize) -> usize {
    key % LANES
}

/// The protocol's rules, each of which can be broken by itself.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// R1: a transaction is delivered only once a new read would see it.
    pub settle: bool,
    /// R2: a key waits for the chunks that were in flight when it arrived.
    pub epochs: bool,
    /// R2: a chunk's snapshot is taken after its id.
    pub snapshot_after_id: bool,
    /// R2: one key is never in two unfinished batches.
    pub lanes: bool,
    /// R3: a chunk leaves rows alone that are already there.
    pub copy_keeps_rows: bool,
    /// R3: a row that is gone from the source is deleted.
    pub deletes: bool,
    /// R4: the saved position is that of the lowest unfinished batch.
    pub checkpoint_behind_data: bool,
    /// R4: a chunk's state is saved with its rows. Without it: saved later, as MongoDB has to.
    pub chunk_state_with_rows: bool,
    /// R4: a resumed feed starts at the saved position.
    pub resume_at_checkpoint: bool,
    /// R5: a takeover, and a runner that lost a statement, renames the shadow first.
    pub fence: bool,
    /// R5: a chunk whose statement was lost is unfinished until the fence.
    pub lost_chunk_blocks: bool,
    /// R3's cheaper variant: the shadow has no index while it is copied, and keys only queue. A row
    /// that is copied twice is there twice.
    pub bare_copy: bool,
    /// After a fence in mid-run, the chunks' saved states are read again before any is repeated.
    pub reload_after_fence: bool,
    /// R6: the shadow's unique index, if it has one.
    pub unique: Option<Unique>,
}

/// A unique index over the rows' values in the shadow, and how statements get along with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Built after the copy, once no two rows collide, instead of with the empty shadow.
    pub deferred: bool,
    pub on_conflict: OnConflict,
    pub hold: Hold,
}

/// How rows that lost a conflict, which only the runner's memory knows, keep the checkpoint back until
/// they were applied again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// A row that a batch took away owes what the batch's oldest change owes. Without it: it owes to the
    /// newest position delivered at that moment. A row of the batch itself keeps its own debt.
    pub owes_to_oldest: bool,
    /// A chunk that left a row out counts as copied once the row was applied.
    pub holds_chunk: bool,
    /// A runner that lost a batch's reply, and with it the keys of rows that were taken away, goes back to
    /// its checkpoint after the fence. Without it: it repeats the batch.
    pub resumes_after_loss: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Neither touches another row. Copy leaves its own row out; apply deletes the old version of its own
    /// row and leaves the new one out. Either is applied again.
    LeaveOut,
    /// Copy leaves its own row out, apply takes the other row away; whoever lost is applied again. Only
    /// where one snapshot shows both rows with the value, apply leaves its own row out.
    TakeAway,
    /// The same, but apply does not look whether the other row has the value in its snapshot.
    TakeAwayBlindly,
    /// The row in the way is locked and everything is read again, until nothing collides with a row
    /// that is not locked yet; what still collides is deleted: its own change is then still to come.
    /// One step here, since nobody can touch a locked row in between.
    Reread,
    /// `REPLACE`: the other row goes, and nobody remembers.
    Replace,
    /// `INSERT IGNORE`: the own row is left out, and nobody remembers.
    Ignore,
}

impl OnConflict {
    fn requeues(self) -> bool {
        matches!(self, OnConflict::LeaveOut | OnConflict::TakeAway | OnConflict::TakeAwayBlindly)
    }
}

impl Rules {
    pub const KEPT: Rules = Rules {
        settle: true,
        epochs: true,
        snapshot_after_id: true,
        lanes: true,
        copy_keeps_rows: true,
        deletes: true,
        checkpoint_behind_data: true,
        chunk_state_with_rows: true,
        resume_at_checkpoint: true,
        fence: true,
        lost_chunk_blocks: true,
        bare_copy: false,
        reload_after_fence: true,
        unique: None,
    };
}

/// One application history after the other, under the same rules.
#[derive(Clone, Debug)]
pub struct CatchUp {
    pub histories: Vec<History>,
    pub rules: Rules,
    /// How often the runner may die.
    pub crashes: u8,
    /// How often a running runner may lose the connection of a statement that it sent.
    pub losses: u8,
}

pub const CONVERGES: &str = "the shadow equals the source whenever the feed is drained";
pub const CHECKPOINT_IS_BEHIND_DATA: &str = "a checkpoint claims no more than the data";
const NEVER_STUCK: &str = "a run that is not complete can go on";

impl CatchUp {
    pub fn history(&self, state: &State) -> &History {
        &self.histories[state.history as usize]
    }

    pub fn source(&self, state: &State, snapshot: Snapshot, key: usize) -> Value {
        self.history(state).row(snapshot, key)
    }

    fn is_drained(&self, state: &State) -> bool {
        state.runner.as_ref().is_some_and(|runner| {
            runner.delivered == state.committed
                && runner.is_idle()
                && runner.copied == (1 << CHUNKS) - 1
                && state.visible == (1 << state.committed) - 1
                && runner.displaced.iter().all(Option::is_none)
                && runner.left_out == 0
                && state.is_indexed
        })
    }

    fn is_complete(&self, state: &State) -> bool {
        self.is_drained(state) && state.committed as usize == self.history(state).len()
    }

    fn converges(&self, state: &State) -> bool {
        !self.is_drained(state)
            || (state.shadow == self.history(state).rows(state.visible) && !state.has_duplicate)
    }

    fn checkpoint_is_behind_data(&self, state: &State) -> bool {
        let position = self.checkpoint(state) as usize;
        let history = self.history(state);
        let copied = self.copied_for_good(state);
        (0..KEYS).filter(|&key| copied & 1 << chunk_of(key) != 0).all(|key| {
            // A row that made way for another one is claimed by nobody while its own change is to come.
            let is_out_of_the_way = self.rules.unique.is_some()
                && state.shadow[key] == ABSENT
                && (position..state.committed as usize).any(|index| history.touches(index, key));
            history.is_as_new_as(key, state.shadow[key], position) || is_out_of_the_way
        })
    }

    /// The newest position that the runner may save now, or that it had saved when it died.
    pub fn checkpoint(&self, state: &State) -> u8 {
        match &state.runner {
            None => state.saved,
            Some(runner) if self.rules.checkpoint_behind_data => runner.lowest_unfinished(),
            Some(runner) => runner.delivered,
        }
    }

    /// The chunks that are saved as copied, or may be now.
    pub fn copied_for_good(&self, state: &State) -> u8 {
        state.copied | state.runner.as_ref().map_or(0, Runner::copied_for_good)
    }

    fn hold(&self) -> Option<Hold> {
        self.rules.unique.map(|unique| unique.hold)
    }
}

impl Model for CatchUp {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        (0..self.histories.len()).map(|history| State::start(self, history as u16)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.enabled(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.after(state.clone(), action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(CONVERGES, |model: &Self, state| model.converges(state)),
            Property::always(CHECKPOINT_IS_BEHIND_DATA, |model: &Self, state| {
                model.checkpoint_is_behind_data(state)
            }),
            Property::always(NEVER_STUCK, |model: &Self, state: &State| {
                // After a crash somebody can take over.
                state.runner.is_none() || model.is_complete(state) || {
                    let mut actions = vec![];
                    model.enabled(state, &mut actions);
                    !actions.is_empty()
                }
            }),
            Property::sometimes("a run completes", |model: &Self, state| model.is_complete(state)),
        ];
        if self.rules.unique.is_some_and(|unique| unique.on_conflict.requeues()) {
            properties.push(Property::sometimes("a row lost a conflict", |_, state: &State| {
                state.runner.as_ref().is_some_and(|runner| runner.displaced != [None; KEYS])
            }));
        }
        if self.crashes > 0 {
            properties.push(Property::sometimes("a run completes after the last crash", |model, state| {
                model.is_complete(state) && state.crashes_left == 0
            }));
        }
        if self.losses > 0 {
            properties.push(Property::sometimes("a run completes after a lost statement", |model, state| {
                model.is_complete(state) && state.losses_left == 0
            }));
        }
        properties
    }
}

impl Story for CatchUp {
    fn opening(&self, start: &State) -> String {
        self.history(start).to_string()
    }
}
