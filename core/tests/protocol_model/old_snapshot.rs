//! Readers that began before the swap and read after it, where rows have versions (PostgreSQL).
//!
//! A transaction's snapshot hides what was committed after it began, and a name is looked up when it is
//! used. A reader with an old snapshot that looks the name up after the swap finds the new table, but
//! only those rows of it that were committed before its snapshot.
//!
//! Invariant: no reader sees a table that is neither the old one nor the new one as a whole.

use stateright::{Model, Property};

use crate::check::{Story, exhaust, refute};

#[derive(Clone, Copy, Debug)]
struct OldSnapshot {
    /// The last changes are committed before the lock that keeps readers out is taken.
    drain_first: bool,
    /// No snapshot older than that commit is left when the names change.
    wait_for_snapshots: bool,
}

const KEPT: OldSnapshot = OldSnapshot { drain_first: true, wait_for_snapshots: true };
const READS_ONE_TABLE: &str = "a reader sees one table as a whole";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    step: Step,
    /// How many commits there have been: the clock of snapshots.
    commits: u8,
    /// The newest commit that the new table's rows come from.
    last_row: u8,
    /// Snapshots of transactions that have not read yet.
    readers: [Option<u8>; 2],
    readers_left: u8,
    batches_left: u8,
    saw_mixture: bool,
    has_read_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    CatchUp,
    /// Writers are out, readers are not.
    WritersLocked,
    Drained,
    /// Readers are out as well; they look up the name once the swap is committed.
    ReadersLocked,
    Swapped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Another session commits: copy or apply.
    ApplyBatch,
    BeginReader(usize),
    /// Looks up the name and reads; the transaction ends.
    Read(usize),
    LockWriters,
    Drain,
    LockReaders,
    /// Back to catching up: an old snapshot outlived the budget.
    GiveUp,
    Swap,
}

impl Model for OldSnapshot {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            step: Step::CatchUp,
            commits: 1,
            last_row: 1,
            readers: [None; 2],
            readers_left: 4,
            batches_left: 4,
            saw_mixture: false,
            has_read_new: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, reader) in state.readers.iter().enumerate() {
            match reader {
                None if state.readers_left > 0 => actions.push(Action::BeginReader(index)),
                Some(_) if state.step != Step::ReadersLocked => actions.push(Action::Read(index)),
                None | Some(_) => {}
            }
        }
        let is_old = |reader: &Option<u8>| reader.is_some_and(|snapshot| snapshot < state.last_row);
        let can_swap = !self.wait_for_snapshots || !state.readers.iter().any(is_old);
        match state.step {
            Step::CatchUp => {
                actions.push(Action::LockWriters);
                if state.batches_left > 0 {
                    actions.push(Action::ApplyBatch);
                }
            }
            Step::WritersLocked if self.drain_first => actions.push(Action::Drain),
            // The other order: wait and lock first, drain in the transaction that swaps.
            Step::WritersLocked if can_swap => actions.push(Action::LockReaders),
            Step::WritersLocked => actions.push(Action::GiveUp),
            Step::Drained => {
                actions.push(Action::GiveUp);
                if can_swap {
                    actions.push(Action::LockReaders);
                }
            }
            Step::ReadersLocked => actions.push(Action::Swap),
            Step::Swapped => {}
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        let commit_rows = |next: &mut State| {
            next.commits += 1;
            next.last_row = next.commits;
        };
        match action {
            Action::ApplyBatch => {
                next.batches_left -= 1;
                commit_rows(&mut next);
            }
            Action::BeginReader(index) => {
                next.readers_left -= 1;
                next.readers[index] = Some(state.commits);
            }
            Action::Read(index) => {
                let snapshot = next.readers[index].take()?;
                if state.step == Step::Swapped {
                    next.has_read_new = true;
                    next.saw_mixture |= snapshot < state.last_row;
                }
            }
            Action::LockWriters => next.step = Step::WritersLocked,
            Action::Drain => {
                commit_rows(&mut next);
                next.step = Step::Drained;
            }
            Action::LockReaders => next.step = Step::ReadersLocked,
            Action::GiveUp if state.batches_left == 0 => return None,
            Action::GiveUp => {
                next.batches_left -= 1;
                next.step = Step::CatchUp;
            }
            Action::Swap => {
                if !self.drain_first {
                    commit_rows(&mut next);
                }
                next.step = Step::Swapped;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(READS_ONE_TABLE, |_, state: &State| !state.saw_mixture),
            Property::sometimes("a reader sees the new table", |_, state: &State| state.has_read_new),
        ]
    }
}

impl Story for OldSnapshot {}

#[test]
fn model_readers_with_old_snapshots_see_one_table() {
    exhaust("old snapshots", KEPT);
}

/// One ACCESS EXCLUSIVE lock and a rename: a report that began before finds the table empty.
#[test]
fn model_swap_under_old_snapshots_shows_an_empty_table() {
    let model = OldSnapshot { wait_for_snapshots: false, ..KEPT };
    refute("no wait for old snapshots", model, READS_ONE_TABLE);
}

/// Waiting before the last batch is committed: that batch is missing for whoever began in between.
#[test]
fn model_draining_in_the_swaps_own_transaction_hides_the_last_batch() {
    refute("drain after the wait", OldSnapshot { drain_first: false, ..KEPT }, READS_ONE_TABLE);
}
