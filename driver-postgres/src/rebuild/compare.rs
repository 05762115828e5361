//! Comparing both tables, both ways, in one statement and so in one snapshot. Rows are compared as they are stored, byte
//! by byte (`*<>`): 1.0 and 1.00 differ, and a type needs no equality of its own.
//! <https://www.postgresql.org/docs/current/functions-comparisons.html#COMPOSITE-TYPE-COMPARISON>.

use replank_core::driver::Compared;
use replank_core::value::{Bounds, Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use super::range::{Condition, encoded, keys as keys_table};
use crate::connect::Conn;
use crate::inspect::computed;
use crate::spec::Unique;
use crate::sql::{first, get, ident, listed, rows, text};

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
    let differing = differing.map(|list| listed::<String>(&list)).transpose()?.unwrap_or_default();
    Ok(Compared { rows: u64::try_from(rows).unwrap_or_default(), differing: core.changes(differing)? })
}

/// Groups of source rows that collide under the written table's unique indexes, one of these rows among them.
pub async fn collisions(connection: &mut Conn, core: &Core, keys: &[Key]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let flow = core.flow()?;
    let names = core.source_key()?;
    let mapped = format!(
        "SELECT {} AS rp_key, {} AS rp_asked, {} FROM {} AS s",
        encoded("s", &names),
        Condition::keys("rp_keys", &flow.key).sql("s", &names),
        flow.written().join(", "),
        core.source_rows()
    );
    let computed = computed(connection, &format!("to_regclass({})", text(&core.written()))).await?;
    for unique in &core.spec.written(core.job.direction).unique {
        let with = format!("WITH rp_keys AS MATERIALIZED ({})", keys_table(keys, &flow.key));
        let sql = format!("{with} {}", grouped(unique, &with_computed(&mapped, unique, &computed), true));
        let groups = match rows(connection, sql).await {
            // Of columns that are not written nothing is known, and they may be in it.
            Err(error) if error.kind() == ErrorKind::ForeignDdl => continue,
            done => done.map_err(|error| core.missed(error))?,
        };
        for row in groups {
            let (value, others): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let others = listed::<String>(&others)?.join("; ");
            found.push(format!("{} {value}: rows {} = {others}", unique.name, names.join(", ")));
        }
    }
    Ok(found)
}

/// A query's rows, with what a unique index has of columns that are computed from them.
pub fn with_computed(rows: &str, unique: &Unique, computed: &[(String, String)]) -> String {
    let is_in_it = |name: &str| unique.parts.iter().chain(&unique.condition).any(|part| part.contains(name));
    let added: Vec<String> = computed
        .iter()
        .filter(|(name, _)| is_in_it(name))
        .map(|(name, expression)| format!(", ({expression}) AS {}", ident(name)))
        .collect();
    match added.is_empty() {
        true => rows.to_owned(),
        false => format!("SELECT rp_c.*{} FROM ({rows}) AS rp_c", added.concat()),
    }
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
