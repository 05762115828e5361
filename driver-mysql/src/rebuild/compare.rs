//! Comparing both tables, both ways, in one statement and so in one snapshot: every row of the source with the one of
//! its key, and the numbers of rows, which tell whether there are more. Which those are is asked only then.

use replank_core::Result;
use replank_core::driver::Compared;
use replank_core::value::{Bounds, Change, Key};

use super::Core;
use super::range::{Condition, same_key};
use super::slots::Slots;
use crate::connect::Conn;
use crate::key::{Values, selected};
use crate::spec::Unique;
use crate::sql::{get, ident, rows};

/// Under LOCK TABLES a statement may use a table only under names that are locked, and each only once: every
/// alias that a statement here gives the source.
pub const SOURCE_ALIASES: [&str; 3] = ["s", "s2", "s3"];
/// The same for the written table.
pub const WRITTEN_ALIASES: [&str; 3] = ["w", "w2", "w3"];

/// Compares the rows of a range.
pub async fn range(connection: &mut Conn, core: &Core, bounds: &Bounds) -> Result<Compared> {
    let condition = Condition::range(bounds, &core.flow()?.key)?;
    compare(connection, core, &condition).await
}

/// Compares the rows of some keys.
pub async fn keys(connection: &mut Conn, core: &Core, keys: &[Key]) -> Result<Compared> {
    if keys.is_empty() {
        return Ok(Compared::default());
    }
    let condition = Condition::keys(&core.decoded(keys)?, &core.flow()?.key);
    compare(connection, core, &condition).await
}

/// What a line of the answer is.
const ROW: u8 = 0;
const OF_SOURCE: u8 = 1;
const OF_WRITTEN: u8 = 2;

async fn compare(connection: &mut Conn, core: &Core, condition: &Condition) -> Result<Compared> {
    let flow = core.flow()?;
    let (source, written) = (core.source(), core.written());
    let (source_key, written_key) = (core.source_key()?, core.written_key()?);
    let slots = Slots::of(&flow.key);
    let mut from_source = slots.keyed("s", &source_key);
    let mut from_written = slots.keyed("w", &written_key);
    let mut equal = Vec::new();
    for (index, column) in flow.columns.iter().enumerate() {
        from_source.push(format!("({}) AS `_rp_v{index}`", column.expected));
        from_written.push(format!("({}) AS `_rp_v{index}`", column.stored));
        let same = format!("o.`_rp_v{index}` <=> n.`_rp_v{index}`");
        match &column.original {
            None => equal.push(same),
            Some(original) => {
                from_source.push(format!("({}) AS `_rp_n{index}`", original.stored));
                from_written.push(format!("({}) AS `_rp_n{index}`", original.expected));
                equal.push(format!("({same} OR o.`_rp_n{index}` <=> n.`_rp_n{index}`)"));
            }
        }
    }
    let nulls = vec!["NULL"; flow.key.len()].join(", ");
    let sql = format!(
        "SELECT {ROW}, o.`_rp_there`, {of_slots} FROM (SELECT {from_source} FROM {source} AS s WHERE {of_source}) AS n
         LEFT JOIN (SELECT {from_written}, 1 AS `_rp_there` FROM {written} AS w) AS o ON {joined}
         WHERE o.`_rp_there` IS NULL OR NOT ({equal})
         UNION ALL SELECT {OF_SOURCE}, COUNT(*), {nulls} FROM {source} AS s3 WHERE {of_source_3}
         UNION ALL SELECT {OF_WRITTEN}, COUNT(*), {nulls} FROM {written} AS w3 WHERE {of_written_3}",
        of_slots = selected("n", &slots.columns(&flow.key), |column| &column.source),
        from_source = from_source.join(", "),
        of_source = condition.sql("s", &source_key),
        from_written = from_written.join(", "),
        joined = same_key("n", &slots.names(), "o", &slots.names()),
        equal = if equal.is_empty() { "TRUE".to_owned() } else { equal.join(" AND ") },
        of_source_3 = condition.sql("s3", &source_key),
        of_written_3 = condition.sql("w3", &written_key),
    );
    let mut compared = Compared::default();
    let (mut missing, mut there) = (0, 0);
    for row in rows(connection, sql).await.map_err(|error| core.missed(error))? {
        let number: Option<u64> = get(&row, 1)?;
        match get::<u8>(&row, 0)? {
            OF_SOURCE => compared.rows = number.unwrap_or(0),
            OF_WRITTEN => there = number.unwrap_or(0),
            _ => {
                missing += u64::from(number.is_none());
                let values = Values::read(&row, 2, &flow.key)?;
                compared.differing.push(core.change(&values, false)?);
            }
        }
    }
    // Each row of the source that is there stands for one row there, so any more have no row in the source.
    if compared.rows - missing != there {
        compared.differing.extend(extra(connection, core, condition).await?);
    }
    compared.rows = compared.rows.max(there);
    Ok(compared)
}

/// Rows that the source does not have. Asked later than what told of them; they are suspect anyway, and looked at again.
async fn extra(connection: &mut Conn, core: &Core, condition: &Condition) -> Result<Vec<Change>> {
    let flow = core.flow()?;
    let (source_key, written_key) = (core.source_key()?, core.written_key()?);
    let sql = format!(
        "SELECT {} FROM {} AS w2 WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS s2 WHERE {})",
        selected("w2", &flow.key, |column| &column.written),
        core.written(),
        condition.sql("w2", &written_key),
        core.source(),
        same_key("s2", &source_key, "w2", &written_key)
    );
    core.changes(&rows(connection, sql).await.map_err(|error| core.missed(error))?)
}

/// Groups of source rows that collide under the written table's unique keys, one of these rows among them.
pub async fn collisions(connection: &mut Conn, core: &Core, keys: &[Key]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let flow = core.flow()?;
    let asked = Condition::keys(&core.decoded(keys)?, &flow.key);
    let slots = Slots::of(&flow.key);
    let columns: Vec<String> = flow
        .columns
        .iter()
        .map(|column| format!("({}) AS {}", column.expression, ident(&column.column)))
        .collect();
    let mapped = format!(
        "SELECT {}, {} FROM {} AS s",
        slots.keyed("s", &core.source_key()?).join(", "),
        columns.join(", "),
        core.source()
    );
    for unique in &core.spec.written(core.job.direction).unique {
        let sql = grouped(unique, &mapped, &slots.names(), Some(&asked.sql("m", &slots.names())));
        for row in rows(connection, sql).await? {
            let (value, others): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let names = core.source_key()?.join(", ");
            found.push(format!("{} {value}: rows {names} = {others}", unique.name));
        }
    }
    Ok(found)
}

/// Groups of rows with one value under a unique key: the value, and the rows' keys.
pub fn grouped(unique: &Unique, rows: &str, keys: &[&str], asked: Option<&str>) -> String {
    let not_null: Vec<String> = unique.parts.iter().map(|part| format!("({part}) IS NOT NULL")).collect();
    let shown: Vec<String> = unique.parts.iter().map(|part| format!("QUOTE(MIN({part}))")).collect();
    let key: Vec<String> = keys.iter().map(|key| format!("m.{}", ident(key))).collect();
    let asked = asked.map(|asked| format!(" AND MAX({asked})")).unwrap_or_default();
    format!(
        "SELECT CAST(CONCAT_WS(', ', {}) AS CHAR), CAST(GROUP_CONCAT(CONCAT_WS(', ', {}) SEPARATOR '; ') AS CHAR)
         FROM ({rows}) AS m WHERE {} GROUP BY {} HAVING COUNT(*) > 1{asked} LIMIT 20",
        shown.join(", "),
        key.join(", "),
        not_null.join(" AND "),
        unique.parts.join(", ")
    )
}

/// Rows of the written table that collide under a unique key, as changes.
pub async fn duplicates(connection: &mut Conn, core: &Core, unique: &Unique) -> Result<Vec<Change>> {
    let flow = core.flow()?;
    let parts = unique.parts.join(", ");
    let not_null: Vec<String> = unique.parts.iter().map(|part| format!("({part}) IS NOT NULL")).collect();
    let values: Vec<String> =
        unique.parts.iter().enumerate().map(|(index, part)| format!("({part}) AS `_rp_p{index}`")).collect();
    let same: Vec<String> =
        (0..unique.parts.len()).map(|index| format!("m.`_rp_p{index}` = g.`_rp_p{index}`")).collect();
    let slots = Slots::of(&flow.key);
    let written = core.written();
    let sql = format!(
        "SELECT {} FROM (SELECT {}, {} FROM {written} AS w) AS m
         JOIN (SELECT {} FROM {written} AS w2 WHERE {} GROUP BY {parts} HAVING COUNT(*) > 1 LIMIT 1000) AS g ON {}",
        selected("m", &slots.columns(&flow.key), |column| &column.source),
        slots.keyed("w", &core.written_key()?).join(", "),
        values.join(", "),
        values.join(", "),
        not_null.join(" AND "),
        same.join(" AND ")
    );
    core.changes(&rows(connection, sql).await?)
}
