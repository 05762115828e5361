//! R8: the key that tells rows apart, on both sides.

use crate::inspect::{Affinity, Table, Unique};
use crate::spec::KeyColumn;

/// The columns of the key by which a table's rows can be told apart, or why there is none.
pub fn usable(table: &Table) -> Result<Vec<String>, String> {
    let mut reasons = Vec::new();
    for unique in by_preference(table) {
        match columns(table, unique) {
            Ok(columns) => return Ok(columns),
            Err(why) => reasons.push(format!("{}: {why}", unique.label)),
        }
    }
    if reasons.is_empty() {
        // VACUUM may number the rows anew.
        return Err("it has no unique key; SQLite's own row id does not last".to_owned());
    }
    Err(reasons.join("; "))
}

/// The key for rows that go from `source` to `written`: columns that are there unchanged, as `unchanged`
/// tells by their name in the written table. One that is unique there, too, comes first.
pub fn between(
    source: &Table,
    written: &Table,
    unchanged: impl Fn(&str) -> Option<String>,
) -> Result<(Vec<KeyColumn>, bool), String> {
    let mut reasons = Vec::new();
    let mut with_new_index = None;
    for unique in by_preference(source) {
        let found = columns(source, unique).and_then(|columns| {
            columns
                .into_iter()
                .map(|source_name| match unchanged(&source_name) {
                    Some(written_name) if same_comparison(source, &source_name, written, &written_name) => {
                        Ok(KeyColumn { source: source_name, written: written_name })
                    }
                    _ => Err(format!("column {source_name} changes")),
                })
                .collect::<Result<Vec<_>, _>>()
        });
        match found {
            Ok(key) if is_unique(written, &key) => return Ok((key, false)),
            Ok(key) => with_new_index = with_new_index.or(Some(key)),
            Err(why) => reasons.push(format!("{}: {why}", unique.label)),
        }
    }
    match with_new_index {
        Some(key) => Ok((key, true)),
        None if reasons.is_empty() => usable(source).map(|_| (Vec::new(), false)),
        None => Err(reasons.join("; ")),
    }
}

/// The row id's alias is the shortest way to a row, then the primary key.
fn by_preference(table: &Table) -> Vec<&Unique> {
    let primary: Vec<&str> =
        table.columns.iter().filter(|column| column.primary > 0).map(|column| column.name.as_str()).collect();
    let mut all: Vec<&Unique> = table.unique.iter().collect();
    let is_primary = |unique: &Unique| {
        unique.terms.len() == primary.len()
            && unique
                .terms
                .iter()
                .all(|term| term.column.as_deref().is_some_and(|name| primary.contains(&name)))
    };
    all.sort_by_key(|unique| (!unique.is_row_id, !is_primary(unique), unique.terms.len()));
    all
}

/// A unique key's columns, if rows can be told apart by them.
fn columns(table: &Table, unique: &Unique) -> Result<Vec<String>, String> {
    if unique.condition.is_some() {
        return Err("a partial index".to_owned());
    }
    let mut found = Vec::new();
    for term in &unique.terms {
        let Some(column) = term.column.as_deref().and_then(|name| table.column(name)) else {
            return Err("an index on an expression".to_owned());
        };
        let name = &column.name;
        if !column.not_null && !unique.is_row_id {
            return Err(format!("column {name} may be NULL"));
        }
        if column.generated {
            return Err(format!("column {name} is computed"));
        }
        if column.affinity == Affinity::Real {
            return Err(format!("column {name} is a floating point number"));
        }
        if !term.collation.eq_ignore_ascii_case(&column.collation) {
            return Err(format!("column {name} is compared differently elsewhere"));
        }
        found.push(name.clone());
    }
    Ok(found)
}

/// Whether both columns call the same values equal, and store them the same.
fn same_comparison(source: &Table, source_name: &str, written: &Table, written_name: &str) -> bool {
    let (Some(a), Some(b)) = (source.column(source_name), written.column(written_name)) else { return false };
    a.affinity == b.affinity && a.collation.eq_ignore_ascii_case(&b.collation) && !b.generated
}

/// Whether the written table has a unique key of just these columns.
fn is_unique(written: &Table, key: &[KeyColumn]) -> bool {
    written.unique.iter().any(|unique| {
        columns(written, unique).is_ok_and(|columns| {
            columns.len() == key.len()
                && key.iter().all(|part| columns.iter().any(|name| name.eq_ignore_ascii_case(&part.written)))
        })
    })
}
