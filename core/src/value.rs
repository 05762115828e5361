//! What travels between a feed and the engine: keys, lanes and positions, all opaque to core.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A row's key in its driver's own injective encoding.
///
/// Core may ask whether two encodings are the same bytes (then they are the same key), never which
/// comes first, and never whether different bytes are different keys: the server's collation decides
/// both. Keys that the server may call equal share a [`Lane`].
// Text, so that checkpoints are readable; drivers encode binary values inside it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Key(pub String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Changes of one lane are applied one batch after the other. All keys that the server may call equal
/// have the same lane (R2); when a driver is unsure, everything has lane 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lane(pub u16);

/// A place in a change feed. Only the driver that made it can compare it with another.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Position(pub String);

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A row that a committed transaction touched. It carries no values: they are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which row. A key change arrives as two changes, of the old key and of the new.
    pub key: Key,
    /// Where it queues.
    pub lane: Lane,
    /// The row was absent at some moment since the change before. Matters where the written table has
    /// columns that the read one lacks: a row that was deleted and inserted again starts afresh there.
    pub removed: bool,
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hex digits; `None` for anything else.
#[must_use]
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

/// A key range, as the server ordered it: rows with `lower < key <= upper`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Exclusive; `None` is the start of the table.
    pub lower: Option<Key>,
    /// Inclusive; `None` is the end of the table, whatever is inserted there meanwhile.
    pub upper: Option<Key>,
}

impl Bounds {
    /// Every row.
    #[must_use]
    pub fn all() -> Self {
        Self { lower: None, upper: None }
    }
}
