//! Keys as text that core carries: typed and injective, so that a checkpoint holds every value exactly.

use replank_core::value::{Key, hex, unhex};
use replank_core::{Error, ErrorKind, Result};
use serde_json::{Value as Json, json};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row, Sqlite};

use crate::error::from_sqlx;
use crate::sql::ident;

/// One value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// The bits of a floating point number, so that every one has its own text.
    Real(u64),
    /// Text.
    Text(String),
    /// Text that is not UTF-8, which SQLite stores without a word.
    Bytes(Vec<u8>),
    /// A blob.
    Blob(Vec<u8>),
}

/// The values of a key's columns, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(pub Vec<Value>);

impl Values {
    /// The key that core carries: `[["i",5],["t","x"],["b","00ff"]]`.
    pub fn encode(&self) -> Key {
        let parts: Vec<Json> = self
            .0
            .iter()
            .map(|value| match value {
                Value::Integer(number) => json!(["i", number]),
                Value::Real(bits) => json!(["r", format!("{bits:016x}")]),
                Value::Text(text) => json!(["t", text]),
                Value::Bytes(bytes) => json!(["x", hex(bytes)]),
                Value::Blob(bytes) => json!(["b", hex(bytes)]),
            })
            .collect();
        Key(Json::Array(parts).to_string())
    }

    /// Reads a key of `count` columns.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a text that no driver of this kind wrote.
    pub fn decode(key: &Key, count: usize) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Internal, "a key of another table or driver").with("key", key);
        let parts: Vec<(String, Json)> = serde_json::from_str(&key.0).map_err(|_| wrong())?;
        if parts.len() != count {
            return Err(wrong());
        }
        let value = |(tag, json): (String, Json)| {
            Some(match (tag.as_str(), json) {
                ("i", Json::Number(number)) => Value::Integer(number.as_i64()?),
                ("r", Json::String(bits)) => Value::Real(u64::from_str_radix(&bits, 16).ok()?),
                ("t", Json::String(text)) => Value::Text(text),
                ("x", Json::String(digits)) => Value::Bytes(unhex(&digits)?),
                ("b", Json::String(digits)) => Value::Blob(unhex(&digits)?),
                _ => return None,
            })
        };
        parts.into_iter().map(|part| value(part).ok_or_else(wrong)).collect::<Result<_>>().map(Self)
    }

    /// Reads the values that [`selected`] asked for, starting at the row's column `at`.
    pub fn read(row: &SqliteRow, at: usize, count: usize) -> Result<Self> {
        (0..count).map(|index| read_value(row, at + 2 * index)).collect::<Result<_>>().map(Self)
    }

    /// Binds the values, in order.
    pub fn bind<'q>(&self, query: Query<'q, Sqlite, SqliteArguments>) -> Query<'q, Sqlite, SqliteArguments> {
        self.0.iter().fold(query, |query, value| match value {
            Value::Integer(number) => query.bind(*number),
            Value::Real(bits) => query.bind(f64::from_bits(*bits)),
            Value::Text(text) => query.bind(text.clone()),
            Value::Bytes(bytes) | Value::Blob(bytes) => query.bind(bytes.clone()),
        })
    }

    /// A placeholder for each value. SQLite takes a bound value's type as it is; only text that is not
    /// UTF-8 cannot be bound as text.
    pub fn placeholders(&self) -> String {
        let one = |value: &Value| if matches!(value, Value::Bytes(_)) { "CAST(? AS TEXT)" } else { "?" };
        self.0.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// What to select so that [`Values::read`] can read a key: each column's storage class and value.
pub fn selected(table: &str, columns: &[&str]) -> String {
    let one = |column: &&str| {
        let name = format!("{table}.{}", ident(column));
        format!("typeof({name}), {name}")
    };
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn read_value(row: &SqliteRow, at: usize) -> Result<Value> {
    let class: String = row.try_get_unchecked(at).map_err(from_sqlx)?;
    Ok(match class.as_str() {
        "integer" => Value::Integer(row.try_get_unchecked(at + 1).map_err(from_sqlx)?),
        "real" => Value::Real(row.try_get_unchecked::<f64, _>(at + 1).map_err(from_sqlx)?.to_bits()),
        "text" => {
            let bytes: Vec<u8> = row.try_get_unchecked(at + 1).map_err(from_sqlx)?;
            match String::from_utf8(bytes) {
                Ok(text) => Value::Text(text),
                Err(error) => Value::Bytes(error.into_bytes()),
            }
        }
        "blob" => Value::Blob(row.try_get_unchecked(at + 1).map_err(from_sqlx)?),
        other => {
            return Err(Error::new(ErrorKind::Internal, format!("a key column holds `{other}`")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<u64>().prop_map(Value::Real),
            any::<String>().prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Blob),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn every_key_comes_back(values in prop::collection::vec(value(), 1..4)) {
            let values = Values(values);
            let back = Values::decode(&values.encode(), values.0.len()).expect("own key");
            prop_assert_eq!(back, values);
        }

        #[test]
        fn different_keys_have_different_text(a in prop::collection::vec(value(), 2), b in prop::collection::vec(value(), 2)) {
            let (a, b) = (Values(a), Values(b));
            prop_assert_eq!(a == b, a.encode() == b.encode());
        }
    }

    #[test]
    fn a_key_of_another_shape_is_an_internal_error() {
        for text in ["", "[]", "[[\"i\",5]]", "[[\"q\",1],[\"i\",2]]", "[[\"b\",\"0\"],[\"i\",1]]"] {
            let error = Values::decode(&Key(text.to_owned()), 2).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }
}
