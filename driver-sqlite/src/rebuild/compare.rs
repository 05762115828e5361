//! Comparing both tables, in one snapshot, through the expressions of the copy.

use replank_core::Result;
use replank_core::driver::Compared;
use replank_core::value::{Bounds, Key};
use sqlx::sqlite::SqliteConnection;

use super::range::{Condition, same_key};
use super::{Core, change};
use crate::error::from_sqlx;
use crate::inspect::{Unique, get};
use crate::key::{Values, selected};
use crate::sql::{ident, query};

/// Compares the rows of a range.
pub async fn range(connection: &mut SqliteConnection, core: &Core, bounds: &Bounds) -> Result<Compared> {
    let condition = Condition::range(bounds, core.flow()?.key.len())?;
    compare(connection, core, &condition).await
}

/// Compares the rows of some keys.
pub async fn keys(connection: &mut SqliteConnection, core: &Core, keys: &[Key]) -> Result<Compared> {
    if keys.is_empty() {
        return Ok(Compared::default());
    }
    let condition = Condition::keys(&core.decoded(keys)?);
    compare(connection, core, &condition).await
}

async fn compare(connection: &mut SqliteConnection, core: &Core, condition: &Condition) -> Result<Compared> {
    core.check_written(connection).await?;
    let flow = core.flow()?;
    let (source, written) = (ident(core.source()), ident(&core.written()));
    let (source_key, written_key) = (flow.source_key(), flow.written_key());
    let of_source = condition.sql("s", &source_key);
    let of_written = condition.sql("w", &written_key);

    let mut from_source = keyed("s", &source_key);
    let mut from_written = keyed("w", &written_key);
    let mut equal = Vec::new();
    for (index, column) in flow.columns.iter().enumerate() {
        from_source.push(format!("({}) AS v{index}", column.expression));
        from_written.push(format!("w.{0} AS v{index}", ident(&column.column)));
        // Without an affinity of its own the expression gets the column's, as it did when it was stored.
        let same = format!("w.v{index} IS +s.v{index} COLLATE BINARY");
        let same = match column.is_verbatim {
            true => format!("({same} AND typeof(w.v{index}) = typeof(s.v{index}))"),
            false => same,
        };
        match &column.original {
            None => equal.push(same),
            Some(original) => {
                from_source.push(format!("{} AS n{index}", ident(&original.source)));
                from_written.push(format!("({}) AS f{index}", original.expression));
                equal.push(format!(
                    "({same} OR (w.f{index} IS s.n{index} COLLATE BINARY AND typeof(w.f{index}) = typeof(s.n{index})))"
                ));
            }
        }
    }
    let slots: Vec<String> = (0..flow.key.len()).map(|index| format!("k{index}")).collect();
    let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM {source} AS s WHERE {of_source}) AS s
         LEFT JOIN (SELECT {}, 1 AS is_there FROM {written} AS w WHERE {of_written}) AS w ON {}
         WHERE w.is_there IS NULL OR NOT ({})",
        selected("s", &slots),
        from_source.join(", "),
        from_written.join(", "),
        same_key("s", &slots, "w", &slots),
        if equal.is_empty() { "1".to_owned() } else { equal.join(" AND ") }
    );
    let bound = condition.bind(condition.bind(query(sql)));
    let mut differing = bound.fetch_all(&mut *connection).await.map_err(from_sqlx)?;

    let extra = format!(
        "SELECT {} FROM {written} AS w WHERE {of_written}
         AND NOT EXISTS (SELECT 1 FROM {source} AS s WHERE {})",
        selected("w", &written_key),
        same_key("s", &source_key, "w", &written_key)
    );
    differing.extend(condition.bind(query(extra)).fetch_all(&mut *connection).await.map_err(from_sqlx)?);

    let mut rows = 0;
    for (table, alias, of_table) in [(&source, "s", &of_source), (&written, "w", &of_written)] {
        let sql = format!("SELECT count(*) FROM {table} AS {alias} WHERE {of_table}");
        let row = condition.bind(query(sql)).fetch_one(&mut *connection).await.map_err(from_sqlx)?;
        rows = rows.max(get::<i64>(&row, 0)?.unsigned_abs());
    }
    let differing = differing
        .iter()
        .map(|row| Ok(change(&Values::read(row, 0, flow.key.len())?, false)))
        .collect::<Result<_>>()?;
    Ok(Compared { rows, differing })
}

fn keyed(alias: &str, names: &[&str]) -> Vec<String> {
    names.iter().enumerate().map(|(index, name)| format!("{alias}.{} AS k{index}", ident(name))).collect()
}

/// Groups of source rows that collide under the written table's unique keys, one of these rows among them.
pub async fn collisions(connection: &mut SqliteConnection, core: &Core, keys: &[Key]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let flow = core.flow()?;
    let asked = Condition::keys(&core.decoded(keys)?);
    for unique in &core.spec.written(core.job.direction).unique {
        let sql = collision_query(core, unique, &asked)?;
        let rows =
            asked.bind(query(sql).persistent(false)).fetch_all(&mut *connection).await.map_err(from_sqlx)?;
        for row in &rows {
            let (value, others): (String, String) = (get(row, 0)?, get(row, 1)?);
            found.push(format!("{} {value}: rows {} = {others}", unique.label, flow.source_key().join(", ")));
        }
    }
    Ok(found)
}

fn collision_query(core: &Core, unique: &Unique, asked: &Condition) -> Result<String> {
    let flow = core.flow()?;
    let slots: Vec<String> = (0..flow.key.len()).map(|index| format!("_rp_k{index}")).collect();
    let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
    let keys: Vec<String> = flow
        .source_key()
        .iter()
        .zip(&slots)
        .map(|(name, slot)| format!("s.{} AS {}", ident(name), ident(slot)))
        .collect();
    let rows =
        format!("SELECT {}, {} FROM {} AS s", keys.join(", "), mapped(&flow.columns), ident(core.source()));
    Ok(grouped(unique, &rows, &slots, Some(&asked.sql("m", &slots))))
}

/// The columns of the new shape, by name, out of the source's.
pub fn mapped(columns: &[crate::spec::Mapped]) -> String {
    let one = |column: &crate::spec::Mapped| format!("({}) AS {}", column.expression, ident(&column.column));
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Groups of rows with one value under a unique key: the value, and the rows' keys.
pub fn grouped(unique: &Unique, rows: &str, keys: &[&str], asked: Option<&str>) -> String {
    let terms: Vec<String> =
        unique.terms.iter().map(|term| format!("{} COLLATE {}", term.sql, ident(&term.collation))).collect();
    let not_null: Vec<String> = unique.terms.iter().map(|term| format!("{} IS NOT NULL", term.sql)).collect();
    let shown: Vec<String> = unique.terms.iter().map(|term| format!("quote({})", term.sql)).collect();
    let key: Vec<String> = keys.iter().map(|key| format!("quote(m.{})", ident(key))).collect();
    let condition =
        unique.condition.as_ref().map(|condition| format!(" AND ({condition})")).unwrap_or_default();
    let asked = asked.map(|asked| format!(" AND max({asked})")).unwrap_or_default();
    format!(
        "SELECT {} AS value, group_concat({}, '; ') AS rows FROM ({rows}) AS m WHERE {}{condition}
         GROUP BY {} HAVING count(*) > 1{asked}",
        shown.join(" || ', ' || "),
        key.join(" || ', ' || "),
        not_null.join(" AND "),
        terms.join(", ")
    )
}
