//! What capture by a logical slot needs of the server, the login and the table.

use replank_core::Result;

use crate::connect::Conn;
use crate::spec::KeyColumn;
use crate::sql::{get, ident, rows, text};

/// Why a slot cannot be had for a table, each with what mends it. A slot that nothing limits would fill the server's disk
/// while nobody reads it.
pub async fn refusals(connection: &mut Conn, table: i64, key: &[KeyColumn]) -> Result<Vec<String>> {
    const RESTART: &str = "and restart the server";
    let needs = [
        (
            "current_setting('wal_level') = 'logical'",
            format!("a slot needs ALTER SYSTEM SET wal_level = logical, {RESTART}"),
        ),
        (
            "(SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') >= 0",
            "a slot that nobody reads would fill the disk: ALTER SYSTEM SET max_slot_wal_keep_size = '16GB', as much as \
             there is room for, and SELECT pg_reload_conf()"
                .to_owned(),
        ),
        (
            "(SELECT count(*) FROM pg_replication_slots) < current_setting('max_replication_slots')::int",
            format!("no slot is free: ALTER SYSTEM SET max_replication_slots, {RESTART}"),
        ),
        (
            // Not everybody is shown it.
            "coalesce('pgoutput' = ANY ((SELECT regexp_split_to_array(setting, '[\" ,]+') FROM pg_settings
                                         WHERE name = 'output_plugin_libraries')::text[]), true)",
            "output_plugin_libraries does not list pgoutput".to_owned(),
        ),
        (
            "EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolreplication OR rolsuper))
             OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'USAGE'))",
            "the login makes no slots: ALTER ROLE … REPLICATION".to_owned(),
        ),
        (
            "has_database_privilege(current_database(), 'CREATE')",
            "the login makes no publications: GRANT CREATE ON DATABASE".to_owned(),
        ),
        (
            "(SELECT relpersistence = 'p' FROM pg_class WHERE oid = {table})",
            "the table is UNLOGGED, and its changes are in no log".to_owned(),
        ),
        (
            "{identity}",
            "the table's replica identity does not hold the key that rows are told apart by, and an application's UPDATE and \
             DELETE would fail: ALTER TABLE … REPLICA IDENTITY DEFAULT, or USING INDEX, or FULL"
                .to_owned(),
        ),
    ];
    let identity = identifies(table, key);
    let parts: Vec<String> = needs
        .iter()
        .map(|(is_met, why)| {
            let is_met = is_met.replace("{table}", &table.to_string()).replace("{identity}", &identity);
            format!("SELECT {} WHERE NOT ({is_met})", text(why))
        })
        .collect();
    rows(connection, parts.join(" UNION ALL ")).await?.iter().map(|row| get(row, 0)).collect()
}

/// A condition: what an UPDATE or DELETE leaves in the log has the key.
pub fn identifies(table: i64, key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key.iter().map(|column| text(&column.source)).collect();
    format!(
        "EXISTS (SELECT FROM pg_class c WHERE c.oid = {table} AND (c.relreplident = 'f' OR NOT EXISTS (
             SELECT FROM unnest(ARRAY[{}]) AS k WHERE k NOT IN (
                 SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                 WHERE i.indrelid = c.oid AND i.indisvalid
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))))",
        columns.join(", ")
    )
}

/// The columns by which an UPDATE or DELETE tells its row, and which are therefore all that need be sent; none where that is all
/// of them, or the server cannot leave any out.
pub async fn sent(connection: &mut Conn, version: u32, table: i64) -> Result<Vec<String>> {
    if version < 150_000 {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT unnest({})", identity_columns(table));
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

/// An expression for the columns of the index by which rows are told; none where all columns do it.
pub fn identity_columns(table: i64) -> String {
    format!(
        "ARRAY(SELECT a.attname::text FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid
                   AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
               WHERE c.oid = {table} ORDER BY a.attnum)"
    )
}

/// The statement that makes changes of a table, quoted, be told of, by some of its columns or all.
pub fn publishing(name: &str, table: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| ident(column)).collect();
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!("CREATE PUBLICATION {} FOR TABLE ONLY {table}{columns}", ident(name))
}
