//! The histories that the models go through, one for all that differ only in what things are called.

use crate::history::{ABSENT, Change, History, KEYS, Rows, Value, Values};
use Change::{Delete, Move, Put, Set};

/// Every history of this many one-statement transactions over two keys, one or both there at first.
pub fn every(length: usize) -> Vec<History> {
    let statements = |history: &History| {
        let rows = history.rows_at_end();
        let of_key = |key: usize| {
            let other = 1 - key;
            let mut statements = vec![vec![Put(key)]];
            if rows[key] != ABSENT {
                statements.push(vec![Delete(key)]);
                if rows[other] == ABSENT {
                    statements.push(vec![Move(key, other)]);
                }
            }
            statements
        };
        [of_key(0), of_key(1)].concat()
    };
    extend([[7, ABSENT, ABSENT], [7, 7, ABSENT]], length, Values::Any, statements)
}

/// Histories in which a source with a unique index hands its values from row to row, each by one
/// statement, or swaps them in one transaction.
pub fn every_with_unique_values(length: usize) -> Vec<History> {
    let statements = |history: &History| {
        let rows = history.rows_at_end();
        let mut statements = vec![];
        for (key, value) in two_keys_times_values(3.min(history.largest_value() + 1)) {
            let is_taken = value != ABSENT && rows[1 - key] == value;
            if rows[key] != value && !is_taken {
                statements.push(vec![set_or_delete(key, value)]);
            }
        }
        if rows[0] != ABSENT && rows[1] != ABSENT {
            statements.push(vec![Set(0, rows[1]), Set(1, rows[0])]);
        }
        statements
    };
    extend([[1, ABSENT, ABSENT], [1, 2, ABSENT]], length, Values::Unique, statements)
}

/// Histories of a source without the unique index that the shadow has: two rows may hold one value.
pub fn every_with_duplicates(length: usize) -> Vec<History> {
    let statements = |history: &History| {
        let rows = history.rows_at_end();
        let sets = two_keys_times_values(2).filter(|&(key, value)| rows[key] != value);
        sets.map(|(key, value)| vec![set_or_delete(key, value)]).collect()
    };
    extend([[1, ABSENT, ABSENT], [1, 1, ABSENT]], length, Values::Any, statements)
}

/// Three rows, two in one chunk and two in one lane, changed by transactions of several statements:
/// chains of key moves across chunks and lanes, and keys that are used again.
pub fn with_three_rows() -> Vec<History> {
    vec![
        History::new(&[0, 1], &[&[Move(1, 2), Move(0, 1)], &[Move(2, 0)]]),
        History::new(&[0, 1, 2], &[&[Delete(0), Move(2, 0)], &[Put(2), Put(1)]]),
        History::new(&[0, 2], &[&[Move(0, 1), Move(2, 0), Move(1, 2)], &[Delete(2)]]),
        History::new(&[1], &[&[Put(0), Put(2)], &[Delete(1), Move(2, 1)], &[Delete(0)]]),
        History::new(&[0, 1, 2], &[&[Put(0)], &[Put(1)], &[Delete(2), Move(0, 2)]]),
    ]
}

fn two_keys_times_values(values: Value) -> impl Iterator<Item = (usize, Value)> {
    (0..2).flat_map(move |key| (ABSENT..=values).map(move |value| (key, value)))
}

fn set_or_delete(key: usize, value: Value) -> Change {
    if value == ABSENT { Delete(key) } else { Set(key, value) }
}

/// Every sequence of transactions from each of the two starts. `statements` says what can be done next.
///
/// Keys 0 and 1 are each alone in their chunk and lane, so it makes no difference which is which: where
/// both are there at first, key 0 is changed first. In the same way a value that is new is the next one.
fn extend(
    starts: [Rows; 2],
    length: usize,
    values: Values,
    statements: impl Fn(&History) -> Vec<Vec<Change>>,
) -> Vec<History> {
    let mut histories: Vec<_> =
        starts.into_iter().map(|before| History::from_rows(before, values, &[])).collect();
    for _ in 0..length {
        histories = histories
            .iter()
            .flat_map(|history| {
                let is_symmetric = history.len() == 0 && history.before()[1] != ABSENT;
                let next = statements(history).into_iter();
                next.map(|changes| history.followed_by(values, &changes))
                    .filter(move |longer| !is_symmetric || longer.touches(0, 0))
            })
            .collect();
    }
    histories
}

const _: () = assert!(KEYS == 3, "the starts above name three rows");
