//! What capture by a logical slot needs of the server, the login and the table.

use replank_core::Result;

use crate::connect::Conn;
use crate::service::{Service, to_replicate, to_set};
use crate::spec::KeyColumn;
use crate::sql::{first, get, ident, rows, text};

/// Why a slot cannot be had for a table, each with what mends it. A slot that nothing limits would fill the server's disk
/// while nobody reads it.
pub async fn refusals(connection: &mut Conn, table: i64, key: &[KeyColumn]) -> Result<Vec<String>> {
    let service = Service::of(connection).await?;
    let mut found = server_refusals(connection, service).await?;
    let needs = [
        (
            format!("(SELECT relpersistence = 'p' FROM pg_class WHERE oid = {table})"),
            "the table is UNLOGGED, and its changes are in no log".to_owned(),
        ),
        (
            identifies(table, key),
            "the table's replica identity does not hold the key that rows are told apart by, and an application's UPDATE and \
             DELETE would fail: ALTER TABLE … REPLICA IDENTITY DEFAULT, or USING INDEX, or FULL"
                .to_owned(),
        ),
    ];
    found.extend(unmet(connection, &needs).await?);
    Ok(found)
}

/// The same for any table.
pub async fn server_refusals(connection: &mut Conn, service: Option<Service>) -> Result<Vec<String>> {
    let login = first(connection, "SELECT quote_ident(current_user)").await?;
    let login: String = login.map(|row| get(&row, 0)).transpose()?.unwrap_or_default();
    let needs = [
        (
            "current_setting('wal_level') = 'logical'".to_owned(),
            format!("a slot needs wal_level = logical: {}", to_set(service, "wal_level", "logical", true)),
        ),
        (
            "(SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') >= 0".to_owned(),
            format!(
                "a slot that nobody reads would fill the disk: {} (as there is room)",
                to_set(service, "max_slot_wal_keep_size", "16GB", false)
            ),
        ),
        (
            "(SELECT count(*) FROM pg_replication_slots) < current_setting('max_replication_slots')::int".to_owned(),
            format!("no slot is free: {}", to_set(service, "max_replication_slots", "20", true)),
        ),
        (
            // Not everybody is shown it.
            "coalesce('pgoutput' = ANY ((SELECT regexp_split_to_array(setting, '[\" ,]+') FROM pg_settings
                                         WHERE name = 'output_plugin_libraries')::text[]), true)"
                .to_owned(),
            "output_plugin_libraries does not list pgoutput".to_owned(),
        ),
        (
            "EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolreplication OR rolsuper))
             OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'USAGE'))"
                .to_owned(),
            format!("the login makes no slots: {}", to_replicate(service, &login)),
        ),
        (
            "has_database_privilege(current_database(), 'CREATE')".to_owned(),
            format!("the login makes no publications: GRANT CREATE ON DATABASE … TO {login}"),
        ),
    ];
    unmet(connection, &needs).await
}

/// What is said of the conditions that do not hold.
async fn unmet(connection: &mut Conn, needs: &[(String, String)]) -> Result<Vec<String>> {
    let parts: Vec<String> =
        needs.iter().map(|(is_met, why)| format!("SELECT {} WHERE NOT ({is_met})", text(why))).collect();
    rows(connection, parts.join(" UNION ALL ")).await?.iter().map(|row| get(row, 0)).collect()
}

/// Whether a copy of so many bytes may be more than the server keeps for a slot. What is written while any transaction is
/// open, it must keep.
pub async fn short_of(connection: &mut Conn, bytes: i64) -> Result<Option<String>> {
    // The setting is in MiB.
    let sql = format!(
        "SELECT format('the copy writes some %s, and the server keeps %s for a slot: behind one open transaction it would be given up',
                       pg_size_pretty({bytes}::bigint), pg_size_pretty(setting::bigint << 20))
         FROM pg_settings WHERE name = 'max_slot_wal_keep_size' AND setting::bigint >= 0 AND setting::bigint << 20 < {bytes}"
    );
    first(connection, sql).await?.map(|row| get(&row, 0)).transpose()
}

/// Whether an index `i` of a table `c` is the one by which its rows are told to subscribers.
pub const IS_IDENTITY: &str = "CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident ELSE false END";

/// A condition: what an UPDATE or DELETE leaves in the log has the key.
pub fn identifies(table: i64, key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key.iter().map(|column| text(&column.source)).collect();
    format!(
        "(EXISTS (SELECT FROM pg_class c WHERE c.oid = {table} AND c.relreplident = 'f') OR ARRAY[{}] <@ {})",
        columns.join(", "),
        identity_columns(table)
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
        "ARRAY(SELECT a.attname::text FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND {IS_IDENTITY}
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
