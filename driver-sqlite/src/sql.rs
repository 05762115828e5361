//! Making statements: quoting, and the one place that vouches for a text that was put together.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite};

use crate::error::from_sqlx;
use replank_core::Result;

/// A name, quoted so that no character of it means anything.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Names, quoted, with commas between.
pub fn idents<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| ident(name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// A statement that was put together.
///
/// Every part of it is a constant of this crate, a name that went through [`ident`], a literal that went
/// through [`text`], or an expression out of the table's own definition or the person's own statement.
pub fn query<'q>(sql: impl Into<String>) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(AssertSqlSafe(sql.into()))
}

/// Runs a statement once, without keeping it prepared; answers how many rows it changed.
pub async fn run(connection: &mut SqliteConnection, sql: impl Into<String>) -> Result<u64> {
    let done = query(sql).persistent(false).execute(connection).await.map_err(from_sqlx)?;
    Ok(done.rows_affected())
}

/// Runs a query once, without keeping it prepared.
pub async fn rows(connection: &mut SqliteConnection, sql: impl Into<String>) -> Result<Vec<SqliteRow>> {
    query(sql).persistent(false).fetch_all(connection).await.map_err(from_sqlx)
}

/// The one whole number that a query gives.
pub async fn number(connection: &mut SqliteConnection, sql: impl Into<String>) -> Result<i64> {
    let row = query(sql).persistent(false).fetch_one(connection).await.map_err(from_sqlx)?;
    Ok(row.try_get_unchecked::<Option<i64>, _>(0).map_err(from_sqlx)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(idents(["a", "b c"]), "\"a\", \"b c\"");
    }
}
