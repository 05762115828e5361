//! What the rows that are there say about the change, each looked at once, before anything is created.

use replank_core::Result;
use replank_core::plan::{Collision, Evidence, NullColumn, Unfit};
use sqlx::sqlite::SqliteConnection;

use super::mapping::{Converted, Mapping};
use crate::error::from_sqlx;
use crate::inspect::{Affinity, Table, Unique, get};
use crate::rebuild::{grouped, mapped};
use crate::spec::{Flow, Mapped};
use crate::sql::{ident, number, query, rows};

/// How many rows or groups are shown.
const SAMPLES: usize = 5;

/// Looks at every row that the change could fail on.
pub async fn gather(
    connection: &mut SqliteConnection,
    old: &Table,
    new: &Table,
    mapping: &Mapping,
    forward: &Flow,
) -> Result<Evidence> {
    let view = View { old, forward };
    let mut evidence = Evidence::default();
    for unique in &new.unique {
        if already_unique(old, new, unique, &forward.columns) {
            continue;
        }
        match view.collision(connection, unique).await {
            Ok(found) => evidence.collisions.extend(found),
            // It looks at a computed column, which only the new table has.
            Err(error) => evidence.unread.push(format!("unique {}: {}", unique.label, error.message())),
        }
    }
    for column in new.stored().filter(|column| column.not_null) {
        let expression = expression(&forward.columns, &column.name);
        let was_not_null = old.columns.iter().any(|own| own.not_null && expression == ident(&own.name));
        if was_not_null || is_row_id(new, &column.name) {
            continue;
        }
        if let Some((rows, samples)) = view.count(connection, &format!("({expression}) IS NULL")).await? {
            evidence.nulls.push(NullColumn { column: column.name.clone(), rows, samples });
        }
    }
    for converted in &mapping.converted {
        let condition = loses(converted);
        if let Some((rows, samples)) = view.count(connection, &condition).await? {
            let what = format!("column {} as {}", converted.column, converted.declared);
            evidence.unfit.push(Unfit { what, rows, samples });
        }
    }
    for check in new.text.checks()? {
        match view.count_new(connection, &format!("NOT {check}")).await {
            Ok(Some((rows, samples))) => {
                evidence.unfit.push(Unfit { what: format!("CHECK {check}"), rows, samples });
            }
            Ok(None) => {}
            // It looks at a computed column, which only the new table has.
            Err(error) => evidence.unread.push(format!("CHECK {check}: {}", error.message())),
        }
    }
    if new.strict {
        for column in new.stored() {
            let Some(condition) = strict_refuses(&column.declared, &ident(&column.name)) else { continue };
            if let Some((rows, samples)) = view.count_new(connection, &condition).await? {
                let what = format!("column {} {} of a STRICT table", column.name, column.declared);
                evidence.unfit.push(Unfit { what, rows, samples });
            }
        }
    }
    Ok(evidence)
}

/// Adds the violations of foreign keys that the new shape has and the old one has not.
pub async fn foreign_keys(
    connection: &mut SqliteConnection,
    scratch: &mut crate::scratch::Scratch,
    old: &Table,
    forward: &Flow,
    evidence: &mut Evidence,
) -> Result<()> {
    let new = foreign_key_list(scratch.connection(), &old.name).await?;
    let known = foreign_key_list(connection, &old.name).await?;
    let view = View { old, forward };
    for key in new.iter().filter(|key| !known.contains(key)) {
        let filled: Vec<String> =
            key.columns.iter().map(|(from, _)| format!("m.{} IS NOT NULL", ident(from))).collect();
        let same: Vec<String> =
            key.columns.iter().map(|(from, to)| format!("p.{} = m.{}", ident(to), ident(from))).collect();
        let condition = format!(
            "{} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
            filled.join(" AND "),
            ident(&key.parent),
            same.join(" AND ")
        );
        if let Some((rows, samples)) = view.count_new(connection, &condition).await? {
            let from: Vec<&str> = key.columns.iter().map(|(from, _)| from.as_str()).collect();
            let what = format!("the foreign key ({}) on {}", from.join(", "), key.parent);
            evidence.unfit.push(Unfit { what, rows, samples });
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
struct ForeignKey {
    parent: String,
    columns: Vec<(String, String)>,
}

async fn foreign_key_list(connection: &mut SqliteConnection, table: &str) -> Result<Vec<ForeignKey>> {
    let found =
        query("SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?) ORDER BY id, seq")
            .bind(table.to_owned())
            .fetch_all(&mut *connection)
            .await
            .map_err(from_sqlx)?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    for row in &found {
        let (id, parent, from): (i64, String, String) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        let to: Option<String> = get(row, 3)?;
        if keys.last().is_none_or(|(last, _)| *last != id) {
            keys.push((id, ForeignKey { parent: parent.clone(), columns: Vec::new() }));
        }
        let place = keys.last().map_or(0, |(_, key)| key.columns.len());
        let to = match to {
            Some(to) => to,
            // Without a list the parent's primary key is meant.
            None => primary_column(connection, &parent, place).await?.unwrap_or_default(),
        };
        if let Some((_, key)) = keys.last_mut() {
            key.columns.push((from, to));
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

async fn primary_column(
    connection: &mut SqliteConnection,
    table: &str,
    place: usize,
) -> Result<Option<String>> {
    let found = query("SELECT name FROM pragma_table_xinfo(?) WHERE pk = ?")
        .bind(table.to_owned())
        .bind(i64::try_from(place).unwrap_or(0) + 1)
        .fetch_optional(connection)
        .await
        .map_err(from_sqlx)?;
    found.map(|row| get(&row, 0)).transpose()
}

/// The old rows, and what they become.
struct View<'a> {
    old: &'a Table,
    forward: &'a Flow,
}

impl View<'_> {
    fn key(&self) -> Vec<&str> {
        match self.forward.key.is_empty() {
            // Without a key the first column has to do as a sample.
            true => self.old.columns.iter().take(1).map(|column| column.name.as_str()).collect(),
            false => self.forward.source_key(),
        }
    }

    /// The rows in the new shape, with their keys.
    fn new_rows(&self) -> (String, Vec<String>) {
        let slots: Vec<String> = (0..self.key().len()).map(|index| format!("_rp_k{index}")).collect();
        let keys: Vec<String> = self
            .key()
            .iter()
            .zip(&slots)
            .map(|(name, slot)| format!("s.{} AS {}", ident(name), ident(slot)))
            .collect();
        let rows = format!(
            "SELECT {}, {} FROM {} AS s",
            keys.join(", "),
            mapped(&self.forward.columns),
            ident(&self.old.name)
        );
        (rows, slots)
    }

    async fn collision(
        &self,
        connection: &mut SqliteConnection,
        unique: &Unique,
    ) -> Result<Option<Collision>> {
        let (new_rows, slots) = self.new_rows();
        let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
        let groups = grouped(unique, &new_rows, &slots, None);
        let count = number(connection, format!("SELECT count(*) FROM ({groups})")).await?;
        if count == 0 {
            return Ok(None);
        }
        let found = rows(connection, format!("{groups} LIMIT {SAMPLES}")).await?;
        let samples = found
            .iter()
            .map(|row| Ok(format!("{}: {}", get::<String>(row, 0)?, get::<String>(row, 1)?)))
            .collect::<Result<_>>()?;
        Ok(Some(Collision { unique: unique.label.clone(), groups: count.unsigned_abs(), samples }))
    }

    /// Old rows that meet a condition over the old columns.
    async fn count(
        &self,
        connection: &mut SqliteConnection,
        condition: &str,
    ) -> Result<Option<(u64, Vec<String>)>> {
        let from = format!("{} AS m", ident(&self.old.name));
        counted(connection, &from, &self.key(), condition).await
    }

    /// Old rows whose new form meets a condition over the new columns.
    async fn count_new(
        &self,
        connection: &mut SqliteConnection,
        condition: &str,
    ) -> Result<Option<(u64, Vec<String>)>> {
        let (new_rows, slots) = self.new_rows();
        let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
        counted(connection, &format!("({new_rows}) AS m"), &slots, condition).await
    }
}

async fn counted(
    connection: &mut SqliteConnection,
    from: &str,
    key: &[&str],
    condition: &str,
) -> Result<Option<(u64, Vec<String>)>> {
    let count = number(connection, format!("SELECT count(*) FROM {from} WHERE {condition}")).await?;
    if count == 0 {
        return Ok(None);
    }
    let shown: Vec<String> = key.iter().map(|name| format!("quote(m.{})", ident(name))).collect();
    let sql = format!("SELECT {} FROM {from} WHERE {condition} LIMIT {SAMPLES}", shown.join(" || ', ' || "));
    let found = rows(connection, sql).await?;
    let samples = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok(Some((count.unsigned_abs(), samples)))
}

fn expression(columns: &[Mapped], name: &str) -> String {
    columns
        .iter()
        .find(|column| column.column.eq_ignore_ascii_case(name))
        .map_or_else(|| "NULL".to_owned(), |column| column.expression.clone())
}

fn is_row_id(table: &Table, column: &str) -> bool {
    let is = |unique: &Unique| unique.terms.first().and_then(|term| term.column.as_deref()) == Some(column);
    table.unique.iter().any(|unique| unique.is_row_id && is(unique))
}

/// Whether the old table has a unique key that is at least as strict, on the same values.
fn already_unique(old: &Table, new: &Table, unique: &Unique, columns: &[Mapped]) -> bool {
    old.unique.iter().any(|own| {
        own.terms.len() == unique.terms.len()
            && (own.condition.is_none() || own.condition == unique.condition)
            && own.terms.iter().zip(&unique.terms).all(|(own, term)| {
                let same_value = match (&own.column, &term.column) {
                    (Some(old_name), Some(new_name)) => {
                        expression(columns, new_name) == ident(old_name)
                            && old.column(old_name).map(|c| c.affinity)
                                == new.column(new_name).map(|c| c.affinity)
                    }
                    _ => false,
                };
                same_value && own.collation.eq_ignore_ascii_case(&term.collation)
            })
    })
}

/// A condition that holds for values that a conversion does not keep.
fn loses(converted: &Converted) -> String {
    let name = ident(&converted.from);
    let kept = match converted.affinity {
        // The number compares equal to the text that it was made of, or else something was lost.
        Affinity::Integer => format!("+{name} = CAST({name} AS INTEGER)"),
        Affinity::Real => format!("+{name} = CAST({name} AS REAL)"),
        Affinity::Numeric => format!("+{name} = CAST({name} AS NUMERIC)"),
        Affinity::Text => format!(
            "CASE typeof({name}) WHEN 'text' THEN 1 WHEN 'blob' THEN CAST(CAST({name} AS TEXT) AS BLOB) = {name}
             ELSE CAST(CAST({name} AS TEXT) AS NUMERIC) = {name} END"
        ),
        Affinity::Blob => format!("typeof({name}) IN ('text', 'blob')"),
    };
    format!("{name} IS NOT NULL AND NOT ({kept})")
}

/// A condition that holds for values that a column of a STRICT table refuses.
fn strict_refuses(declared: &str, name: &str) -> Option<String> {
    let fits = match declared.to_ascii_uppercase().as_str() {
        "INT" | "INTEGER" => {
            format!("typeof(CAST({name} AS NUMERIC)) = 'integer' AND +{name} = CAST({name} AS NUMERIC)")
        }
        "REAL" => format!("typeof({name}) <> 'blob' AND +{name} = CAST({name} AS NUMERIC)"),
        "TEXT" => format!("typeof({name}) <> 'blob'"),
        "BLOB" => format!("typeof({name}) = 'blob'"),
        _ => return None,
    };
    Some(format!("{name} IS NOT NULL AND NOT ({fits})"))
}
