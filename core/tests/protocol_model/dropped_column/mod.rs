//! The reverse feed of a dropped column: the retired table has values that nobody can read again.
//!
//! After DROP COLUMN was cut over, the live table has no trace of the column, and the retired table
//! keeps its values. The reverse feed has to carry each row's value along: through updates of the
//! other columns, through changes of the key, and no further than the row's life: a row that is deleted
//! and inserted again starts with the default. That is what the blocking DDL's table would hold.
//!
//! Here the feed cannot be keys alone, and applying a change twice is not the same as applying it
//! once: a key change moves whatever row is there now.
//!
//! Invariant: whenever the feed is drained, each row of the retired table has the live row's value and
//! the column's value of the same row.

mod tests;

use stateright::{Model, Property};

use crate::check::Story;
use crate::history::{ABSENT, Change, History, KEYS, Snapshot, Value};

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The position is saved in the transaction that applies a batch. Otherwise it is behind the data.
    pub position_with_batch: bool,
    /// The feed tells that a row was deleted, even if its key is back.
    pub deleted_in_between: bool,
    /// A key change takes the row along.
    pub moves: bool,
    /// A row is deleted because the feed says so, not because it cannot be read now: it may have
    /// moved, and that change is still to come.
    pub absent_rows_wait: bool,
}

impl Rules {
    pub const KEPT: Rules =
        Rules { position_with_batch: true, deleted_in_between: true, moves: true, absent_rows_wait: true };
}

#[derive(Clone, Debug)]
pub struct DroppedColumn {
    pub histories: Vec<History>,
    pub rules: Rules,
    pub crashes: u8,
}

pub const CARRIES_VALUES: &str = "each row keeps the dropped column's value for life";

/// A row of the retired table: the columns that both tables have, and the dropped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    shared: Value,
    dropped: Value,
}

const DEFAULT: Value = 0;

type Retired = [Option<Row>; KEYS];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    history: u16,
    committed: u8,
    visible: Snapshot,
    retired: Retired,
    saved: u8,
    runner: Option<Runner>,
    crashes_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Runner {
    applied: u8,
    /// The transactions of the batch in flight, up to here, and what it has read.
    batch: Option<(u8, Snapshot)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Commit,
    Show(usize),
    /// Reads the rows of a batch that ends before this position.
    ReadBatch(u8),
    WriteBatch,
    /// The runner dies having saved this position; its statement has failed.
    Crash(u8),
    TakeOver,
}

impl DroppedColumn {
    fn history(&self, state: &State) -> &History {
        &self.histories[state.history as usize]
    }

    /// What the blocking DDL's table would hold: every change in order, the row as a whole.
    fn ideal(&self, history: &History) -> Retired {
        let mut rows = at_first(history);
        for transaction in 0..history.len() {
            for change in history.changes(transaction) {
                match *change {
                    Change::Put(key) | Change::Set(key, _) => {
                        rows[key].get_or_insert(Row { shared: ABSENT, dropped: DEFAULT });
                    }
                    Change::Delete(key) => rows[key] = None,
                    Change::Move(from, to) => rows[to] = rows[from].take(),
                }
            }
        }
        let everything = (1 << history.len()) - 1;
        for (key, row) in rows.iter_mut().enumerate() {
            if let Some(row) = row {
                row.shared = history.row(everything, key);
            }
        }
        rows
    }

    /// One change of the feed, with the row's shared columns read again.
    fn apply(&self, history: &History, retired: &mut Retired, change: Change, snapshot: Snapshot) {
        match change {
            Change::Put(key) | Change::Set(key, _) => self.refresh(history, retired, key, snapshot),
            Change::Delete(key) if self.rules.deleted_in_between => retired[key] = None,
            Change::Delete(key) => self.refresh(history, retired, key, snapshot),
            Change::Move(from, to) if self.rules.moves => {
                if let Some(row) = retired[from].take() {
                    retired[to] = Some(row);
                }
                self.refresh(history, retired, to, snapshot);
            }
            Change::Move(from, to) => {
                retired[from] = None;
                self.refresh(history, retired, to, snapshot);
            }
        }
    }

    fn refresh(&self, history: &History, retired: &mut Retired, key: usize, snapshot: Snapshot) {
        match history.row(snapshot, key) {
            ABSENT if self.rules.deleted_in_between && self.rules.absent_rows_wait => {}
            ABSENT => retired[key] = None,
            shared => {
                let dropped = retired[key].map_or(DEFAULT, |row| row.dropped);
                retired[key] = Some(Row { shared, dropped });
            }
        }
    }

    fn is_complete(&self, state: &State) -> bool {
        let length = self.history(state).len() as u8;
        state.runner == Some(Runner { applied: length, batch: None })
    }
}

fn at_first(history: &History) -> Retired {
    let before = history.before();
    std::array::from_fn(|key| {
        let row = Row { shared: before[key], dropped: 201 + key as Value };
        (before[key] != ABSENT).then_some(row)
    })
}

impl Model for DroppedColumn {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let start = |(index, history): (usize, &History)| State {
            history: index as u16,
            committed: 0,
            visible: 0,
            retired: at_first(history),
            saved: 0,
            runner: Some(Runner { applied: 0, batch: None }),
            crashes_left: self.crashes,
        };
        self.histories.iter().enumerate().map(start).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let history = self.history(state);
        let next = state.committed as usize;
        if next < history.len() && history.can_commit(next, state.visible) {
            actions.push(Action::Commit);
        }
        let is_visible = |transaction: u8| state.visible & 1 << transaction != 0;
        actions.extend((0..state.committed).filter(|&t| !is_visible(t)).map(|t| Action::Show(t.into())));
        let Some(runner) = state.runner else {
            actions.push(Action::TakeOver);
            return;
        };
        match runner.batch {
            None => {
                let settled = (runner.applied..state.committed).take_while(|&t| is_visible(t));
                actions.extend(settled.map(|last| Action::ReadBatch(last + 1)));
            }
            Some(_) => actions.push(Action::WriteBatch),
        }
        if state.crashes_left > 0 {
            let newest = if self.rules.position_with_batch { state.saved } else { runner.applied };
            actions.extend((state.saved..=newest).map(Action::Crash));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Commit => next.committed += 1,
            Action::Show(transaction) => next.visible |= 1 << transaction,
            Action::ReadBatch(end) => {
                next.runner.as_mut()?.batch = Some((end, state.visible));
            }
            Action::WriteBatch => {
                let runner = next.runner.as_mut()?;
                let (end, snapshot) = runner.batch.take()?;
                let history = self.history(state);
                for transaction in runner.applied..end {
                    for change in history.changes(transaction.into()) {
                        self.apply(history, &mut next.retired, *change, snapshot);
                    }
                }
                runner.applied = end;
                if self.rules.position_with_batch {
                    next.saved = end;
                }
            }
            Action::Crash(saved) => {
                next.saved = saved;
                next.runner = None;
                next.crashes_left -= 1;
            }
            Action::TakeOver => next.runner = Some(Runner { applied: state.saved, batch: None }),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(CARRIES_VALUES, |model: &Self, state: &State| {
                !model.is_complete(state) || state.retired == model.ideal(model.history(state))
            }),
            Property::sometimes("a run completes after the last crash", |model: &Self, state: &State| {
                model.is_complete(state) && state.crashes_left == 0
            }),
        ]
    }
}

impl Story for DroppedColumn {
    fn opening(&self, start: &State) -> String {
        self.history(start).to_string()
    }
}
