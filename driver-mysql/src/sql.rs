//! Making statements: quoting, and running what was put together.
//!
//! Every part of a statement is a constant of this crate, a name that went through [`ident`], a literal that
//! went through [`text`] or [`bytes`], or a piece of the table's own definition or of the person's own
//! statement. The session's `sql_mode` is pinned (see [`crate::connect`]): backslashes escape, and double
//! quotes are not names.

use mysql_async::Row;
use mysql_async::prelude::{FromValue, Queryable};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Conn;
use crate::error::from_mysql;

/// A name, quoted so that no character of it means anything.
pub fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table's full name, quoted.
pub fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text literal.
pub fn text(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 2);
    literal.push('\'');
    for c in value.chars() {
        match c {
            '\'' => literal.push_str("''"),
            '\\' => literal.push_str("\\\\"),
            '\0' => literal.push_str("\\0"),
            c => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// A literal of bytes that are text in `charset`; in `binary`, of bytes.
pub fn bytes(charset: &str, value: &[u8]) -> String {
    let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("_{charset} x'{digits}'")
}

/// Runs a statement; answers how many rows it changed.
pub async fn run(connection: &mut Conn, sql: impl AsRef<str> + Send) -> Result<u64> {
    connection.lookout().answer(connection.query_drop(sql.as_ref())).await.map_err(from_mysql)?;
    Ok(connection.affected_rows())
}

/// Runs a query. By the text protocol: every value comes as the server prints it.
pub async fn rows(connection: &mut Conn, sql: impl AsRef<str> + Send) -> Result<Vec<Row>> {
    connection.lookout().answer(connection.query(sql.as_ref())).await.map_err(from_mysql)
}

/// The first row of a query, if there is one.
pub async fn first(connection: &mut Conn, sql: impl AsRef<str> + Send) -> Result<Option<Row>> {
    connection.lookout().answer(connection.query_first(sql.as_ref())).await.map_err(from_mysql)
}

/// The one whole number that a query gives; 0 for no row or NULL.
pub async fn number(connection: &mut Conn, sql: impl AsRef<str> + Send) -> Result<u64> {
    match first(connection, sql).await? {
        Some(row) => Ok(get::<Option<u64>>(&row, 0)?.unwrap_or(0)),
        None => Ok(0),
    }
}

/// A column of a row.
///
/// # Errors
/// [`ErrorKind::Internal`] when it is not there, or of another type.
pub fn get<T: FromValue>(row: &Row, at: usize) -> Result<T> {
    row.get_opt(at).and_then(std::result::Result::ok).ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("column {at} of a catalogue row is not as expected"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_backslashes_too() {
        assert_eq!(ident("a`b"), "`a``b`");
        assert_eq!(table("s", "t"), "`s`.`t`");
        assert_eq!(text("it's a\\b\0"), "'it''s a\\\\b\\0'");
        assert_eq!(bytes("latin1", b"a\xff"), "_latin1 x'61ff'");
    }
}
