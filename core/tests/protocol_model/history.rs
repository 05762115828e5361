//! What the application does: transactions that reach the log first and become visible later.
//!
//! A history is a fixed list of transactions over a few keys; their order is the log's order. When
//! each is logged and when each becomes visible to a new read is left to the checker, within what
//! servers guarantee: a transaction is logged no later than it is visible, and one that touches a row
//! of an earlier one waits for that row's lock, which is released only when the earlier one is visible.
//! Transactions that share no row may become visible in any order. (A log that can be read only
//! after the commit is visible needs no state of its own: the feed may be pulled as late as it likes.)

use std::fmt::{self, Display, Formatter};

/// Rows are keyed `0..KEYS`; keys `0` and `1` are always used, the last one only by some histories.
pub const KEYS: usize = 3;

/// What a row holds; `ABSENT` is no row.
pub type Value = u8;
pub const ABSENT: Value = 0;

/// The table at one moment.
pub type Rows = [Value; KEYS];

/// Which transactions a read sees, one bit each: a snapshot.
pub type Snapshot = u8;

/// One statement of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Insert or update with a value of its own.
    Put(usize),
    /// Insert or update with this value, one that other rows may hold at other times.
    Set(usize, Value),
    Delete(usize),
    /// The row changes its key: the feed reports the old and the new one.
    Move(usize, usize),
}

/// A list of transactions with everything derived from it computed once.
#[derive(Clone, Debug)]
pub struct History {
    transactions: Vec<Transaction>,
    before: Rows,
}

#[derive(Clone, Debug, Default)]
struct Transaction {
    changes: Vec<Change>,
    /// Bit mask of the keys that it touches.
    keys: u8,
    /// Bit mask of the small values that it takes or gives up.
    values: u8,
    /// Earlier transactions that must be visible before it can commit.
    waits_for: Snapshot,
    /// The rows after it.
    after: Rows,
}

impl Display for History {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "rows {:?}", self.before)?;
        self.transactions.iter().try_for_each(|transaction| write!(f, ", then {:?}", transaction.changes))
    }
}

/// Whether the source has a unique index over the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    Any,
    /// Who takes a value waits, as for a row lock, until the one who gave it up is visible.
    Unique,
}

impl History {
    /// `before` names the keys that exist at the start.
    pub fn new(before: &[usize], transactions: &[&[Change]]) -> History {
        let mut rows = [ABSENT; KEYS];
        for &key in before {
            rows[key] = 101 + key as Value;
        }
        History::from_rows(rows, Values::Any, transactions)
    }

    pub fn from_rows(before: Rows, values: Values, transactions: &[&[Change]]) -> History {
        let start = History { transactions: vec![], before };
        transactions.iter().fold(start, |history, changes| history.followed_by(values, changes))
    }

    /// The same history with one more transaction.
    pub fn followed_by(&self, values: Values, changes: &[Change]) -> History {
        let mut rows = self.rows_at_end();
        let mut transaction = Transaction::default();
        for (nth, change) in changes.iter().enumerate() {
            let fresh = (10 * self.len() + nth) as Value + 1;
            transaction.make(*change, fresh, &mut rows);
        }
        transaction.changes = changes.to_vec();
        transaction.after = rows;
        for (earlier, blocking) in self.transactions.iter().enumerate() {
            let shares_value = values == Values::Unique && blocking.values & transaction.values != 0;
            if blocking.keys & transaction.keys != 0 || shares_value {
                transaction.waits_for |= 1 << earlier;
            }
        }
        let mut longer = self.clone();
        longer.transactions.push(transaction);
        longer
    }

    pub fn rows_at_end(&self) -> Rows {
        self.transactions.last().map_or(self.before, |last| last.after)
    }

    /// The largest value of any row at any time.
    pub fn largest_value(&self) -> Value {
        let after = self.transactions.iter().flat_map(|transaction| transaction.after);
        after.chain(self.before).fold(ABSENT, Value::max)
    }

    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether the transaction holds all its locks and can write its log record.
    pub fn can_commit(&self, transaction: usize, visible: Snapshot) -> bool {
        let needed = self.transactions[transaction].waits_for;
        visible & needed == needed
    }

    pub fn touches(&self, transaction: usize, key: usize) -> bool {
        self.transactions[transaction].keys & 1 << key != 0
    }

    /// The statements of a transaction, as a feed that keeps their order would give them.
    pub fn changes(&self, transaction: usize) -> &[Change] {
        &self.transactions[transaction].changes
    }

    pub fn before(&self) -> Rows {
        self.before
    }

    /// The row as a read with this snapshot finds it.
    pub fn row(&self, snapshot: Snapshot, key: usize) -> Value {
        (0..self.len())
            .rev()
            .find(|&index| snapshot & 1 << index != 0 && self.touches(index, key))
            .map_or(self.before[key], |index| self.transactions[index].after[key])
    }

    pub fn rows(&self, snapshot: Snapshot) -> Rows {
        std::array::from_fn(|key| self.row(snapshot, key))
    }

    /// Whether `value` is what the row held once every change of it before log position `position`
    /// had happened, at that moment or later.
    pub fn is_as_new_as(&self, key: usize, value: Value, position: usize) -> bool {
        let claimed: Snapshot = (0..position).fold(0, |mask, index| mask | 1 << index);
        let is_later =
            |index: usize| self.touches(index, key) && self.transactions[index].after[key] == value;
        value == self.row(claimed, key) || (position..self.len()).any(is_later)
    }
}

impl Transaction {
    fn make(&mut self, change: Change, fresh: Value, rows: &mut Rows) {
        let written: &[(usize, Value)] = match change {
            Change::Put(key) => &[(key, fresh)],
            Change::Set(key, value) => &[(key, value)],
            Change::Delete(key) => {
                assert_ne!(rows[key], ABSENT, "a history deletes only rows that exist");
                &[(key, ABSENT)]
            }
            Change::Move(from, to) => {
                assert_ne!(rows[from], ABSENT, "a history moves only rows that exist");
                assert_eq!(rows[to], ABSENT, "a history moves rows only to free keys");
                &[(to, rows[from]), (from, ABSENT)]
            }
        };
        for &(key, value) in written {
            self.keys |= 1 << key;
            for taken_or_left in [rows[key], value] {
                self.values |= 1u8.checked_shl(taken_or_left.into()).unwrap_or(0);
            }
            rows[key] = value;
        }
    }
}
