//! What the rows that are there say about a change.

use replank_core::plan::{Collision, Evidence, NullColumn, Unfit};
use replank_core::{ErrorKind, Result};

use super::value::{as_column, does_not_fit};
use crate::connect::Conn;
use crate::inspect::Table;
use crate::lines::items;
use crate::rebuild::grouped;
use crate::spec::Flow;
use crate::sql::{get, ident, rows, run, table as qualified};

/// Keys that are shown of rows that stand in the way.
const SAMPLES: usize = 5;
/// One question may read the table for so long; then the plan says that it is not known. Chosen.
const DEADLINE_SECONDS: u64 = 60;

/// Asks all questions of a change that goes by this way.
pub async fn gather(connection: &mut Conn, old: &Table, new: &Table, forward: &Flow) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    let product = connection.product();
    run(connection, format!("SET SESSION {}", product.deadline(DEADLINE_SECONDS))).await?;
    let asked = questions(connection, old, new, forward, &mut evidence).await;
    run(connection, format!("SET SESSION {}", product.deadline(0))).await?;
    asked?;
    Ok(evidence)
}

async fn questions(
    connection: &mut Conn,
    old: &Table,
    new: &Table,
    forward: &Flow,
    evidence: &mut Evidence,
) -> Result<()> {
    for mapped in &forward.columns {
        let Some(column) = new.column(&mapped.column) else { continue };
        let from = old.columns.iter().find(|from| ident(&from.name) == mapped.expression);
        let value = &mapped.expression;
        let was_nullable = from.is_none_or(|from| from.is_nullable);
        // What a new column gets is known.
        let is_own = from.is_some() || value.starts_with('(');
        if !column.is_nullable && was_nullable && is_own {
            let found = matching(connection, old, forward, &format!("({value}) IS NULL")).await;
            if let Some((rows, samples)) = known(found, &column.name, evidence)?
                && rows > 0
            {
                evidence.nulls.push(NullColumn { column: column.name.clone(), rows, samples });
            }
        }
        if let Some(from) = from
            && let Some(condition) = does_not_fit(&format!("({value})"), from, column)
        {
            let found = matching(connection, old, forward, &condition).await;
            if let Some((rows, samples)) = known(found, &column.name, evidence)?
                && rows > 0
            {
                let what = format!("{} as {}", column.name, column.column_type);
                evidence.unfit.push(Unfit { what, rows, samples });
            }
        }
    }
    for check in new_checks(old, new) {
        let found = violating(connection, old, new, forward, check).await;
        if let Some((rows, samples)) = known(found, check, evidence)?
            && rows > 0
        {
            evidence.unfit.push(Unfit { what: check.to_owned(), rows, samples });
        }
    }
    collisions(connection, old, new, forward, evidence).await
}

/// A question that took too long is no answer, and is told.
fn known<T>(found: Result<T>, what: &str, evidence: &mut Evidence) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::LockTimeout => {
            evidence
                .unread
                .push(format!("whether all rows fit {what}: reading them took more than a minute"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// How many rows, and the keys of the first ones.
async fn matching(
    connection: &mut Conn,
    old: &Table,
    forward: &Flow,
    condition: &str,
) -> Result<(u64, Vec<String>)> {
    let table = qualified(&old.schema, &old.name);
    counted(connection, &format!("{table} AS s"), forward, condition, "s").await
}

async fn counted(
    connection: &mut Conn,
    from: &str,
    forward: &Flow,
    condition: &str,
    alias: &str,
) -> Result<(u64, Vec<String>)> {
    let key: Vec<String> =
        forward.key.iter().map(|column| format!("{alias}.{}", ident(&column.source))).collect();
    let sql = format!("SELECT COUNT(*) FROM {from} WHERE {condition}");
    let row = crate::sql::first(connection, sql).await?;
    let count: u64 = match row {
        Some(row) => get(&row, 0)?,
        None => 0,
    };
    if count == 0 {
        return Ok((0, Vec::new()));
    }
    let sql = format!(
        "SELECT CAST(CONCAT_WS(', ', {}) AS CHAR) FROM {from} WHERE {condition} LIMIT {SAMPLES}",
        key.join(", ")
    );
    let samples = rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok((count, samples))
}

/// Checks of the new definition that the old one lacks, whole lines.
fn new_checks<'a>(old: &Table, new: &'a Table) -> Vec<&'a str> {
    let body = |line: &str| line.split_once(" CHECK ").map(|(_, body)| body.to_owned());
    let old: Vec<String> = items(&old.sql).into_iter().filter_map(body).collect();
    items(&new.sql)
        .into_iter()
        .filter(|line| line.starts_with("CONSTRAINT") && !line.contains("NOT ENFORCED"))
        .filter(|line| body(line).is_some_and(|body| !old.contains(&body)))
        .collect()
}

async fn violating(
    connection: &mut Conn,
    old: &Table,
    new: &Table,
    forward: &Flow,
    check: &str,
) -> Result<(u64, Vec<String>)> {
    let body = check.split_once(" CHECK ").map_or("TRUE", |(_, body)| body);
    let from = format!("({}) AS m", as_new(old, new, forward));
    let key: Flow = Flow {
        key: forward
            .key
            .iter()
            .map(|column| {
                let mut column = column.clone();
                column.source.clone_from(&column.written);
                column
            })
            .collect(),
        ..forward.clone()
    };
    counted(connection, &from, &key, &format!("NOT ({body})"), "m").await
}

/// Rows of the old table in the new one's columns.
fn as_new(old: &Table, new: &Table, forward: &Flow) -> String {
    let columns: Vec<String> = forward
        .columns
        .iter()
        .map(|mapped| {
            let value = match new.column(&mapped.column) {
                Some(column) => as_column(&mapped.expression, column),
                None => mapped.expression.clone(),
            };
            format!("({value}) AS {}", ident(&mapped.column))
        })
        .collect();
    format!("SELECT {} FROM {} AS s", columns.join(", "), qualified(&old.schema, &old.name))
}

/// Under unique keys that are new, or whose columns' types or collations are.
async fn collisions(
    connection: &mut Conn,
    old: &Table,
    new: &Table,
    forward: &Flow,
    evidence: &mut Evidence,
) -> Result<()> {
    for unique in &new.unique {
        let was_there = old.unique.iter().any(|known| known.parts == unique.parts);
        let is_changed = new.columns.iter().any(|column| {
            let is_part = unique.parts.iter().any(|part| part.contains(&ident(&column.name)));
            let same = old.column(&column.name).is_some_and(|from| {
                from.column_type == column.column_type && from.collation == column.collation
            });
            is_part && !same
        });
        // A part that the mapping does not give, such as a computed column, cannot be asked about here.
        let is_askable = unique
            .parts
            .iter()
            .all(|part| forward.columns.iter().any(|mapped| part.contains(&ident(&mapped.column))));
        if was_there && !is_changed {
            continue;
        }
        if !is_askable {
            evidence.unread.push(format!("whether rows collide under the unique key {}", unique.name));
            continue;
        }
        let key: Vec<String> = forward.key.iter().map(|column| column.written.clone()).collect();
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        let sql = grouped(unique, &as_new(old, new, forward), &key, None);
        let Some(groups) = known(rows(connection, sql).await, &unique.name, evidence)? else { continue };
        if groups.is_empty() {
            continue;
        }
        let samples = groups
            .iter()
            .take(SAMPLES)
            .map(|row| Ok(format!("{}: {}", get::<String>(row, 0)?, get::<String>(row, 1)?)))
            .collect::<Result<_>>()?;
        evidence.collisions.push(Collision {
            unique: unique.name.clone(),
            groups: groups.len() as u64,
            samples,
        });
    }
    Ok(())
}
