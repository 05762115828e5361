//! Making statements: quoting, and running what was put together.
//!
//! Every part of a statement is a constant of this crate, a name that went through [`ident`], a literal that went
//! through [`text`], or a piece of the table's own definition or of the person's own statement. Statements go by the
//! simple protocol: one message there and one back, nothing stays prepared on the server, and every value comes as text.

use replank_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Decode, Postgres, Row as _, Type, raw_sql};

use crate::connect::Conn;

/// A name, quoted so that no character of it means anything.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's full name, quoted.
pub fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text literal. Backslashes mean nothing: `standard_conforming_strings` is on in our sessions.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Runs a statement; answers how many rows it changed. Several in one text are one transaction.
pub async fn run(connection: &mut Conn, sql: impl Into<String> + Send) -> Result<u64> {
    let lookout = connection.lookout();
    let done = lookout.answer(raw_sql(AssertSqlSafe(sql.into())).execute(&mut **connection)).await?;
    Ok(done.rows_affected())
}

/// Runs a query.
pub async fn rows(connection: &mut Conn, sql: impl Into<String> + Send) -> Result<Vec<PgRow>> {
    let lookout = connection.lookout();
    lookout.answer(raw_sql(AssertSqlSafe(sql.into())).fetch_all(&mut **connection)).await
}

/// The first row of a query, if there is one.
pub async fn first(connection: &mut Conn, sql: impl Into<String> + Send) -> Result<Option<PgRow>> {
    Ok(rows(connection, sql).await?.into_iter().next())
}

/// The one whole number that a query gives; 0 for no row or NULL.
pub async fn number(connection: &mut Conn, sql: impl Into<String> + Send) -> Result<i64> {
    match first(connection, sql).await? {
        Some(row) => Ok(get::<Option<i64>>(&row, 0)?.unwrap_or(0)),
        None => Ok(0),
    }
}

/// The one truth that a query gives; false for no row or NULL.
pub async fn is_so(connection: &mut Conn, sql: impl Into<String> + Send) -> Result<bool> {
    match first(connection, sql).await? {
        Some(row) => Ok(get::<Option<bool>>(&row, 0)?.unwrap_or(false)),
        None => Ok(false),
    }
}

/// A column of a row.
///
/// # Errors
/// [`ErrorKind::Internal`] when it is not there, or of another type.
pub fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("column {at} of a catalogue row is not as expected"))
            .caused_by(error)
    })
}

/// How many rows meet a condition, and the first keys among them, as `id = 7`; none where there is no key. The rows are those of
/// the table `m`, and `with` stands before it all.
pub async fn first_keys(
    connection: &mut Conn,
    with: &str,
    key: &[String],
    rows: &str,
    condition: &str,
) -> Result<(u64, Vec<String>)> {
    let named =
        key.iter().map(|column| format!("{} || m.{}::text", text(&format!("{column} = ")), ident(column)));
    // An empty text is none.
    let named: Vec<String> = std::iter::once("NULL".to_owned()).chain(named).collect();
    let sql = format!(
        "{with}SELECT count(*), coalesce(json_agg(f.k) FILTER (WHERE f.n <= 5 AND f.k <> ''), '[]')::text
         FROM (SELECT concat_ws(', ', {}) AS k, row_number() OVER () AS n FROM {rows} WHERE {condition}) AS f",
        named.join(", ")
    );
    let Some(row) = first(connection, sql).await? else { return Ok((0, Vec::new())) };
    Ok((u64::try_from(get::<i64>(&row, 0)?).unwrap_or_default(), listed(&get::<String>(&row, 1)?)?))
}

/// A list that the server gave as JSON.
pub fn listed<T: DeserializeOwned>(json: &str) -> Result<Vec<T>> {
    serde_json::from_str(json).map_err(|error| {
        Error::new(ErrorKind::Internal, "a list of the server cannot be read").caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(table("s", "t"), "\"s\".\"t\"");
        assert_eq!(text("it's a\\b"), "'it''s a\\b'");
    }
}
