//! The rebuild as a candidate.

use replank_core::Result;
use replank_core::plan::{Candidate, Evidence, LockNote, NullColumn, Step, Strategy};
use serde_json::Value as Json;
use sqlx::sqlite::SqliteConnection;

use super::evidence;
use super::mapping::{Given, mapping};
use super::shape::Shape;
use super::size::Size;
use crate::error::from_sqlx;
use crate::inspect::{Table, get};
use crate::rebuild::column_lines;
use crate::scratch::Scratch;
use crate::spec::{Side, Spec};
use crate::sql::query;

/// Two renames and the schema's text, in one transaction. Measured: some 5 ms with ten indexes; the rest is
/// the drain of the last changes.
const SWAP_MS: u64 = 30;

/// One chunk of the copy.
const CHUNK_MS: u64 = 20;

/// The candidate, with what the rows that are there say.
pub async fn shadow(
    connection: &mut SqliteConnection,
    scratch: &mut Scratch,
    old: &Table,
    shape: &Shape,
    given: &Given<'_>,
    size: Size,
) -> Result<(Candidate, Evidence)> {
    let new = scratch.replace(old, &shape.text, &shape.indexes, &shape.triggers).await?;
    let mapping = mapping(scratch, old, &new, shape, given).await?;
    let forward = match &mapping.forward {
        Ok(forward) => forward,
        Err(why) => {
            return Ok((
                impossible(format!("rows cannot be told apart while they are copied: {why}")),
                Evidence::default(),
            ));
        }
    };
    let mut evidence = evidence::gather(connection, old, &new, &mapping, forward).await?;
    evidence::foreign_keys(connection, scratch, old, forward, &mut evidence).await?;
    if size.rows > 0 {
        evidence.nulls.retain(|found| !mapping.unfilled.contains(&found.column));
        evidence.nulls.extend(mapping.unfilled.iter().map(|column| NullColumn {
            column: column.clone(),
            rows: size.rows,
            samples: Vec::new(),
        }));
    }
    let spec = Spec {
        old: side(connection, old).await?,
        new: side(scratch.connection(), &new).await?,
        forward: forward.clone(),
        backward: mapping.backward.as_ref().ok().cloned(),
    };
    let mut candidate = candidate(size);
    candidate.spec = spec.write()?;
    candidate.impossible = unsuitable(connection, old, &new).await?;
    let is_stored = |name: &str| new.column(name).is_some_and(|column| !column.generated);
    let added: Vec<String> = shape
        .origins
        .iter()
        .filter(|origin| origin.from.is_none() && is_stored(&origin.column))
        .map(|origin| format!("column {}", origin.column))
        .collect();
    match &mapping.backward {
        Ok(_) if !added.is_empty() => {
            candidate.undo =
                format!("{}; what was written to {} is gone then", candidate.undo, added.join(", "));
        }
        Ok(_) => {}
        Err(why) => {
            candidate.no_way_back = Some(why.clone());
        }
    }
    Ok((candidate, evidence))
}

/// A rebuild that cannot be made.
pub fn impossible(why: String) -> Candidate {
    Candidate { impossible: Some(why), ..candidate(Size { rows: 0, rows_exact: true, bytes: 0 }) }
}

fn candidate(size: Size) -> Candidate {
    let step = Step::of_engine;
    Candidate {
        strategy: Strategy::Shadow,
        impossible: None,
        unasked: None,
        reason: "SQLite cannot do this to a table in place without holding the write lock throughout"
            .to_owned(),
        steps: vec![
            step("make the new table, empty, and triggers that log changed keys", "drop them"),
            step("copy rows in short transactions, and apply changes", "drop the new table"),
            step("compare every row, both ways", "nothing"),
            step("swap the names in one transaction; the old table stays in step", "swap them back"),
        ],
        locks: vec![
            LockNote {
                what: "the write lock, for each chunk: other writers wait".to_owned(),
                hold_ms: CHUNK_MS,
            },
            LockNote {
                what: "the write lock, for the swap: other writers wait".to_owned(),
                hold_ms: SWAP_MS,
            },
        ],
        discards: Vec::new(),
        no_way_back: None,
        // The table, its indexes, the log, and room for the WAL.
        disk_bytes: Some(size.bytes + size.bytes / 4),
        undo: "`revert` swaps back, with every write made since; `finalize` drops the old table".to_owned(),
        spec: Json::Null,
    }
}

async fn side(connection: &mut SqliteConnection, table: &Table) -> Result<Side> {
    Ok(Side {
        sql: table.sql.clone(),
        indexes: table.indexes.clone(),
        triggers: table.triggers.clone(),
        unique: table.unique.clone(),
        columns: column_lines(connection, &table.name).await?,
        autoincrement: table.is_autoincrement(),
    })
}

/// What about the database itself stands in the way.
async fn unsuitable(connection: &mut SqliteConnection, old: &Table, new: &Table) -> Result<Option<String>> {
    let mode: String = pragma(connection, "PRAGMA journal_mode").await?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Ok(Some(format!(
            "journal_mode is {mode}, in which readers and the copy keep each other out: run `PRAGMA journal_mode=WAL`"
        )));
    }
    let encoding: String = pragma(connection, "PRAGMA encoding").await?;
    if encoding != "UTF-8" {
        return Ok(Some(format!("the database's encoding is {encoding}; keys are carried as UTF-8")));
    }
    let known =
        query("SELECT name FROM pragma_collation_list").fetch_all(connection).await.map_err(from_sqlx)?;
    let known: Vec<String> = known.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let used = old.columns.iter().chain(&new.columns).map(|column| &column.collation);
    let used =
        used.chain(old.unique.iter().chain(&new.unique).flat_map(|u| &u.terms).map(|term| &term.collation));
    Ok(used
        .filter(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .map(|name| format!("the collation {name} is defined by the application and unknown here"))
        .next())
}

async fn pragma(connection: &mut SqliteConnection, sql: &str) -> Result<String> {
    let row = query(sql).fetch_one(connection).await.map_err(from_sqlx)?;
    get(&row, 0)
}
