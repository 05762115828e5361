//! Rows that no partition takes. Every partition has bounds over columns of each unique key, so a row's key says where it
//! goes.

use replank_core::Result;

use crate::connect::Conn;
use crate::definition::within_no_path;
use crate::partitions::Part;
use crate::spec::KeyColumn;
use crate::sql::{first_keys, get, ident, is_so, rows};

/// A condition over the key columns of a partitioned table: no partition of it takes such a row. `None` where there is none
/// such.
pub async fn outside(connection: &mut Conn, root: i64) -> Result<Option<String>> {
    let parts = Part::all(connection, root).await?;
    let divided: Vec<String> = parts
        .iter()
        .filter(|part| part.key.is_some())
        .map(|part| part.oid)
        .chain([root])
        .map(|oid| oid.to_string())
        .collect();
    let each_has_a_default = format!(
        "SELECT bool_and(partdefid <> 0) FROM pg_partitioned_table WHERE partrelid IN ({})",
        divided.join(", ")
    );
    if is_so(connection, each_has_a_default).await? {
        return Ok(None);
    }
    let leaves: Vec<String> =
        parts.iter().filter(|part| part.key.is_none()).map(|part| part.oid.to_string()).collect();
    if leaves.is_empty() {
        return Ok(Some("true".to_owned()));
    }
    let sql = format!(
        "SELECT pg_get_partition_constraintdef(l) FROM unnest(ARRAY[{}]::oid[]) AS l",
        leaves.join(", ")
    );
    let mut taken = Vec::new();
    for row in rows(connection, within_no_path(&sql)).await? {
        match get::<Option<String>>(&row, 0)? {
            Some(condition) => taken.push(format!("({condition})")),
            // It takes every row.
            None => return Ok(None),
        }
    }
    Ok(Some(format!("({}) IS NOT TRUE", taken.join(" OR "))))
}

/// How many of these rows fit nowhere, and the keys of the first. `rows` are those of the table `s`, and perhaps a condition;
/// `with` stands before it all.
pub async fn count(
    connection: &mut Conn,
    key: &[KeyColumn],
    with: &str,
    rows: &str,
    outside: &str,
) -> Result<(u64, Vec<String>)> {
    let columns: Vec<String> = key
        .iter()
        .map(|column| format!("s.{} AS {}", ident(&column.source), ident(&column.written)))
        .collect();
    let names: Vec<String> = key.iter().map(|column| column.written.clone()).collect();
    let rows = format!("(SELECT {} FROM {rows}) AS m", columns.join(", "));
    first_keys(connection, with, &names, &rows, outside).await
}
