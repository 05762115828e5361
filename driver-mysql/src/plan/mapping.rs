//! How rows of one shape become rows of the other, both ways.

use replank_core::{Error, ErrorKind, Result};

use super::renames::Renames;
use super::value::{comparable, is_lossless};
use crate::connect::Product;
use crate::inspect::{Column, Table, key_columns};
use crate::scratch::Scratch;
use crate::spec::{Flow, KeyColumn, Mapped, Original, Unique};
use crate::sql::ident;

/// What the person gave for values that the server cannot convert by itself: column → expression.
pub struct Given<'a> {
    /// Over the old columns.
    pub forward: &'a [(String, String)],
    /// Over the new columns.
    pub reverse: &'a [(String, String)],
}

/// The ways, or why there is none.
pub struct Mapping {
    /// Into the new shape.
    pub forward: std::result::Result<Flow, String>,
    /// And back.
    pub backward: std::result::Result<Flow, String>,
    /// The new shape's unique key through which its rows are found.
    pub through: String,
}

/// Finds the ways. `renames` are from old to new.
pub async fn mapping(
    scratch: &mut Scratch,
    old: &Table,
    new: &Table,
    renames: &Renames,
    given: &Given<'_>,
) -> Result<Mapping> {
    for (column, _) in given.forward {
        known(new, column)?;
    }
    for (column, _) in given.reverse {
        known(old, column)?;
    }
    let mut columns = Vec::new();
    for column in new.columns.iter().filter(|column| !column.is_generated) {
        let from = renames.origin(old, column);
        match (expression_for(given.forward, &column.name), from) {
            (Some(own), _) => {
                scratch.check_expression(old, own).await?;
                columns.push(mapped(scratch.product(), column, format!("({own})"), None));
            }
            (None, Some(from)) => {
                columns.push(mapped(scratch.product(), column, ident(&from.name), Some(from)))
            }
            (None, None) if column.is_counter => {
                return Ok(neither(format!("the new column {} counts by itself", column.name)));
            }
            // Left to the server, which gives it its default.
            (None, None) if column.has_default => {}
            // As the server's own ALTER does.
            (None, None) => {
                columns.push(mapped(scratch.product(), column, implicit_default(column).to_owned(), None));
            }
        }
    }
    let between = match key_between(old, new, &columns) {
        Ok(between) => between,
        Err(why) => return Ok(neither(why)),
    };
    let Between { key, ordered_by, through } = between;
    let forward = Flow { key, ordered_by, columns, kept: Vec::new() };
    let backward = backward(scratch, old, new, renames, given, &forward).await?;
    Ok(Mapping { forward: Ok(forward), backward, through })
}

fn neither(why: String) -> Mapping {
    Mapping { forward: Err(why.clone()), backward: Err(why), through: String::new() }
}

fn known(table: &Table, column: &str) -> Result<()> {
    match table.column(column) {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Usage, format!("`{}` has no column `{column}`", table.name))),
    }
}

fn expression_for<'a>(given: &'a [(String, String)], column: &str) -> Option<&'a str> {
    given.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, text)| text.as_str())
}

fn mapped(product: Product, to: &Column, expression: String, from: Option<&Column>) -> Mapped {
    let (expected, stored) = comparable(product, &expression, from, to);
    Mapped { column: to.name.clone(), expression, expected, stored, original: None }
}

/// <https://dev.mysql.com/doc/refman/9.7/en/data-type-defaults.html>.
fn implicit_default(column: &Column) -> &'static str {
    match column.data_type.as_str() {
        "date" => "'0000-00-00'",
        "datetime" | "timestamp" => "'0000-00-00 00:00:00'",
        "time" => "'00:00:00'",
        "json" => "CAST('null' AS JSON)",
        _ if column.is_text() || column.is_binary() => "''",
        "enum" => "1",
        "set" => "''",
        _ => "0",
    }
}

async fn backward(
    scratch: &mut Scratch,
    old: &Table,
    new: &Table,
    renames: &Renames,
    given: &Given<'_>,
    forward: &Flow,
) -> Result<std::result::Result<Flow, String>> {
    let mut columns = Vec::new();
    let mut kept = Vec::new();
    for column in old.columns.iter().filter(|column| !column.is_generated) {
        let to = new.column(renames.new_name(&column.name));
        if let Some(own) = expression_for(given.reverse, &column.name) {
            scratch.check_expression(new, own).await?;
            columns.push(mapped(scratch.product(), column, format!("({own})"), None));
            continue;
        }
        let Some(to) = to else {
            kept.push(column.name.clone());
            continue;
        };
        let mut back = mapped(scratch.product(), column, ident(&to.name), Some(to));
        // What was plain is computed now: the old values were never sent, and stay where they are.
        if to.is_generated {
            let anything = "TRUE".to_owned();
            back.original = Some(Original { expected: anything.clone(), stored: anything });
        }
        // What was sent forward as another type may have lost something on the way: it is kept where going
        // forward again gives what the new table holds now.
        let sent = forward.columns.iter().find(|mapped| mapped.column == to.name);
        if let Some(sent) = sent
            && to.column_type != column.column_type
            && !is_lossless(column, to)
        {
            back.original = Some(Original { expected: sent.expected.clone(), stored: sent.stored.clone() });
        }
        columns.push(back);
    }
    Ok(match key_between(new, old, &columns) {
        Ok(Between { key, ordered_by, .. }) => Ok(Flow { key, ordered_by, columns, kept }),
        Err(why) => Err(format!("the new shape has no key that the old one has, too: {why}")),
    })
}

/// What tells rows apart on both sides.
struct Between {
    key: Vec<KeyColumn>,
    ordered_by: Option<usize>,
    /// The other side's unique key that goes with it.
    through: String,
}

/// A unique key of either table, whose values go over unchanged. One may have more columns than the other: rows that
/// `id` tells apart, `id` and a date tell apart as well.
///
/// Best is one that is the other side's primary key: rows come in its order, and nothing else has to be unique while
/// they are copied.
fn key_between(from: &Table, to: &Table, columns: &[Mapped]) -> std::result::Result<Between, String> {
    let mut why = "it has no primary key, and no unique key of columns that are NOT NULL".to_owned();
    let mut best: Option<(bool, bool, Between)> = None;
    for own in &from.unique {
        let key = match key_columns(from, own) {
            Ok(key) => key,
            Err(reason) => {
                why = reason.to_string();
                continue;
            }
        };
        let key = match carried(&key, to, columns) {
            Ok(key) => key,
            Err(reason) => {
                why = reason;
                continue;
            }
        };
        for other in &to.unique {
            match joined(from, to, columns, &key, other) {
                Ok((key, ordered_by)) => {
                    let is_second = other.name != "PRIMARY";
                    let is_wider = ordered_by.is_some() || key.len() > other.parts.len();
                    if best
                        .as_ref()
                        .is_none_or(|(second, wider, _)| (is_second, is_wider) < (*second, *wider))
                    {
                        let through = other.name.clone();
                        best = Some((is_second, is_wider, Between { key, ordered_by, through }));
                    }
                }
                Err(reason) => why = reason,
            }
        }
    }
    best.map(|(_, _, between)| between).ok_or(why)
}

/// The key of two unique keys, one of each side, if one begins with the other or both have the same columns; with the
/// number of its columns that order the source, if it is not all of them.
fn joined(
    from: &Table,
    to: &Table,
    columns: &[Mapped],
    key: &[KeyColumn],
    other: &Unique,
) -> std::result::Result<(Vec<KeyColumn>, Option<usize>), String> {
    let names: Vec<String> = key.iter().map(|column| ident(&column.written)).collect();
    let has_all = names.iter().all(|name| other.parts.contains(name));
    if has_all && other.parts.len() == names.len() || names.starts_with(&other.parts) {
        return Ok((key.to_vec(), None));
    }
    if !other.parts.starts_with(&names) {
        return Err(format!(
            "the other shape has no unique key that is, or begins with, {}",
            names.join(", ")
        ));
    }
    let there = key_columns(to, other).map_err(|why| why.to_string())?;
    let here = there[names.len()..].iter().map(|column| origin(from, columns, column));
    let more = carried(&here.collect::<std::result::Result<Vec<_>, _>>()?, to, columns)?;
    let all = key.iter().cloned().chain(more).collect();
    Ok((all, Some(names.len())))
}

/// The column whose values another one takes over as they are, and that is never NULL.
fn origin<'t>(from: &'t Table, columns: &[Mapped], to: &Column) -> std::result::Result<&'t Column, String> {
    let mapped = columns.iter().find(|mapped| mapped.column == to.name);
    mapped
        .and_then(|mapped| from.columns.iter().find(|column| mapped.expression == ident(&column.name)))
        .filter(|column| !column.is_nullable)
        .ok_or_else(|| format!("column {} of the other shape's key is not there, or may be NULL", to.name))
}

/// A column's type; of a text, with how it compares.
fn kind(column: &Column) -> String {
    let collation = column.collation.as_ref().map(|collation| format!(" COLLATE {collation}"));
    format!("{}{}", column.column_type, collation.unwrap_or_default())
}

fn carried(key: &[&Column], to: &Table, columns: &[Mapped]) -> std::result::Result<Vec<KeyColumn>, String> {
    key.iter()
        .map(|column| {
            let mapped = columns
                .iter()
                .find(|mapped| mapped.expression == ident(&column.name))
                .ok_or_else(|| format!("column {} of the key does not stay as it is", column.name))?;
            let other = to
                .column(&mapped.column)
                .ok_or_else(|| format!("the other shape has no column {}", mapped.column))?;
            let both_whole = column.is_integer() && other.is_integer();
            let is_same = column.column_type == other.column_type
                && column.charset == other.charset
                && column.collation == other.collation;
            if !both_whole && !is_same {
                return Err(format!(
                    "column {} of the key changes from {} to {}, and equal values may not stay equal",
                    column.name,
                    kind(column),
                    kind(other)
                ));
            }
            let kind = column.key_kind().ok_or_else(|| format!("column {} cannot be a key", column.name))?;
            Ok(KeyColumn {
                source: column.name.clone(),
                written: other.name.clone(),
                ordinal: column.ordinal,
                kind,
            })
        })
        .collect()
}
