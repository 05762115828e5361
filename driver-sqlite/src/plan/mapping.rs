//! How the columns of one shape become those of the other.

use replank_core::{Error, ErrorKind, Result};

use super::key;
use super::shape::Shape;
use crate::inspect::{Affinity, Column, Table};
use crate::parse::{Token, tokens, unqualified};
use crate::scratch::Scratch;
use crate::spec::{Flow, Mapped, Original};
use crate::sql::ident;

/// Both ways, as far as there are ways.
pub struct Mapping {
    /// Into the new shape; or why there is no way.
    pub forward: std::result::Result<Flow, String>,
    /// Back; or why there is no way.
    pub backward: std::result::Result<Flow, String>,
    /// New columns that refuse NULL and have nothing else to give to rows that are there.
    pub unfilled: Vec<String>,
    /// Columns whose values are made into another type without an expression of the person's.
    pub converted: Vec<Converted>,
}

/// A conversion that may lose something.
pub struct Converted {
    /// The new column.
    pub column: String,
    /// The old one.
    pub from: String,
    /// The type.
    pub declared: String,
    /// What it makes of values.
    pub affinity: Affinity,
}

/// What the person gave besides the statement: column and expression.
pub struct Given<'a> {
    /// Over the old columns.
    pub forward: &'a [(String, String)],
    /// Over the new columns.
    pub reverse: &'a [(String, String)],
}

/// Finds the ways.
pub async fn mapping(
    scratch: &mut Scratch,
    old: &Table,
    new: &Table,
    shape: &Shape,
    given: &Given<'_>,
) -> Result<Mapping> {
    let mut unfilled = Vec::new();
    let mut converted = Vec::new();
    let mut forward = Vec::new();
    for (column, _) in given.forward {
        new.column(column).ok_or_else(|| super::shape::no_column(&new.name, column))?;
    }
    for (column, _) in given.reverse {
        old.column(column).ok_or_else(|| super::shape::no_column(&old.name, column))?;
    }
    for column in new.stored() {
        let origin = shape.origins.iter().find(|origin| origin.column.eq_ignore_ascii_case(&column.name));
        let from = origin.and_then(|origin| origin.from.as_deref()).and_then(|name| old.column(name));
        let own = expression_for(given.forward, &column.name)
            .or_else(|| origin.and_then(|origin| origin.using.clone()))
            .map(|text| unqualified(&text, &old.name));
        let expression = if let Some(own) = own {
            scratch.check_expression(old, &own).await?;
            format!("({own})")
        } else if let Some(from) = from {
            let (expression, conversion) = conversion(from, column);
            if conversion {
                converted.push(Converted {
                    column: column.name.clone(),
                    from: from.name.clone(),
                    declared: column.declared.clone(),
                    affinity: column.affinity,
                });
            }
            expression
        } else {
            new_column(scratch, old, column, &mut unfilled).await?
        };
        forward.push(mapped(column, expression));
    }
    let unchanged = |name: &str| unchanged(&forward, name);
    let forward = key::between(old, new, unchanged).map(|(key, needs_key_index)| Flow {
        key,
        needs_key_index,
        columns: forward.clone(),
        kept: Vec::new(),
    });
    let backward = match &forward {
        Ok(forward) => backward(scratch, old, new, shape, given, forward).await?,
        Err(why) => Err(why.clone()),
    };
    Ok(Mapping { forward, backward, unfilled, converted })
}

/// The name under which a column arrives with just the values that it had.
fn unchanged(columns: &[Mapped], name: &str) -> Option<String> {
    columns.iter().find(|column| column.expression == ident(name)).map(|column| column.column.clone())
}

fn mapped(column: &Column, expression: String) -> Mapped {
    Mapped {
        column: column.name.clone(),
        expression,
        is_verbatim: column.affinity == Affinity::Blob,
        original: None,
    }
}

fn expression_for(given: &[(String, String)], column: &str) -> Option<String> {
    given.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, text)| text.clone())
}

/// A column's value as another type, and whether that may lose something.
fn conversion(from: &Column, to: &Column) -> (String, bool) {
    let name = ident(&from.name);
    // A column without an affinity takes every value as it is.
    let keeps = from.affinity == to.affinity
        || (to.affinity == Affinity::Blob && !to.declared.to_ascii_uppercase().contains("BLOB"));
    if keeps { (name, false) } else { (format!("CAST({name} AS {})", type_name(to)), true) }
}

/// The type to convert to: the affinity's own name, so that nothing in the declared type can surprise.
fn type_name(column: &Column) -> &'static str {
    match column.affinity {
        Affinity::Integer => "INTEGER",
        Affinity::Text => "TEXT",
        Affinity::Blob => "BLOB",
        Affinity::Real => "REAL",
        Affinity::Numeric => "NUMERIC",
    }
}

/// What rows that are there get in a new column.
async fn new_column(
    scratch: &mut Scratch,
    old: &Table,
    column: &Column,
    unfilled: &mut Vec<String>,
) -> Result<String> {
    match &column.default {
        Some(default) => {
            scratch.check_expression(old, default).await.map_err(|error| {
                if error.kind() == ErrorKind::Refused {
                    Error::new(
                        ErrorKind::Refused,
                        format!("the default of `{}` is not the same for every read", column.name),
                    )
                    .hint(format!(
                        "say what rows that are there get: -D 'forward=\"{} = EXPRESSION\"'",
                        column.name
                    ))
                    .caused_by(error)
                } else {
                    error
                }
            })?;
            Ok(default.clone())
        }
        None => {
            if column.not_null {
                unfilled.push(column.name.clone());
            }
            Ok("NULL".to_owned())
        }
    }
}

async fn backward(
    scratch: &mut Scratch,
    old: &Table,
    new: &Table,
    shape: &Shape,
    given: &Given<'_>,
    forward: &Flow,
) -> Result<std::result::Result<Flow, String>> {
    let mut columns = Vec::new();
    let mut kept = Vec::new();
    for column in old.stored() {
        let origin = shape.origins.iter().find(|origin| {
            origin.from.as_deref().is_some_and(|from| from.eq_ignore_ascii_case(&column.name))
        });
        let to = origin.and_then(|origin| new.column(&origin.column));
        let own = expression_for(given.reverse, &column.name).map(|text| unqualified(&text, &new.name));
        if let Some(own) = &own {
            scratch.check_expression(new, own).await?;
        }
        let sent = to.and_then(|to| forward.columns.iter().find(|mapped| mapped.column == to.name));
        let (expression, original) = match (own, to, sent) {
            (None, Some(to), Some(sent)) if sent.expression == ident(&column.name) => (ident(&to.name), None),
            (own, Some(to), Some(sent)) => {
                let original = Original { source: to.name.clone(), expression: sent.expression.clone() };
                let expression = own.map_or_else(|| conversion(to, column).0, |own| format!("({own})"));
                (expression, Some(original))
            }
            (Some(own), _, _) => (format!("({own})"), None),
            // A column that is computed now: its value can still be read.
            (None, Some(to), None) => (ident(&to.name), None),
            (None, None, _) => {
                kept.push(column.name.clone());
                continue;
            }
        };
        columns.push(Mapped { original, ..mapped(column, expression) });
    }
    let (key, needs_key_index) = match key::between(new, old, |name| unchanged(&columns, name)) {
        Ok(found) => found,
        Err(why) => return Ok(Err(format!("the new shape has no key that the old one has, too: {why}"))),
    };
    if needs_key_index {
        return Ok(Err("the old shape has no unique key of the new shape's key columns".to_owned()));
    }
    let key_columns: Vec<&str> = key.iter().map(|column| column.written.as_str()).collect();
    if !kept.is_empty()
        && let Some(why) = immovable(old, new, &key_columns)?
    {
        return Ok(Err(format!(
            "values of {} cannot follow a row whose key changes: {why}",
            kept.join(", ")
        )));
    }
    Ok(Ok(Flow { key, needs_key_index, columns, kept }))
}

/// Why the old table might refuse a new key for one of its rows. It follows the live table's rows inside
/// the application's own statements, which must never fail for it.
fn immovable(old: &Table, new: &Table, key: &[&str]) -> Result<Option<String>> {
    let is_key = |name: &str| key.iter().any(|column| column.eq_ignore_ascii_case(name));
    if old.strict && !new.strict {
        return Ok(Some("the old table is STRICT".to_owned()));
    }
    if let Some(column) = old.columns.iter().find(|column| column.generated) {
        return Ok(Some(format!("column {} is computed", column.name)));
    }
    let new_checks = new.text.checks()?;
    for check in old.text.checks()? {
        let names_key = tokens(&check)?.iter().filter_map(Token::name).any(|name| is_key(&name));
        if names_key && !new_checks.contains(&check) {
            return Ok(Some(format!("the old table has CHECK {check}")));
        }
    }
    for unique in &old.unique {
        let in_key: Vec<bool> =
            unique.terms.iter().map(|term| term.column.as_deref().is_some_and(is_key)).collect();
        let is_the_key =
            in_key.len() == key.len() && in_key.iter().all(|is| *is) && unique.condition.is_none();
        let on_expression = unique.terms.iter().any(|term| term.column.is_none());
        if !is_the_key && (on_expression || in_key.iter().any(|is| *is)) {
            return Ok(Some(format!("the old table's unique key {} shares columns with it", unique.label)));
        }
    }
    // Foreign keys are taken off with the live name.
    Ok(None)
}
