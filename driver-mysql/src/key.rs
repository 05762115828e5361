//! Keys as text that core carries: exact and injective, so that a checkpoint holds every value, whether it
//! came from a row event or from a query.

use mysql_async::Row;
use replank_core::ident::stable_hash;
use replank_core::value::{Key, Lane, hex, unhex};
use replank_core::{Error, ErrorKind, Result};
use serde_json::{Value as Json, json};

use crate::spec::{KeyColumn, KeyKind};
use crate::sql::{bytes, get, ident, text};

/// One value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An integer, a decimal or a year, as the server prints it.
    Number(String),
    /// A date or a time, as the server prints it with all its digits; a timestamp in UTC.
    Time(String),
    /// Text that is UTF-8, in a column of such a character set.
    Text(String),
    /// The bytes of a binary column, or of text in any other character set.
    Bytes(Vec<u8>),
}

/// The values of a key's columns, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(pub Vec<Value>);

impl Value {
    /// The bytes that a column holds, in its own character set.
    pub fn of_bytes(kind: &KeyKind, held: Vec<u8>) -> Self {
        match kind {
            KeyKind::Text { charset } if is_utf8(charset) => match String::from_utf8(held) {
                Ok(text) => Self::Text(text),
                Err(error) => Self::Bytes(error.into_bytes()),
            },
            _ => Self::Bytes(held),
        }
    }

    /// What to write in a statement so that the server compares it with the column by the column's own type
    /// and collation, through its index.
    fn literal(&self, kind: &KeyKind) -> String {
        let charset = match kind {
            KeyKind::Text { charset } => charset,
            _ => "binary",
        };
        match self {
            Self::Number(number) => number.clone(),
            Self::Time(time) => text(time),
            Self::Text(text) => bytes(charset, text.as_bytes()),
            Self::Bytes(held) => bytes(charset, held),
        }
    }
}

impl Values {
    /// The key that core carries: `[["n","5"],["t","2026-01-02"],["s","x"],["b","00ff"]]`.
    pub fn encode(&self) -> Key {
        let parts: Vec<Json> = self
            .0
            .iter()
            .map(|value| match value {
                Value::Number(number) => json!(["n", number]),
                Value::Time(time) => json!(["t", time]),
                Value::Text(text) => json!(["s", text]),
                Value::Bytes(held) => json!(["b", hex(held)]),
            })
            .collect();
        Key(Json::Array(parts).to_string())
    }

    /// Reads a key of these columns.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a text that was not made for them.
    pub fn decode(key: &Key, columns: &[KeyColumn]) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Internal, "a key of another table or driver").with("key", key);
        let parts: Vec<(String, String)> = serde_json::from_str(&key.0).map_err(|_| wrong())?;
        if parts.len() != columns.len() {
            return Err(wrong());
        }
        let value = |(tag, held): (String, String)| {
            Some(match tag.as_str() {
                "n" if is_number(&held) => Value::Number(held),
                "t" => Value::Time(held),
                "s" => Value::Text(held),
                "b" => Value::Bytes(unhex(&held)?),
                _ => return None,
            })
        };
        parts.into_iter().map(|part| value(part).ok_or_else(wrong)).collect::<Result<_>>().map(Self)
    }

    /// Reads the values that [`selected`] asked for, starting at the row's column `at`.
    pub fn read(row: &Row, at: usize, columns: &[KeyColumn]) -> Result<Self> {
        let one = |(index, column): (usize, &KeyColumn)| {
            Ok(match column.kind {
                KeyKind::Integer { .. } | KeyKind::Decimal | KeyKind::Year => {
                    Value::Number(get(row, at + index)?)
                }
                KeyKind::Date
                | KeyKind::DateTime { .. }
                | KeyKind::Timestamp { .. }
                | KeyKind::Time { .. } => Value::Time(get(row, at + index)?),
                KeyKind::Text { .. } | KeyKind::Binary { .. } => {
                    let digits: String = get(row, at + index)?;
                    let held = unhex(&digits).ok_or_else(|| {
                        Error::new(ErrorKind::Internal, "a key column did not come as digits")
                    })?;
                    Value::of_bytes(&column.kind, held)
                }
            })
        };
        columns.iter().enumerate().map(one).collect::<Result<_>>().map(Self)
    }

    /// Literals of the values, in order.
    pub fn literals(&self, columns: &[KeyColumn]) -> Vec<String> {
        self.0.iter().zip(columns).map(|(value, column)| value.literal(&column.kind)).collect()
    }

    /// Where the key queues (R2). Only where equal values always have one text are there several lanes; a
    /// collation may call any two texts equal.
    pub fn lane(&self, columns: &[KeyColumn], lanes: u16) -> Lane {
        let is_exact = columns
            .iter()
            .all(|column| matches!(column.kind, KeyKind::Integer { .. } | KeyKind::Binary { .. }));
        if !is_exact || lanes < 2 {
            return Lane(0);
        }
        // A checkpoint may hold a lane.
        let hash = stable_hash(&self.encode().0);
        Lane((hash % u64::from(lanes)) as u16)
    }
}

/// What to select so that [`Values::read`] can read a key, of a table's columns by these names.
pub fn selected(table: &str, columns: &[KeyColumn], name: impl Fn(&KeyColumn) -> &str) -> String {
    let one = |column: &KeyColumn| {
        let held = format!("{table}.{}", ident(name(column)));
        match column.kind {
            // As it is stored; the session would have it converted to its own character set.
            KeyKind::Text { .. } | KeyKind::Binary { .. } => format!("HEX({held})"),
            _ => format!("CAST({held} AS CHAR)"),
        }
    };
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A type whose equal values may be written unequally.
pub fn is_floating(data_type: &str) -> bool {
    matches!(data_type, "float" | "double")
}

fn is_utf8(charset: &str) -> bool {
    matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii")
}

/// Whether it may stand in a statement as it is.
fn is_number(held: &str) -> bool {
    !held.is_empty() && held.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(kind: KeyKind) -> KeyColumn {
        KeyColumn { source: "k".to_owned(), written: "k".to_owned(), ordinal: 0, kind }
    }

    fn columns() -> Vec<KeyColumn> {
        vec![
            column(KeyKind::Integer { unsigned: false }),
            column(KeyKind::Text { charset: "utf8mb4".to_owned() }),
            column(KeyKind::Binary { length: None }),
        ]
    }

    fn values() -> impl Strategy<Value = Values> {
        (any::<i64>(), any::<String>(), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(n, s, b)| Values(vec![Value::Number(n.to_string()), Value::Text(s), Value::Bytes(b)]))
    }

    proptest! {
        #[test]
        fn every_key_comes_back(values in values()) {
            prop_assert_eq!(Values::decode(&values.encode(), &columns()).expect("own key"), values);
        }

        #[test]
        fn different_keys_have_different_text(a in values(), b in values()) {
            prop_assert_eq!(a == b, a.encode() == b.encode());
        }
    }

    #[test]
    fn literals_are_in_the_columns_own_character_set() {
        let values = Values(vec![
            Value::Number("-5".to_owned()),
            Value::of_bytes(&KeyKind::Text { charset: "latin1".to_owned() }, vec![0xe9]),
        ]);
        let columns = [
            column(KeyKind::Integer { unsigned: false }),
            column(KeyKind::Text { charset: "latin1".into() }),
        ];
        assert_eq!(values.literals(&columns), ["-5", "_latin1 x'e9'"]);
    }

    #[test]
    fn text_has_one_lane_and_numbers_have_several() {
        let text = [column(KeyKind::Text { charset: "utf8mb4".to_owned() })];
        assert_eq!(Values(vec![Value::Text("a".to_owned())]).lane(&text, 8), Lane(0));
        let number = [column(KeyKind::Integer { unsigned: true })];
        let lanes: std::collections::BTreeSet<_> =
            (0..100).map(|n| Values(vec![Value::Number(n.to_string())]).lane(&number, 8)).collect();
        assert_eq!(lanes.len(), 8);
    }

    #[test]
    fn a_key_of_another_shape_is_an_internal_error() {
        for text in ["", "[]", "[[\"n\",\"5\"]]", "[[\"n\",\"1;\"],[\"s\",\"\"],[\"b\",\"\"]]"] {
            let error = Values::decode(&Key(text.to_owned()), &columns()).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }
}
