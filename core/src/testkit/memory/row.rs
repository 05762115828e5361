//! Rows, in two shapes, in the server's own key order.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::value::{Change, Key, Lane};

/// A row. `value` is written in the table's shape; `unique` is indexed where the table has such an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key as the application wrote it.
    pub key: Key,
    /// What it holds.
    pub value: String,
    /// Counts the writes since the row was inserted.
    pub version: u64,
    /// A value that a unique index may cover.
    pub unique: Option<String>,
}

/// The rows of a table. Shared, so that a snapshot costs nothing, and a changed copy little.
pub type Rows = Arc<RowMap>;

/// Rows by their place.
pub type RowMap = BTreeMap<Place, Arc<Row>>;

/// Where a key stands in the server's order. Two keys with one place are the same key to the server.
///
/// The order is by the reversed text without case, and so agrees with no order that core could think of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Arc<str>);

impl Place {
    /// The place of a key.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        Self(key.0.chars().rev().flat_map(char::to_lowercase).collect::<String>().into())
    }
}

/// The two shapes of a table. They hold the same things, written differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it was made.
    Old,
    /// As the change leaves it.
    New,
}

impl Shape {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    /// How this shape writes a plain value.
    #[must_use]
    pub fn write(self, plain: &str) -> String {
        match self {
            Self::Old => plain.to_owned(),
            Self::New => format!("#{plain}"),
        }
    }

    /// The plain value. A value in the wrong shape comes out marked, so that it equals nothing.
    #[must_use]
    pub fn read(self, value: &str) -> String {
        match self {
            Self::Old if value.starts_with('#') => format!("unconverted {value}"),
            Self::Old => value.to_owned(),
            Self::New => {
                value.strip_prefix('#').map_or_else(|| format!("unconverted {value}"), ToOwned::to_owned)
            }
        }
    }
}

/// The row as a table of another shape holds it: the one transform, used by copy, apply and compare.
#[must_use]
pub fn convert(row: &Row, from: Shape, to: Shape) -> Row {
    Row { value: to.write(&from.read(&row.value)), ..row.clone() }
}

/// The change of a row, with its lane: by place, since keys that the server calls equal share one.
#[must_use]
pub fn change(key: &Key, lanes: u16, removed: bool) -> Change {
    let hash = Place::of(key).0.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31) + u32::from(byte));
    let lane = u16::try_from(hash % u32::from(lanes.max(1))).expect("below the number of lanes");
    Change { key: key.clone(), lane: Lane(lane), removed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_equality_are_the_servers_own() {
        let place = |text: &str| Place::of(&Key(text.to_owned()));
        assert!(place("k10") < place("k2"));
        assert!(place("a9") > place("b1"));
        assert_eq!(place("K7"), place("k7"));
        assert_eq!(change(&Key("K7".into()), 3, false).lane, change(&Key("k7".into()), 3, false).lane);
    }

    #[test]
    fn conversion_goes_both_ways_and_an_unconverted_value_shows() {
        let row = Row { key: Key("k".into()), value: "5".into(), version: 1, unique: None };
        let new = convert(&row, Shape::Old, Shape::New);
        assert_eq!(new.value, "#5");
        assert_eq!(convert(&new, Shape::New, Shape::Old), row);
        assert_eq!(Shape::New.read("5"), "unconverted 5");
    }
}
