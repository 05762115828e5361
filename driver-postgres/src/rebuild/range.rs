//! Conditions on keys. The server itself compares: a key's order and equality are its columns' types and collations.

use replank_core::value::{Bounds, Key};
use replank_core::{Error, ErrorKind, Result};

use crate::spec::KeyColumn;
use crate::sql::{ident, text};

/// A condition over the columns of a key.
pub struct Condition {
    form: Form,
}

enum Form {
    /// The lower bound, exclusive, and the upper, inclusive, as rows.
    Range(Option<String>, Option<String>),
    /// The name of a table of keys that the statement has, and how many columns it has.
    Keys(&'static str, usize),
}

impl Condition {
    /// The rows of a range.
    pub fn range(bounds: &Bounds, key: &[KeyColumn]) -> Result<Self> {
        let row = |bound: &Option<Key>| {
            Ok::<_, Error>(values(bound.as_ref(), key)?.map(|values| format!("({})", values.join(", "))))
        };
        Ok(Self { form: Form::Range(row(&bounds.lower)?, row(&bounds.upper)?) })
    }

    /// The rows of the keys in a table that [`keys`] makes.
    pub fn keys(name: &'static str, key: &[KeyColumn]) -> Self {
        Self { form: Form::Keys(name, key.len()) }
    }

    /// The condition's text for these columns of a table's alias.
    pub fn sql(&self, alias: &str, names: &[&str]) -> String {
        let row = row(alias, names);
        match &self.form {
            Form::Range(None, None) => "true".to_owned(),
            Form::Range(lower, upper) => {
                let lower = lower.iter().map(|lower| format!("{row} > {lower}"));
                let upper = upper.iter().map(|upper| format!("{row} <= {upper}"));
                lower.chain(upper).collect::<Vec<_>>().join(" AND ")
            }
            Form::Keys(name, columns) => {
                let slots: Vec<String> = (0..*columns).map(|at| format!("k{at}")).collect();
                format!("{row} IN (SELECT {} FROM {name})", slots.join(", "))
            }
        }
    }
}

/// Columns of an alias, as a row.
pub fn row(alias: &str, names: &[&str]) -> String {
    let columns: Vec<String> = names.iter().map(|name| format!("{alias}.{}", ident(name))).collect();
    format!("({})", columns.join(", "))
}

/// A query that gives some keys, typed, in columns `k0` and on. One text, however many they are.
pub fn keys<'a>(keys: impl IntoIterator<Item = &'a Key>, key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(at, column)| format!("(k ->> {at})::{} AS k{at}", column.kind))
        .collect();
    let all: Vec<&str> = keys.into_iter().map(|key| key.0.as_str()).collect();
    format!(
        "SELECT {} FROM json_array_elements({}::json) AS k",
        columns.join(", "),
        text(&format!("[{}]", all.join(",")))
    )
}

/// A row's key as core carries it, from columns of an alias.
pub fn encoded(alias: &str, names: &[&str]) -> String {
    let columns: Vec<String> = names.iter().map(|name| format!("{alias}.{}::text", ident(name))).collect();
    format!("json_build_array({})::text", columns.join(", "))
}

/// That two aliases hold the same key.
pub fn same_key(left: &str, left_names: &[&str], right: &str, right_names: &[&str]) -> String {
    left_names
        .iter()
        .zip(right_names)
        .map(|(a, b)| format!("{left}.{} = {right}.{}", ident(a), ident(b)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The typed values of an end of a range; `None` where it is open.
pub fn values(bound: Option<&Key>, columns: &[KeyColumn]) -> Result<Option<Vec<String>>> {
    let Some(key) = bound else { return Ok(None) };
    let wrong = || Error::new(ErrorKind::Internal, "a key of another table or driver").with("key", key);
    let values: Vec<String> = serde_json::from_str(&key.0).map_err(|_| wrong())?;
    if values.len() != columns.len() {
        return Err(wrong());
    }
    let typed = values.iter().zip(columns);
    Ok(Some(typed.map(|(value, column)| format!("{}::{}", text(value), column.kind)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Vec<KeyColumn> {
        ["integer", "text"]
            .iter()
            .zip(["a", "b"])
            .map(|(kind, name)| KeyColumn {
                source: name.to_owned(),
                written: name.to_owned(),
                kind: (*kind).to_owned(),
                is_exact: true,
            })
            .collect()
    }

    #[test]
    fn bounds_are_typed_rows() {
        let bounds = Bounds { lower: Some(Key("[\"1\", \"it's\"]".to_owned())), upper: None };
        let condition = Condition::range(&bounds, &key()).expect("own keys");
        assert_eq!(condition.sql("s", &["a", "b"]), "(s.\"a\", s.\"b\") > ('1'::integer, 'it''s'::text)");
        assert_eq!(Condition::range(&Bounds::all(), &key()).expect("none").sql("s", &["a"]), "true");
        let other = Bounds { lower: Some(Key("[\"1\"]".to_owned())), upper: None };
        assert!(Condition::range(&other, &key()).is_err());
    }

    #[test]
    fn keys_are_one_text() {
        let some = [Key("[\"1\", \"x\"]".to_owned()), Key("[\"2\", \"y'\"]".to_owned())];
        assert_eq!(
            keys(&some, &key()),
            "SELECT (k ->> 0)::integer AS k0, (k ->> 1)::text AS k1 \
             FROM json_array_elements('[[\"1\", \"x\"],[\"2\", \"y''\"]]'::json) AS k"
        );
        let condition = Condition::keys("rp_keys", &key());
        assert_eq!(condition.sql("w", &["a", "b"]), "(w.\"a\", w.\"b\") IN (SELECT k0, k1 FROM rp_keys)");
    }
}
