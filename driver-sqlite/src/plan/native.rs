//! What SQLite's own statements can do, and what they would hold the write lock for.

use std::time::Duration;

use replank_core::Result;
use replank_core::ident::aside_name;
use replank_core::plan::{Candidate, LockNote, Step, Strategy, UNDO_KEEPING};
use serde_json::{Value as Json, json};
use sqlx::sqlite::SqliteConnection;

use super::size::{self, Size, ms};
use crate::inspect::Table;
use crate::parse::{Clause, Column, IndexText, PartKind, unqualified};
use crate::scratch::Scratch;
use crate::sql::ident;

/// Longest time that SQLite needs for a change of the schema's text alone. Measured: under 1 ms.
const SCHEMA_ONLY: Duration = Duration::from_millis(2);

/// The candidates for the clauses of an ALTER TABLE, where SQLite has such statements at all.
pub async fn alter(
    connection: &mut SqliteConnection,
    scratch: &mut Scratch,
    table: &Table,
    clauses: &[Clause],
    size: Size,
) -> Result<Vec<Candidate>> {
    let only_adds = clauses.iter().all(|clause| matches!(clause, Clause::AddColumn(_)));
    match clauses {
        [Clause::RenameTo(to)] => Ok(vec![rename_table(table, to)]),
        [Clause::RenameColumn { from, to }] => Ok(vec![rename_column(scratch, table, from, to).await?]),
        [Clause::DropColumn(column)] => {
            Ok(vec![drop_column(connection, scratch, table, column, size).await?])
        }
        [Clause::AddIndex { sql, .. }] => {
            Ok(vec![create_index(connection, table, &IndexText::parse(sql)?, size).await?])
        }
        [Clause::DropIndex(name)] => Ok(drop_index(table, name, size).into_iter().collect()),
        _ if only_adds => Ok(vec![add_columns(connection, scratch, table, clauses, size).await?]),
        // Several changes at once stay one change: SQLite could only do them one by one.
        _ => Ok(Vec::new()),
    }
}

fn candidate(strategy: Strategy, reason: &str, steps: Vec<Step>, hold: Duration, undo: &str) -> Candidate {
    Candidate {
        strategy,
        impossible: None,
        unasked: None,
        reason: reason.to_owned(),
        steps,
        locks: vec![LockNote {
            what: "the write lock of the database: other writers wait".to_owned(),
            hold_ms: ms(hold),
        }],
        discards: Vec::new(),
        no_way_back: None,
        disk_bytes: None,
        undo: undo.to_owned(),
        spec: Json::Null,
    }
}

fn step(title: String, statement: String, inverse: String) -> Step {
    Step {
        title,
        statement,
        inverse,
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: Json::Null,
    }
}

async fn add_columns(
    connection: &mut SqliteConnection,
    scratch: &mut Scratch,
    table: &Table,
    clauses: &[Clause],
    size: Size,
) -> Result<Candidate> {
    let mut steps = Vec::new();
    let mut scans = false;
    let mut impossible = None;
    for clause in clauses {
        let Clause::AddColumn(column) = clause else { continue };
        let statement =
            format!("ALTER TABLE {} ADD COLUMN {}", ident(&table.name), column.render(false).trim());
        let inverse = format!("ALTER TABLE {} DROP COLUMN {}", ident(&table.name), ident(&column.name));
        if let Some(why) = scratch.tries(&statement).await? {
            impossible = Some(format!("SQLite cannot add this column to a table: {why}"));
        } else if size.rows > 0
            && let Some(why) = needs_empty_table(column)
        {
            impossible = Some(format!("SQLite adds such a column only to an empty table: {why}"));
        }
        // SQLite reads every row to see whether it meets these.
        scans |=
            column.has(PartKind::Check) || (column.has(PartKind::Generated) && column.has(PartKind::NotNull));
        let mut step = step(format!("add column {}", column.name), statement, inverse);
        if !column.has(PartKind::Generated) {
            step.inverse_discards.push(format!("column {}", column.name));
        }
        steps.push(step);
    }
    let hold = if scans { size::rewrite(connection, table, size).await? } else { SCHEMA_ONLY };
    let loses = steps.iter().any(|step| !step.inverse_discards.is_empty());
    let undo = if loses { UNDO_KEEPING } else { "`revert` drops the column" };
    let mut found = candidate(Strategy::Instant, "only the table's text changes", steps, hold, undo);
    found.impossible = impossible;
    Ok(found)
}

/// What SQLite allows in ADD COLUMN only while the table has no row.
fn needs_empty_table(column: &Column) -> Option<&'static str> {
    let default = column.part(PartKind::Default).map(|part| part.text.to_ascii_uppercase());
    let has_value = default.as_deref().is_some_and(|text| !text.trim_end().ends_with("DEFAULT NULL"));
    if column.has(PartKind::NotNull) && !has_value && !column.has(PartKind::Generated) {
        return Some("it is NOT NULL and has no default");
    }
    let is_computed = default.as_deref().is_some_and(|text| text.contains('(') || text.contains("CURRENT_"));
    is_computed.then_some("its default is not a constant")
}

async fn drop_column(
    connection: &mut SqliteConnection,
    scratch: &mut Scratch,
    table: &Table,
    column: &str,
    size: Size,
) -> Result<Candidate> {
    let name = table.column(column).map_or(column, |found| &found.name);
    let statement = format!("ALTER TABLE {} DROP COLUMN {}", ident(&table.name), ident(name));
    let refused = scratch.tries(&statement).await?;
    let hold = size::rewrite(connection, table, size).await?;
    let steps = vec![step(format!("drop column {name}"), statement, String::new())];
    let mut found = candidate(
        Strategy::NativeOnline,
        "SQLite writes every row again in one statement",
        steps,
        hold,
        "cannot be undone",
    );
    found.discards.push(format!("column {name}"));
    found.impossible = refused.map(|why| format!("SQLite cannot drop it: {why}"));
    Ok(found)
}

fn rename_table(table: &Table, to: &str) -> Candidate {
    let rename = |from: &str, to: &str| format!("ALTER TABLE {} RENAME TO {}", ident(from), ident(to));
    let steps =
        vec![step(format!("rename the table to {to}"), rename(&table.name, to), rename(to, &table.name))];
    candidate(
        Strategy::Instant,
        "only names change; views, triggers and foreign keys follow",
        steps,
        SCHEMA_ONLY,
        "`revert` renames it back",
    )
}

async fn rename_column(scratch: &mut Scratch, table: &Table, from: &str, to: &str) -> Result<Candidate> {
    let rename = |from: &str, to: &str| {
        format!("ALTER TABLE {} RENAME COLUMN {} TO {}", ident(&table.name), ident(from), ident(to))
    };
    let statement = rename(from, to);
    let refused = scratch.tries(&statement).await?;
    let steps = vec![step(format!("rename column {from} to {to}"), statement, rename(to, from))];
    let mut found = candidate(
        Strategy::Instant,
        "only names change; views, triggers, indexes and foreign keys follow",
        steps,
        SCHEMA_ONLY,
        "`revert` renames it back",
    );
    found.impossible = refused.map(|why| format!("SQLite cannot rename it: {why}"));
    Ok(found)
}

/// `CREATE INDEX`, which holds the write lock from its first row to its last.
pub async fn create_index(
    connection: &mut SqliteConnection,
    table: &Table,
    index: &IndexText,
    size: Size,
) -> Result<Candidate> {
    let (terms, _) = index.terms()?;
    let terms: Vec<String> = terms.iter().map(|term| unqualified(term, &table.name)).collect();
    let hold = size::index_build(connection, table, &terms, size).await;
    let steps = vec![step(
        format!("create index {}", index.name),
        index.render(&index.name, &table.name),
        format!("DROP INDEX {}", ident(&index.name)),
    )];
    let (hold, impossible) = match hold {
        Ok(hold) => (hold, None),
        Err(error) => {
            (Duration::ZERO, Some(format!("SQLite cannot read what is to be indexed: {}", error.message())))
        }
    };
    let mut found = candidate(
        Strategy::NativeOnline,
        "small enough to be built at once",
        steps,
        hold,
        "`revert` drops the index",
    );
    found.disk_bytes = Some(size.bytes / 2);
    found.impossible = impossible;
    Ok(found)
}

/// `DROP INDEX`; none where the table has no such explicit index.
pub fn drop_index(table: &Table, name: &str, size: Size) -> Option<Candidate> {
    let index = table.indexes.iter().find(|index| index.name.eq_ignore_ascii_case(name))?;
    let statement = format!("DROP INDEX {}", ident(&index.name));
    let share = size.bytes / (u64::try_from(table.indexes.len()).unwrap_or(1) + 1);
    let steps = vec![step(format!("drop index {}", index.name), statement, index.sql.clone())];
    Some(candidate(
        Strategy::Instant,
        "its pages are freed",
        steps,
        size::free(share).max(SCHEMA_ONLY),
        "`revert` builds the index again",
    ))
}

/// `DROP TABLE`: for good where the person gave up the way back, else out of the way until `finalize`.
pub fn drop_table(table: &Table, size: Size) -> Vec<Candidate> {
    let statement = format!("DROP TABLE {}", ident(&table.name));
    let mut for_good = candidate(
        Strategy::Instant,
        "its pages are freed",
        vec![step(format!("drop table {}", table.name), statement, String::new())],
        size::free(size.bytes).max(SCHEMA_ONLY),
        "cannot be undone",
    );
    for_good.discards.push(format!("table {} with {} rows", table.name, size.rows));

    let aside = aside_name(&table.sql);
    let rename = |from: &str, to: &str| format!("ALTER TABLE {} RENAME TO {}", ident(from), ident(to));
    let mut step = step(
        format!("take table {} out of the way as {aside}", table.name),
        rename(&table.name, &aside),
        rename(&aside, &table.name),
    );
    step.finalize = format!("DROP TABLE {}", ident(&aside));
    step.spec = json!({ "aside": { "table": table.name, "name": aside, "sql": table.sql } });
    let kept = candidate(
        Strategy::Instant,
        "the table is renamed out of the way and dropped by `finalize`",
        vec![step],
        SCHEMA_ONLY,
        "`revert` gives it its name again; its rows are kept until `finalize`",
    );
    vec![for_good, kept]
}
