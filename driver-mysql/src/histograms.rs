//! What the server gathered about columns, and keeps under the table's name.

use replank_core::{ErrorKind, Result};

use crate::connect::Conn;
use crate::inspect::Table;
use crate::sql::{get, ident, rows, table, text};

/// How what a rebuild leaves behind is gathered anew; nothing where there is none. Of a column that changes the server's own
/// ALTER keeps none either.
pub async fn again(connection: &mut Conn, old: &Table, new: &Table) -> Result<Vec<String>> {
    let (schema, name) = (text(&old.schema), text(&old.name));
    let sql = match connection.is_mariadb() {
        true => {
            format!(
                "SELECT column_name FROM mysql.column_stats WHERE db_name = {schema} AND table_name = {name}"
            )
        }
        false => format!(
            "SELECT column_name FROM information_schema.column_statistics
             WHERE schema_name = {schema} AND table_name = {name}"
        ),
    };
    let found = match rows(connection, sql).await {
        Ok(found) => found,
        // Most logins may not look into MariaDB's own tables: what they cannot see they have not gathered.
        Err(error) if error.kind() == ErrorKind::Refused => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let columns: Vec<String> = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let stays =
        |column: &&String| new.column_line(column).is_some_and(|line| old.column_line(column) == Some(line));
    let columns: Vec<String> = columns.iter().filter(stays).map(|column| ident(column)).collect();
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let (name, columns) = (table(&old.schema, &old.name), columns.join(", "));
    Ok(vec![match connection.is_mariadb() {
        true => format!("ANALYZE TABLE {name} PERSISTENT FOR COLUMNS ({columns}) INDEXES ()"),
        false => format!("ANALYZE TABLE {name} UPDATE HISTOGRAM ON {columns}"),
    }])
}
