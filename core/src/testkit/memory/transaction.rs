//! What applications do to a table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::row::{Place, Row, RowMap, Shape};
use crate::value::Key;

/// One statement of an application. None of them can fail: what does not fit is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Inserts or updates.
    Put {
        /// The row.
        key: Key,
        /// Its new value, plain.
        value: String,
    },
    /// Deletes, if it is there.
    Delete {
        /// The row.
        key: Key,
    },
    /// Changes the key, if the old one is there and the new one is free.
    Rekey {
        /// From.
        old: Key,
        /// To.
        new: Key,
    },
    /// Takes or gives up a unique value, if the row is there, and nobody else has it where that matters.
    Claim {
        /// The row.
        key: Key,
        /// The value.
        unique: Option<String>,
    },
}

impl Op {
    /// Inserts or updates.
    pub fn put(key: &str, value: impl Into<String>) -> Self {
        Self::Put { key: Key(key.to_owned()), value: value.into() }
    }

    /// Deletes.
    #[must_use]
    pub fn delete(key: &str) -> Self {
        Self::Delete { key: Key(key.to_owned()) }
    }

    /// Changes the key.
    #[must_use]
    pub fn rekey(old: &str, new: &str) -> Self {
        Self::Rekey { old: Key(old.to_owned()), new: Key(new.to_owned()) }
    }

    /// Takes a unique value.
    #[must_use]
    pub fn claim(key: &str, unique: Option<&str>) -> Self {
        Self::Claim { key: Key(key.to_owned()), unique: unique.map(ToOwned::to_owned) }
    }
}

/// What two transactions cannot have at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowLock {
    Place(Place),
    Unique(String),
}

pub(super) fn row_locks(ops: &[Op]) -> BTreeSet<RowLock> {
    let mut locks = BTreeSet::new();
    for op in ops {
        match op {
            Op::Put { key, .. } | Op::Delete { key } => {
                locks.insert(RowLock::Place(Place::of(key)));
            }
            Op::Rekey { old, new } => {
                locks.insert(RowLock::Place(Place::of(old)));
                locks.insert(RowLock::Place(Place::of(new)));
            }
            Op::Claim { key, unique } => {
                locks.insert(RowLock::Place(Place::of(key)));
                locks.extend(unique.clone().map(RowLock::Unique));
            }
        }
    }
    locks
}

/// What became of a transaction's statements.
#[derive(Debug, Clone, Default)]
pub(super) struct Effect {
    /// Those that did something, so that they can be repeated elsewhere without asking again.
    pub done: Vec<Op>,
    /// Every key that was touched, in order, with the place's row afterwards.
    pub touched: Vec<Touched>,
}

#[derive(Debug, Clone)]
pub(super) struct Touched {
    pub key: Key,
    /// The row was absent before or is absent now.
    pub removed: bool,
}

/// Carries statements out on rows of a shape. `is_enforced`: a unique value that another row has is not
/// taken.
pub(super) fn perform(ops: &[Op], rows: &mut RowMap, shape: Shape, is_enforced: bool) -> Effect {
    let mut effect = Effect::default();
    for op in ops {
        let touched = match op {
            Op::Put { key, value } => vec![put(rows, key, shape.write(value))],
            Op::Delete { key } => rows
                .remove(&Place::of(key))
                .map(|row| Touched { key: row.key.clone(), removed: true })
                .into_iter()
                .collect(),
            Op::Rekey { old, new } => rekey(rows, old, new),
            Op::Claim { key, unique } => claim(rows, key, unique.as_ref(), is_enforced),
        };
        if !touched.is_empty() {
            effect.done.push(op.clone());
            effect.touched.extend(touched);
        }
    }
    effect
}

fn put(rows: &mut RowMap, key: &Key, value: String) -> Touched {
    match rows.get_mut(&Place::of(key)) {
        Some(row) => {
            let row = Arc::make_mut(row);
            row.value = value;
            row.version += 1;
            Touched { key: row.key.clone(), removed: false }
        }
        None => {
            let row = Row { key: key.clone(), value, version: 1, unique: None };
            rows.insert(Place::of(key), Arc::new(row));
            Touched { key: key.clone(), removed: true }
        }
    }
}

fn rekey(rows: &mut RowMap, old: &Key, new: &Key) -> Vec<Touched> {
    let (from, to) = (Place::of(old), Place::of(new));
    if from != to && rows.contains_key(&to) {
        return Vec::new();
    }
    let Some(mut row) = rows.remove(&from) else { return Vec::new() };
    let moved = Arc::make_mut(&mut row);
    let left = Touched { key: std::mem::replace(&mut moved.key, new.clone()), removed: true };
    moved.version += 1;
    rows.insert(to, row);
    vec![left, Touched { key: new.clone(), removed: true }]
}

fn claim(rows: &mut RowMap, key: &Key, unique: Option<&String>, is_enforced: bool) -> Vec<Touched> {
    let place = Place::of(key);
    let is_taken = unique.is_some()
        && is_enforced
        && rows.iter().any(|(other, row)| *other != place && row.unique.as_ref() == unique);
    match rows.get_mut(&place) {
        Some(row) if !is_taken => {
            let row = Arc::make_mut(row);
            row.unique = unique.cloned();
            row.version += 1;
            vec![Touched { key: row.key.clone(), removed: false }]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ops: &[Op]) -> Vec<(String, String, u64, Option<String>)> {
        let mut rows = RowMap::new();
        perform(ops, &mut rows, Shape::Old, true);
        let seen = |row: &Arc<Row>| (row.key.0.clone(), row.value.clone(), row.version, row.unique.clone());
        rows.values().map(seen).collect()
    }

    #[test]
    fn statements_do_what_they_say_and_skip_what_does_not_fit() {
        let ops = [
            Op::put("a", "1"),
            Op::put("A", "2"),
            Op::put("b", "1"),
            Op::rekey("a", "b"),
            Op::claim("a", Some("u")),
            Op::claim("b", Some("u")),
            Op::rekey("b", "c"),
            Op::delete("missing"),
        ];
        assert_eq!(
            after(&ops),
            [("a".into(), "2".into(), 3, Some("u".into())), ("c".into(), "1".into(), 2, None)]
        );
    }

    #[test]
    fn a_key_change_touches_both_keys_and_a_skipped_statement_none() {
        let mut rows = RowMap::new();
        let ops = [Op::put("a", "1"), Op::rekey("a", "b"), Op::delete("a")];
        let effect = perform(&ops, &mut rows, Shape::New, true);
        let keys: Vec<_> = effect.touched.iter().map(|touched| touched.key.0.as_str()).collect();
        assert_eq!(keys, ["a", "a", "b"]);
        assert_eq!(effect.done, ops[..2]);
        assert_eq!(rows.values().next().map(|row| row.value.as_str()), Some("#1"));
    }
}
