//! What the bounds of a partition come to, as the server says it: they are tried on empty temporary tables.

use replank_core::Result;

use crate::connect::Conn;
use crate::inspect::Table;
use crate::sql::{first, get, number, rows, run, table as qualified, text};
use crate::trial::as_typed;
use crate::zones::refuse_times_without_offset;

/// A copy of a partitioned table with its partitions, none of which has an index.
const PARENT: &str = "pg_temp._rp_parent";
const NEW: &str = "pg_temp._rp_new";

/// A partition that takes what no other does.
#[derive(Debug, Clone)]
pub struct DefaultPartition {
    /// Its number.
    pub oid: i64,
    /// Its quoted name.
    pub full_name: String,
}

/// What bounds come to.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The condition that each row of the partition meets; `None` where every row does.
    pub condition: Option<String>,
    /// The condition without those of the levels above: no row of the default partition may meet it.
    pub own: Option<String>,
    /// The same as the copy of the parent has it.
    on_copy: Option<String>,
}

/// Tries the bounds in the transaction of a trial, which `child`, an empty copy of the table to be attached, is in as well.
///
/// # Errors
/// What the server says of bounds that others have, or of a table that does not fit.
pub async fn tried(connection: &mut Conn, parent: &Table, bound: &str) -> Result<Bounds> {
    let key = first(connection, format!("SELECT pg_get_partkeydef({})", parent.oid)).await?;
    let key: String = key.map(|row| get(&row, 0)).transpose()?.unwrap_or_default();
    run(
        connection,
        format!(
            "CREATE TEMPORARY TABLE _rp_parent (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)
             PARTITION BY {key} ON COMMIT DROP",
            parent.full_name()
        ),
    )
    .await?;
    let siblings = format!(
        "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = {} AND NOT i.inhdetachpending ORDER BY c.oid",
        parent.oid
    );
    for (place, sibling) in rows(connection, siblings).await?.iter().enumerate() {
        let bound: String = get(sibling, 0)?;
        run(
            connection,
            format!(
                "CREATE TEMPORARY TABLE _rp_sibling_{place} PARTITION OF {PARENT} {bound} ON COMMIT DROP"
            ),
        )
        .await?;
    }
    let making = format!("CREATE TEMPORARY TABLE _rp_new PARTITION OF {PARENT} {bound} ON COMMIT DROP");
    refuse_times_without_offset(connection, std::slice::from_ref(&making)).await?;
    run(connection, making).await.map_err(as_typed)?;
    let found = first(
        connection,
        format!(
            "SELECT pg_get_partition_constraintdef({NEW_OID}), pg_get_partition_constraintdef({})",
            parent.oid,
            NEW_OID = regclass(NEW)
        ),
    )
    .await?;
    let (own, above): (Option<String>, Option<String>) = match found {
        Some(row) => (get(&row, 0)?, get(&row, 1)?),
        None => (None, None),
    };
    // Those of hash partitions name their table by its number.
    let copy = number(connection, format!("SELECT {}::bigint", regclass(PARENT))).await?;
    let on_copy = own.clone();
    let own = own.map(|own| own.replace(&format!("'{copy}'::oid"), &format!("'{}'::oid", parent.oid)));
    run(connection, format!("DROP TABLE {NEW}")).await?;
    let condition = match (&own, above) {
        (Some(own), Some(above)) => Some(format!("({own}) AND ({above})")),
        (own, above) => own.clone().or(above),
    };
    Ok(Bounds { condition, own, on_copy })
}

/// Attaches the copy of a table to the copy of its parent; true when the server looks at no row for it, since a CHECK that
/// says what the bounds say is enough for it.
///
/// # Errors
/// What the server says against it.
pub async fn is_believed(connection: &mut Conn, child: &str, bound: &str, bounds: &Bounds) -> Result<bool> {
    if let Some(condition) = &bounds.on_copy {
        run(connection, format!("ALTER TABLE {child} ADD CONSTRAINT _rp_bounds CHECK ({condition})")).await?;
    }
    let scans = format!("SELECT pg_stat_get_xact_numscans({})", regclass(child));
    let before = number(connection, scans.clone()).await?;
    run(connection, format!("ALTER TABLE {PARENT} ATTACH PARTITION {child} {bound}"))
        .await
        .map_err(as_typed)?;
    Ok(number(connection, scans).await? == before)
}

/// The default partition of a table, if it has one.
pub async fn default_of(connection: &mut Conn, parent: &Table) -> Result<Option<DefaultPartition>> {
    let sql = format!(
        "SELECT c.oid::bigint, n.nspname::text, c.relname::text FROM pg_partitioned_table p
         JOIN pg_class c ON c.oid = p.partdefid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.partrelid = {}",
        parent.oid
    );
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    let (schema, name): (String, String) = (get(&row, 1)?, get(&row, 2)?);
    Ok(Some(DefaultPartition { oid: get(&row, 0)?, full_name: qualified(&schema, &name) }))
}

fn regclass(name: &str) -> String {
    format!("to_regclass({})", text(name))
}
