//! Cut-over, the reverse feed and revert, with lost acknowledgements, crashes and sleeping runners.
//!
//! Two tables exchange the live name while clients write. The runner applies the live table's changes
//! to the other one, locks, drains, installs the opposite feed, swaps, releases, and goes on with the
//! roles exchanged; `revert` is the same once more. The swap's acknowledgement may be lost while the
//! swap is done, still running, or dropped; the lock's session may be killed without the runner
//! noticing; the runner may die at any step, and it may turn out to have been asleep only: it wakes up
//! after its successor took over and does what it was about to do.
//!
//! Invariants:
//! - The live name always resolves, and the table behind it holds every acknowledged write.
//! - Whenever the feed is drained, the other table holds the same rows: that is what the comparison
//!   under the lock sees, and what `revert` relies on.
//! - The saved state says who is live, or that it does not know; it is never wrong.
//! - A feed is never resumed before what was trimmed from its log (R7 would stop the run for a gap that
//!   the run itself made).
//! - No state is stuck.
//!
//! Copy, settling and lanes are the subject of [`crate::catch_up`]; here a client's write is logged and
//! visible in one step, and the feed applies one key at a time. What the runner itself writes is not
//! logged: reading again makes such echoes harmless. A runner falls asleep while it catches up; one that
//! did so under its lock has lost the lock, and its swap fails like that of a killed session.

mod action;
mod effect;
mod state;
mod tests;

pub use action::Action;
pub use state::{Late, Phase, Runner, State, Step, Swap, Table};

use stateright::{Model, Property};

use crate::check::Story;

/// What an unknown outcome of the swap is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSwap {
    /// R5: rename the other table first, so that the swap is over one way or the other; then ask the
    /// catalogue whose the name is.
    FenceThenAsk,
    /// The catalogue's first answer counts, although the swap may still be running.
    Ask,
    /// The catalogue is asked first, and only "not swapped" is followed by the rename.
    AskThenFence,
    TakenAsNotDone,
    TakenAsDone,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What the source's log holds is applied before the swap.
    pub drain: bool,
    /// The head to drain to is read once writers are locked out.
    pub head_under_lock: bool,
    /// The swap cannot be executed unless the lock is still held: both in one session, or a sentry
    /// between two, see [`crate::two_session_swap`].
    pub swap_bound_to_lock: bool,
    /// Writers are released after the swap.
    pub release_after_swap: bool,
    /// Both names change in one step.
    pub atomic_swap: bool,
    pub unknown_swap: UnknownSwap,
    /// The opposite feed exists before writers are released.
    pub reverse_before_release: bool,
    /// The intent to swap is saved before the swap is sent.
    pub intent_saved: bool,
    /// R5: a takeover, and a runner that lost a statement, renames the table that is not live.
    pub fence: bool,
    /// R5: saving state checks the fencing token in its own transaction.
    pub save_checks_token: bool,
    /// R5: deleting from the log checks the fencing token in its own transaction.
    pub trim_checks_token: bool,
    /// Only what lies before the position that was saved is deleted from the log.
    pub trims_saved_only: bool,
    /// R5: dropping a table checks the fencing token once its lock is held.
    pub drop_checks_token: bool,
}

impl Rules {
    pub const KEPT: Rules = Rules {
        drain: true,
        head_under_lock: true,
        swap_bound_to_lock: true,
        release_after_swap: true,
        atomic_swap: true,
        unknown_swap: UnknownSwap::FenceThenAsk,
        reverse_before_release: true,
        intent_saved: true,
        fence: true,
        save_checks_token: true,
        trim_checks_token: true,
        trims_saved_only: true,
        drop_checks_token: true,
    };
}

#[derive(Clone, Copy, Debug)]
pub struct CutOver {
    pub rules: Rules,
    /// How many writes the clients make.
    pub writes: u8,
    /// Two: cut-over and revert.
    pub swaps: u8,
    pub crashes: u8,
    /// Lost acknowledgements and killed lock sessions.
    pub losses: u8,
}

pub const NO_WRITE_LOST: &str = "the live table holds every acknowledged write";
pub const FEED_IS_COMPLETE: &str = "a drained feed leaves both tables equal";
pub const SAVED_STATE_IS_TRUE: &str = "the saved state says who is live, or that it does not know";
pub const NO_GAP: &str = "a feed resumes behind what was trimmed";
const NEVER_STUCK: &str = "a run that is not finished can go on";

fn no_write_lost(_: &CutOver, state: &State) -> bool {
    state
        .live
        .is_some_and(|table| state.exists[table as usize] && state.rows[table as usize] == state.acknowledged)
}

/// Only while the runner is right about the roles and has nothing in flight.
fn feed_is_complete(_: &CutOver, state: &State) -> bool {
    let Some(runner) = state.runner else { return true };
    let (source, target) = (runner.source, runner.source.other());
    let is_drained = runner.batch.is_none()
        && runner.applied == state.log[source as usize].len
        && match runner.step {
            Step::CatchUp => true,
            Step::Locked | Step::Prepared => state.lock == Some(runner.token),
            _ => false,
        };
    !is_drained || state.rows[source as usize] == state.rows[target as usize]
}

fn saved_state_is_true(_: &CutOver, state: &State) -> bool {
    match state.saved.phase {
        Phase::Live(table) => state.live == Some(table),
        Phase::CuttingOver | Phase::Finished => true,
    }
}

impl Model for CutOver {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.enabled(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.after(*state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NO_WRITE_LOST, no_write_lost),
            Property::always(FEED_IS_COMPLETE, feed_is_complete),
            Property::always(SAVED_STATE_IS_TRUE, saved_state_is_true),
            Property::always(NO_GAP, |_, state: &State| !state.met_gap),
            Property::always(NEVER_STUCK, |model: &Self, state: &State| {
                let mut actions = vec![];
                model.enabled(state, &mut actions);
                !actions.is_empty() || state.saved.phase == Phase::Finished
            }),
            Property::sometimes("finalized with the new table live", |_, state: &State| {
                state.saved.phase == Phase::Finished && state.live == Some(Table::New)
            }),
            Property::sometimes(
                "written, cut over, written, reverted, written",
                |model: &Self, state: &State| {
                    state.swaps_left == 0
                        && state.live == Some(Table::Old)
                        && state.writes_left == 0
                        && model.swaps == 2
                },
            ),
        ];
        if self.crashes > 0 {
            properties.push(Property::sometimes("taken over in the middle of a swap", |_, state: &State| {
                state.runner.is_none() && state.saved.phase == Phase::CuttingOver
            }));
        }
        if self.losses > 0 {
            properties.push(Property::sometimes("a swap of unknown outcome was done", |_, state: &State| {
                state.runner.is_some_and(|runner| {
                    runner.step == Step::Unknown && state.live == Some(runner.source.other())
                })
            }));
        }
        properties
    }
}

impl Story for CutOver {}
