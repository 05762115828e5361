//! Comparing both tables, both ways, in one statement and so in one snapshot. Rows are compared as they are stored, byte
//! by byte (`*<>`): 1.0 and 1.00 differ, and a type needs no equality of its own.
//! <https://www.postgresql.org/docs/current/functions-comparisons.html#COMPOSITE-TYPE-COMPARISON>.

use replank_core::driver::Compared;
use replank_core::value::{Bounds, Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use super::range::{Condition, encoded, keys as keys_table};
use crate::connect::Conn;
use crate::spec::Unique;
use crate::sql::{first, get, ident, rows};

/// Compares the rows of a range.
pub async fn range(connection: &mut Conn, core: &Core, bounds: &Bounds) -> Result<Compared> {
    let condition = Condition::range(bounds, &core.flow()?.key)?;
    compare(connection, core, &condition, "").await
}

/// Compares the rows of some keys.
pub async fn keys(connection: &mut Conn, core: &Core, keys: &[Key]) -> Result<Compared> {
    if keys.is_empty() {
        return Ok(Compared::default());
    }
    let key = &core.flow()?.key;
    let with = format!("WITH rp_keys AS MATERIALIZED ({}) ", keys_table(keys, key));
    compare(connection, core, &Condition::keys("rp_keys", key), &with).await
}

async fn compare(connection: &mut Conn, core: &Core, condition: &Condition, with: &str) -> Result<Compared> {
    let flow = core.flow()?;
    let (source_key, written_key) = (core.source_key()?, core.written_key()?);
    let keyed = |alias: &str, names: &[&str]| -> Vec<String> {
        names.iter().enumerate().map(|(at, name)| format!("{alias}.{} AS rp_k{at}", ident(name))).collect()
    };
    let mut from_source = keyed("s", &source_key);
    let mut from_written = keyed("w", &written_key);
    let (mut left, mut right, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (at, column) in flow.columns.iter().enumerate() {
        from_source.push(format!("({})::{} AS rp_v{at}", column.expression, column.kind));
        from_written.push(format!("w.{} AS rp_v{at}", ident(&column.column)));
        match &column.original {
            None => {
                left.push(format!("n.rp_v{at}"));
                right.push(format!("o.rp_v{at}"));
            }
            Some(original) => {
                from_source.push(format!("s.{} AS rp_n{at}", ident(&original.source)));
                from_written.push(format!("({})::{} AS rp_n{at}", original.expression, original.kind));
                others.push(format!(
                    " OR (ROW(n.rp_v{at})::record *<> ROW(o.rp_v{at})::record
                      AND ROW(n.rp_n{at})::record *<> ROW(o.rp_n{at})::record)"
                ));
            }
        }
    }
    let slots: Vec<String> = (0..flow.key.len()).map(|at| format!("rp_k{at}")).collect();
    let joined: Vec<String> = slots.iter().map(|slot| format!("n.{slot} = o.{slot}")).collect();
    let either: Vec<String> =
        slots.iter().map(|slot| format!("coalesce(n.{slot}::text, o.{slot}::text)")).collect();
    let differ = match left.is_empty() {
        true => "false".to_owned(),
        false => format!("ROW({})::record *<> ROW({})::record", left.join(", "), right.join(", ")),
    };
    let sql = format!(
        "{with}SELECT count(*), json_agg(json_build_array({})::text)
                FILTER (WHERE n.rp_k0 IS NULL OR o.rp_k0 IS NULL OR {differ}{})::text
         FROM (SELECT {} FROM {} AS s WHERE {}) AS n FULL JOIN (SELECT {} FROM {} AS w WHERE {}) AS o ON {}",
        either.join(", "),
        others.concat(),
        from_source.join(", "),
        core.source_rows(),
        condition.sql("s", &source_key),
        from_written.join(", "),
        core.written_rows(),
        condition.sql("w", &written_key),
        joined.join(" AND ")
    );
    let found = first(connection, sql).await.map_err(|error| core.missed(error))?;
    let row = found.ok_or_else(|| Error::new(ErrorKind::Internal, "a comparison gave no answer"))?;
    let rows: i64 = get(&row, 0)?;
    let differing: Option<String> = get(&row, 1)?;
    let differing = differing.map(|list| listed(&list)).transpose()?.unwrap_or_default();
    Ok(Compared { rows: u64::try_from(rows).unwrap_or_default(), differing: core.changes(differing)? })
}

/// Keys, as the server lists them.
pub fn listed(list: &str) -> Result<Vec<String>> {
    serde_json::from_str(list)
        .map_err(|error| Error::new(ErrorKind::Internal, "a list of keys cannot be read").caused_by(error))
}

/// Groups of source rows that collide under the written table's unique indexes, one of these rows among them.
pub async fn collisions(connection: &mut Conn, core: &Core, keys: &[Key]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let flow = core.flow()?;
    let names = core.source_key()?;
    let columns: Vec<String> = flow
        .columns
        .iter()
        .map(|column| format!("({})::{} AS {}", column.expression, column.kind, ident(&column.column)))
        .collect();
    let mapped = format!(
        "SELECT {} AS rp_key, {} AS rp_asked, {} FROM {} AS s",
        encoded("s", &names),
        Condition::keys("rp_keys", &flow.key).sql("s", &names),
        columns.join(", "),
        core.source_rows()
    );
    for unique in &core.spec.written(core.job.direction).unique {
        let with = format!("WITH rp_keys AS MATERIALIZED ({})", keys_table(keys, &flow.key));
        let sql = format!("{with} {}", grouped(unique, &mapped, true));
        for row in rows(connection, sql).await.map_err(|error| core.missed(error))? {
            let (value, others): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let others = listed(&others)?.join("; ");
            found.push(format!("{} {value}: rows {} = {others}", unique.name, names.join(", ")));
        }
    }
    Ok(found)
}

/// Groups of rows with one value under a unique index: the value, and the rows' keys. `rows` has `rp_key`, `rp_asked` and
/// the index's columns.
pub fn grouped(unique: &Unique, rows: &str, only_asked: bool) -> String {
    let mut conditions: Vec<String> =
        unique.condition.iter().map(|condition| format!("({condition})")).collect();
    if !unique.nulls_equal {
        conditions.extend(unique.parts.iter().map(|part| format!("({part}) IS NOT NULL")));
    }
    let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let shown: Vec<String> = unique.parts.iter().map(|part| format!("({part})::text")).collect();
    let parts: Vec<String> = unique.parts.iter().map(|part| format!("({part})")).collect();
    let asked = if only_asked { " AND bool_or(rp_asked)" } else { "" };
    format!(
        "SELECT min(concat_ws(', ', {})), json_agg(rp_key)::text FROM ({rows}) AS m WHERE {conditions}
         GROUP BY {} HAVING count(*) > 1{asked} LIMIT 20",
        shown.join(", "),
        parts.join(", ")
    )
}

/// Rows of the written table that collide under a unique index, as changes.
pub async fn duplicates(connection: &mut Conn, core: &Core, unique: &Unique) -> Result<Vec<Change>> {
    let all = format!(
        "SELECT {} AS rp_key, true AS rp_asked, w.* FROM {} AS w",
        encoded("w", &core.written_key()?),
        core.written_rows()
    );
    let mut changes = Vec::new();
    for row in rows(connection, grouped(unique, &all, false)).await.map_err(|error| core.missed(error))? {
        changes.extend(core.changes(listed(&get::<String>(&row, 1)?)?)?);
    }
    Ok(changes)
}
