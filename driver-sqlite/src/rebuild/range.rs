//! Conditions on keys. SQLite itself compares: a key's order and equality are its columns' collations.

use replank_core::Result;
use replank_core::value::Bounds;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use crate::key::Values;
use crate::sql::ident;

/// A condition over the columns of a key, with the values to bind.
pub struct Condition {
    form: Form,
    values: Vec<Values>,
}

enum Form {
    /// Comparisons with the key as one row: the sign, and the placeholders.
    Range(Vec<(&'static str, String)>),
    /// Rows of placeholders.
    Keys(String),
}

impl Condition {
    /// The rows of a range.
    pub fn range(bounds: &Bounds, columns: usize) -> Result<Self> {
        let lower = bounds.lower.as_ref().map(|key| Values::decode(key, columns)).transpose()?;
        let upper = bounds.upper.as_ref().map(|key| Values::decode(key, columns)).transpose()?;
        let comparisons = [(">", &lower), ("<=", &upper)]
            .into_iter()
            .filter_map(|(sign, values)| Some((sign, values.as_ref()?.placeholders())))
            .collect();
        Ok(Self { form: Form::Range(comparisons), values: lower.into_iter().chain(upper).collect() })
    }

    /// The rows of some keys.
    pub fn keys(keys: &[Values]) -> Self {
        let rows: Vec<String> = keys.iter().map(|values| format!("({})", values.placeholders())).collect();
        Self { form: Form::Keys(rows.join(", ")), values: keys.to_vec() }
    }

    /// The condition's text for these columns of a table's alias.
    pub fn sql(&self, alias: &str, names: &[&str]) -> String {
        let row = row(alias, names);
        match &self.form {
            Form::Range(comparisons) if comparisons.is_empty() => "1".to_owned(),
            Form::Range(comparisons) => {
                let one = |(sign, places): &(&str, String)| format!("{row} {sign} ({places})");
                comparisons.iter().map(one).collect::<Vec<_>>().join(" AND ")
            }
            Form::Keys(rows) if rows.is_empty() => "0".to_owned(),
            Form::Keys(rows) => {
                // The values come out of a subquery that is no compound: so the index on the key is used,
                // and the column's own affinity and collation decide.
                let columns: Vec<String> = (1..=names.len()).map(|index| format!("column{index}")).collect();
                format!("{row} IN (SELECT {} FROM (VALUES {rows}))", columns.join(", "))
            }
        }
    }

    /// Binds the values once.
    pub fn bind<'q>(&self, query: Query<'q, Sqlite, SqliteArguments>) -> Query<'q, Sqlite, SqliteArguments> {
        self.values.iter().fold(query, |query, values| values.bind(query))
    }
}

/// A row value, or the one column as it is.
fn row(alias: &str, names: &[&str]) -> String {
    let columns: Vec<String> = names.iter().map(|name| format!("{alias}.{}", ident(name))).collect();
    match &columns[..] {
        [one] => one.clone(),
        _ => format!("({})", columns.join(", ")),
    }
}

/// That two aliases hold the same key. The left one's collation decides.
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
    use crate::sql::{query, run};
    use replank_core::value::Key;
    use rstest::rstest;
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Row};

    const SCHEMA: [&str; 2] = [
        "CREATE TABLE t (a TEXT NOT NULL COLLATE NOCASE, b INT NOT NULL, v, PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES ('a', 1, 0), ('B', 2, 0), ('b', 3, 0), ('c', 1, 0), ('ä', 1, 0)",
    ];

    fn key(a: &str, b: i64) -> Values {
        Values(vec![Value::Text(a.to_owned()), Value::Integer(b)])
    }

    fn range(lower: Option<(&str, i64)>, upper: Option<(&str, i64)>) -> Condition {
        let bound = |bound: Option<(&str, i64)>| -> Option<Key> { bound.map(|(a, b)| key(a, b).encode()) };
        Condition::range(&Bounds { lower: bound(lower), upper: bound(upper) }, 2).expect("own keys")
    }

    #[rstest]
    #[case::all(range(None, None), &["a1", "B2", "b3", "c1", "ä1"], false)]
    #[case::range(range(Some(("A", 1)), Some(("B", 3))), &["B2", "b3"], true)]
    #[case::open(range(Some(("b", 2)), None), &["b3", "c1", "ä1"], true)]
    #[case::keys(Condition::keys(&[key("A", 1), key("b", 2), key("x", 1)]), &["a1", "B2"], true)]
    #[case::no_keys(Condition::keys(&[]), &[], false)]
    #[tokio::test]
    async fn the_servers_order_decides_and_its_index_is_used(
        #[case] condition: Condition,
        #[case] expected: &[&str],
        #[case] searches: bool,
    ) {
        let mut connection = SqliteConnectOptions::new().connect().await.expect("a database in memory");
        for statement in SCHEMA {
            run(&mut connection, statement).await.expect("the schema");
        }
        let wanted = condition.sql("t", &["a", "b"]);
        let sql = format!("SELECT a || b FROM t WHERE {wanted} ORDER BY a, b");
        let rows = condition.bind(query(sql.clone())).fetch_all(&mut connection).await.expect("rows");
        let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, expected);
        let plan = format!("EXPLAIN QUERY PLAN {sql}");
        let rows = condition.bind(query(plan)).fetch_all(&mut connection).await.expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>("detail")).collect();
        assert_eq!(plan.iter().any(|line| line.starts_with("SEARCH t")), searches, "{plan:?}");
    }
}
