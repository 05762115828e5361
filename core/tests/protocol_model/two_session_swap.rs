//! A swap by a second session, where RENAME is not allowed under LOCK TABLES (MariaDB).
//!
//! One session keeps writers out, the other one's RENAME waits for it, and unlocking lets the RENAME
//! through before any writer, because it waits in the queue already. That holds only if it really
//! waits there. If the locking session dies first, writers come in, and the RENAME that arrives later
//! swaps a table that was drained before their writes. So a table called as the retired one shall be
//! called stands in the way, the sentry: the RENAME fails while it exists, and only the session that
//! holds the lock can drop it, once the RENAME has been seen to wait.
//!
//! Invariant: no write reaches the old table between the drain and the swap.

use stateright::{Model, Property};

use crate::check::{Story, exhaust, refute};

#[derive(Clone, Copy, Debug)]
struct TwoSessionSwap {
    sentry: bool,
    /// The sentry is dropped, and the lock released, once the RENAME has been seen to wait.
    seen_waiting: bool,
    /// The names sort so that the RENAME waits for the original before it waits for anything else.
    waits_for_original: bool,
}

const KEPT: TwoSessionSwap = TwoSessionSwap { sentry: true, seen_waiting: true, waits_for_original: true };
const NOTHING_MISSED: &str = "no write reaches the old table between drain and swap";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    lock: Lock,
    rename: Rename,
    sentry: bool,
    /// A client wrote to the old table after it was drained.
    wrote_after_drain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lock {
    /// Writers are out, and everything is drained.
    Held,
    Released,
    /// The session was killed.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rename {
    NotSent,
    /// On its way to the server.
    Sent,
    /// Waits for the original: writers wait behind it.
    Waits,
    /// Waits for one of the other names: it blocks nobody.
    WaitsElsewhere,
    Done,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    SendRename,
    RenameArrives,
    RenameGoesOn,
    /// Its lock wait takes too long.
    RenameTimesOut,
    DropSentryAndUnlock,
    KillLockingSession,
    Write,
}

impl TwoSessionSwap {
    fn arrive(&self, state: &State) -> Rename {
        match state.lock {
            Lock::Held if self.waits_for_original => Rename::Waits,
            _ if !self.waits_for_original => Rename::WaitsElsewhere,
            _ => self.finish(state),
        }
    }

    fn finish(&self, state: &State) -> Rename {
        if state.sentry { Rename::Failed } else { Rename::Done }
    }
}

impl Model for TwoSessionSwap {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            lock: Lock::Held,
            rename: Rename::NotSent,
            sentry: self.sentry,
            wrote_after_drain: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let is_held = state.lock == Lock::Held;
        match state.rename {
            // The runner does not notice that the other session is dead.
            Rename::NotSent => actions.push(Action::SendRename),
            Rename::Sent => actions.push(Action::RenameArrives),
            Rename::Waits | Rename::WaitsElsewhere => {
                actions.push(Action::RenameTimesOut);
                if !is_held {
                    actions.push(Action::RenameGoesOn);
                }
            }
            Rename::Done | Rename::Failed => {}
        }
        let is_seen = matches!(state.rename, Rename::Waits | Rename::WaitsElsewhere);
        if is_held {
            actions.push(Action::KillLockingSession);
            if is_seen || (state.rename == Rename::Sent && !self.seen_waiting) {
                actions.push(Action::DropSentryAndUnlock);
            }
        }
        if !is_held && state.rename != Rename::Waits {
            actions.push(Action::Write);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::SendRename => next.rename = Rename::Sent,
            Action::RenameArrives => next.rename = self.arrive(state),
            Action::RenameGoesOn => next.rename = self.finish(state),
            Action::RenameTimesOut => next.rename = Rename::Failed,
            Action::DropSentryAndUnlock => {
                next.sentry = false;
                next.lock = Lock::Released;
            }
            Action::KillLockingSession => next.lock = Lock::Dead,
            // After the swap the name leads to the new table.
            Action::Write if state.rename == Rename::Done => return None,
            Action::Write => next.wrote_after_drain = true,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_MISSED, |_, state: &State| {
                state.rename != Rename::Done || !state.wrote_after_drain
            }),
            Property::sometimes("swapped", |_, state: &State| state.rename == Rename::Done),
            Property::sometimes("refused by the sentry", |_, state: &State| {
                state.rename == Rename::Failed && state.sentry && state.lock == Lock::Dead
            }),
        ]
    }
}

impl Story for TwoSessionSwap {}

#[test]
fn model_swap_by_a_second_session_misses_no_write() {
    exhaust("two-session swap", KEPT);
}

/// The session with LOCK TABLES is killed before the RENAME of the other one arrives.
#[test]
fn model_two_session_swap_without_sentry_loses_a_write() {
    refute("no sentry", TwoSessionSwap { sentry: false, ..KEPT }, NOTHING_MISSED);
}

/// UNLOCK TABLES as soon as the RENAME was sent: a writer is faster.
#[test]
fn model_unlocking_before_the_rename_waits_loses_a_write() {
    refute("unlocked too early", TwoSessionSwap { seen_waiting: false, ..KEPT }, NOTHING_MISSED);
}

/// The shadow's name sorts before the original: the RENAME that was seen to wait waited for the shadow.
#[test]
fn model_rename_that_waits_for_another_name_loses_a_write() {
    refute("waits for another name", TwoSessionSwap { waits_for_original: false, ..KEPT }, NOTHING_MISSED);
}
