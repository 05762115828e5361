//! Conditions on keys. The server itself compares: a key's order and equality are its columns' types and
//! collations.

use replank_core::Result;
use replank_core::value::{Bounds, Key};

use crate::key::Values;
use crate::spec::KeyColumn;
use crate::sql::ident;

/// A condition over the columns of a key.
pub struct Condition {
    form: Form,
}

enum Form {
    /// Literals of the lower bound, exclusive, and of the upper, inclusive.
    Range(Option<Vec<String>>, Option<Vec<String>>),
    /// Literals of rows.
    Keys(Vec<Vec<String>>),
}

impl Condition {
    /// The rows of a range.
    pub fn range(bounds: &Bounds, key: &[KeyColumn]) -> Result<Self> {
        let literals = |bound: &Option<Key>| {
            bound.as_ref().map(|bound| Ok(Values::decode(bound, key)?.literals(key))).transpose()
        };
        Ok(Self { form: Form::Range(literals(&bounds.lower)?, literals(&bounds.upper)?) })
    }

    /// The rows of some keys.
    pub fn keys<'a>(keys: impl IntoIterator<Item = &'a Values>, key: &[KeyColumn]) -> Self {
        Self { form: Form::Keys(keys.into_iter().map(|values| values.literals(key)).collect()) }
    }

    /// The condition's text for these columns of a table's alias.
    pub fn sql(&self, alias: &str, names: &[&str]) -> String {
        let columns: Vec<String> = names.iter().map(|name| format!("{alias}.{}", ident(name))).collect();
        match &self.form {
            Form::Range(lower, upper) => {
                let sides = [
                    lower.as_ref().map(|lower| beyond(&columns, lower, ">", ">")),
                    upper.as_ref().map(|upper| beyond(&columns, upper, "<", "<=")),
                ];
                let sides: Vec<String> = sides.into_iter().flatten().collect();
                if sides.is_empty() { "TRUE".to_owned() } else { sides.join(" AND ") }
            }
            Form::Keys(keys) if keys.is_empty() => "FALSE".to_owned(),
            Form::Keys(keys) => {
                let row = |values: &Vec<String>| match &values[..] {
                    [one] => one.clone(),
                    several => format!("({})", several.join(", ")),
                };
                // MariaDB reads the whole table for `(a, b) IN ((1, 2))` with one row in it.
                if let [only] = &keys[..] {
                    let pairs = columns.iter().zip(only).map(|(column, value)| format!("{column} = {value}"));
                    return pairs.collect::<Vec<_>>().join(" AND ");
                }
                let left = row(&columns);
                format!("{left} IN ({})", keys.iter().map(row).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// `(a, b) > (1, 2)` spelt out, since MySQL uses no index for the row form: `a >= 1 AND (a > 1 OR (a = 1 AND
/// b > 2))`. See <https://dev.mysql.com/doc/refman/9.7/en/range-optimization.html>.
fn beyond(columns: &[String], values: &[String], sign: &str, last: &str) -> String {
    let (column, value) = (&columns[0], &values[0]);
    if columns.len() == 1 {
        return format!("{column} {last} {value}");
    }
    let rest = beyond(&columns[1..], &values[1..], sign, last);
    format!("{column} {sign}= {value} AND ({column} {sign} {value} OR ({column} = {value} AND {rest}))")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Value;
    use crate::spec::KeyKind;

    fn column(name: &str) -> KeyColumn {
        KeyColumn {
            source: name.to_owned(),
            written: name.to_owned(),
            ordinal: 0,
            kind: KeyKind::Integer { unsigned: false },
        }
    }

    fn key(a: i64, b: i64) -> Values {
        Values(vec![Value::Number(a.to_string()), Value::Number(b.to_string())])
    }

    #[test]
    fn a_composite_range_can_use_the_index() {
        let columns = [column("a"), column("b")];
        let bounds = Bounds { lower: Some(key(1, 2).encode()), upper: Some(key(3, 4).encode()) };
        assert_eq!(
            Condition::range(&bounds, &columns).expect("own keys").sql("s", &["a", "b"]),
            "s.`a` >= 1 AND (s.`a` > 1 OR (s.`a` = 1 AND s.`b` > 2)) AND \
             s.`a` <= 3 AND (s.`a` < 3 OR (s.`a` = 3 AND s.`b` <= 4))"
        );
        let all = Condition::range(&Bounds::all(), &columns).expect("no keys");
        assert_eq!(all.sql("s", &["a", "b"]), "TRUE");
    }

    #[test]
    fn keys_are_rows_or_plain_values() {
        let columns = [column("a"), column("b")];
        let some = Condition::keys(&[key(1, 2), key(3, 4)], &columns);
        assert_eq!(some.sql("w", &["a", "b"]), "(w.`a`, w.`b`) IN ((1, 2), (3, 4))");
        assert_eq!(Condition::keys(&[], &columns).sql("w", &["a", "b"]), "FALSE");
        let one = Condition::keys(&[Values(vec![Value::Number("7".to_owned())])], &columns[..1]);
        assert_eq!(one.sql("w", &["a"]), "w.`a` = 7");
        assert_eq!(Condition::keys(&[key(1, 2)], &columns).sql("w", &["a", "b"]), "w.`a` = 1 AND w.`b` = 2");
    }
}
