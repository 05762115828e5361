//! What a statement does to the shadow at the moment when it commits.

use super::{CatchUp, OnConflict, State, Statement, keys_of};
use crate::history::{ABSENT, KEYS, Snapshot, Value};

impl CatchUp {
    /// A statement whose runner waits for it, and is told which keys lost a conflict.
    pub fn execute(&self, state: &mut State, statement: Statement) -> u8 {
        // Not before: a statement reads again only when it has met a row in its way.
        let rereads = self.conflict(state).is_some_and(|conflict| conflict == OnConflict::Reread)
            && self.collides(state, statement);
        self.execute_with(state, if rereads { statement.read_again(state.visible) } else { statement })
    }

    /// A statement that nobody waits for: nobody is told, and where the runner would have to step in, it
    /// fails.
    pub fn execute_late(&self, state: &mut State, statement: Statement) {
        let needs_runner = self.conflict(state) == Some(OnConflict::Reread);
        if !(needs_runner && self.collides(state, statement)) {
            self.execute_with(state, statement);
        }
    }

    fn execute_with(&self, state: &mut State, statement: Statement) -> u8 {
        let mut losers = 0;
        match statement {
            Statement::Copy { chunk, snapshot } => {
                for key in keys_of(chunk) {
                    let is_there = state.shadow[key] != ABSENT;
                    let value = self.source(state, snapshot, key);
                    state.has_duplicate |= self.rules.bare_copy && is_there && value != ABSENT;
                    let is_free = !is_there || !self.rules.copy_keeps_rows;
                    if is_free {
                        losers |= self.insert(state, key, snapshot, Claim::Stays);
                    }
                }
                if self.rules.chunk_state_with_rows {
                    state.copied |= 1 << chunk;
                }
            }
            Statement::Apply { keys, snapshot } => {
                let keys = (0..KEYS).filter(|key| keys & 1 << key != 0);
                // All leave their unique values before any is written.
                for key in keys.clone() {
                    let is_gone = self.source(state, snapshot, key) == ABSENT;
                    if !is_gone || self.rules.deletes {
                        state.shadow[key] = ABSENT;
                    }
                }
                for key in keys {
                    losers |= self.insert(state, key, snapshot, Claim::Goes);
                }
            }
        }
        losers
    }

    /// Writes the row as the snapshot has it, unless its value is taken and the taker stays. Returns the
    /// key that lost, if it is to be applied again.
    fn insert(&self, state: &mut State, key: usize, snapshot: Snapshot, taker: Claim) -> u8 {
        let value = self.source(state, snapshot, key);
        if value == ABSENT {
            return 0;
        }
        let Some((conflict, other)) = self.conflict(state).zip(holder(state, key, value)) else {
            state.shadow[key] = value;
            return 0;
        };
        let is_real = self.source(state, snapshot, other) == value;
        match conflict {
            OnConflict::Ignore => 0,
            OnConflict::LeaveOut => 1 << key,
            // Nothing but the application can settle it: the key waits, and cut-over is refused.
            OnConflict::TakeAway | OnConflict::Reread if is_real => 1 << key,
            OnConflict::TakeAway | OnConflict::TakeAwayBlindly if taker == Claim::Stays => 1 << key,
            OnConflict::TakeAway | OnConflict::TakeAwayBlindly => {
                replace(state, key, other, value);
                1 << other
            }
            OnConflict::Replace | OnConflict::Reread => {
                replace(state, key, other, value);
                0
            }
        }
    }

    /// What happens on a conflict, if there is an index that can find one.
    fn conflict(&self, state: &State) -> Option<OnConflict> {
        self.rules.unique.filter(|_| state.is_indexed).map(|unique| unique.on_conflict)
    }

    fn collides(&self, state: &State, statement: Statement) -> bool {
        let (keys, snapshot): (u8, _) = match statement {
            Statement::Copy { chunk, snapshot } => {
                let free = keys_of(chunk).filter(|&key| state.shadow[key] == ABSENT);
                (free.fold(0, |keys, key| keys | 1 << key), snapshot)
            }
            Statement::Apply { keys, snapshot } => (keys, snapshot),
        };
        (0..KEYS).filter(|key| keys & 1 << key != 0).any(|key| {
            let value = self.source(state, snapshot, key);
            let others = (0..KEYS).filter(|other| keys & 1 << other == 0);
            value != ABSENT && others.into_iter().any(|other| state.shadow[other] == value)
        })
    }

    /// Rows of different moments may collide while changes are still to come; the build waits for
    /// them. Only a build that drops duplicates can always go on.
    pub fn can_build_index(&self, state: &State) -> bool {
        let drops = self
            .rules
            .unique
            .is_some_and(|unique| matches!(unique.on_conflict, OnConflict::Ignore | OnConflict::Replace));
        drops || (0..KEYS).all(|key| holder(state, key, state.shadow[key]).is_none())
    }

    pub fn build_index(&self, state: &mut State) {
        for key in 0..KEYS {
            if holder(state, key, state.shadow[key]).is_some() {
                state.shadow[key] = ABSENT;
            }
        }
        state.is_indexed = true;
    }
}

/// What becomes of the row that has a value which another row is about to get.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Stays,
    Goes,
}

impl Statement {
    fn read_again(self, snapshot: Snapshot) -> Statement {
        match self {
            Statement::Copy { chunk, .. } => Statement::Copy { chunk, snapshot },
            Statement::Apply { keys, .. } => Statement::Apply { keys, snapshot },
        }
    }
}

/// The other row of the shadow that has this value.
fn holder(state: &State, key: usize, value: Value) -> Option<usize> {
    (0..KEYS).find(|&other| other != key && value != ABSENT && state.shadow[other] == value)
}

fn replace(state: &mut State, key: usize, other: usize, value: Value) {
    state.shadow[other] = ABSENT;
    state.shadow[key] = value;
}
