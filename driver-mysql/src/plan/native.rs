//! The server's own ways, and how each is taken back.

use replank_core::ident::aside_name;
use replank_core::plan::{Candidate, LockNote, Step, Strategy};
use serde_json::json;

use super::counter;
use super::renames::Renames;
use crate::added_keys::Looks;
use crate::foreign_key::is_foreign_key;
use crate::inspect::{Column, Table};
use crate::lines::{items, options};
use crate::parse::{Clause, altering};
use crate::sql::{ident, table as qualified};

/// An exclusive metadata lock at the end of a statement: some milliseconds. Measured on an idle table.
const SWAP_MS: u64 = 5;

/// A candidate of the server's own.
pub fn candidate(strategy: Strategy, reason: &str, steps: Vec<Step>, undo: &str) -> Candidate {
    Candidate {
        strategy,
        impossible: None,
        unasked: None,
        reason: reason.to_owned(),
        steps,
        locks: vec![LockNote {
            what: "a metadata lock on the table, at the beginning and the end: others wait".to_owned(),
            hold_ms: SWAP_MS,
        }],
        discards: Vec::new(),
        no_way_back: None,
        disk_bytes: None,
        undo: undo.to_owned(),
        spec: serde_json::Value::Null,
    }
}

/// Something that cannot be done this way.
pub fn impossible(strategy: Strategy, why: String) -> Candidate {
    Candidate { impossible: Some(why), ..candidate(strategy, "", Vec::new(), "") }
}

/// The step that alters a table, with what is needed to probe it.
pub fn alter_step(
    old: &Table,
    new: &Table,
    clauses: &[Clause],
    how: &str,
    inverse: Option<&[String]>,
    inverse_discards: Vec<String>,
    looks: &Looks,
) -> Step {
    let name = qualified(&old.schema, &old.name);
    let statement = altering(&name, how, clauses);
    let column = new.columns.iter().find(|column| column.is_counter);
    let counter = column.zip(counter(clauses));
    let counter = counter.map(|(column, value)| json!({ "column": column.name, "value": value }));
    let inverse = inverse.map(|clauses| format!("ALTER TABLE {name} {}", clauses.join(", ")));
    Step {
        title: format!("alter table {}", old.name),
        statement: statement.clone(),
        inverse: inverse.unwrap_or_default(),
        inverse_discards,
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: json!({
            "schema": old.schema, "table": old.name, "forward": statement, "before": old.sql, "after": new.sql,
            "looks": looks, "counter": counter,
        }),
    }
}

/// Clauses that turn the new definition into the old one; `None` where it is not known how, or values would
/// be gone for good on the way there.
pub fn inverse(old: &Table, new: &Table, renames: &Renames) -> Option<Vec<String>> {
    let mut clauses = Vec::new();
    columns_back(old, new, renames, &mut clauses)?;
    keys_back(old, new, &mut clauses);
    options_back(options(&old.sql), options(&new.sql), &mut clauses)?;
    Some(clauses)
}

/// Columns that the inverse takes off, with what was written there since. What the server computes is nothing of that.
pub fn added(old: &Table, new: &Table, renames: &Renames) -> Vec<String> {
    let stored = come(old, new, renames).filter(|column| !column.is_generated);
    stored.map(|column| format!("column {}", column.name)).collect()
}

/// Columns that only the new definition has.
fn come<'a>(old: &'a Table, new: &'a Table, renames: &'a Renames) -> impl Iterator<Item = &'a Column> {
    let is_old = move |name: &str| {
        old.columns.iter().any(|column| renames.new_name(&column.name).eq_ignore_ascii_case(name))
    };
    new.columns.iter().filter(move |column| !is_old(&column.name))
}

fn columns_back(old: &Table, new: &Table, renames: &Renames, clauses: &mut Vec<String>) -> Option<()> {
    clauses.extend(come(old, new, renames).map(|column| format!("DROP COLUMN {}", ident(&column.name))));
    let kept: Vec<&str> = old.columns.iter().map(|column| renames.new_name(&column.name)).collect();
    let staying: Vec<&str> = new
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .filter(|name| kept.iter().any(|kept| kept.eq_ignore_ascii_case(name)))
        .collect();
    for (index, column) in old.columns.iter().enumerate() {
        let name = renames.new_name(&column.name);
        // A column that is gone took its values along.
        let line = new.column_line(&new.column(name)?.name)?;
        let old_line = old.column_line(&column.name)?;
        let head = |name: &str| format!("{} ", ident(name));
        let is_same = line.strip_prefix(&head(name)) == old_line.strip_prefix(&head(&column.name));
        let is_moved = staying.get(index).is_none_or(|there| !there.eq_ignore_ascii_case(name));
        let is_renamed = name != column.name;
        if is_same && !is_moved && is_renamed {
            clauses.push(format!("RENAME COLUMN {} TO {}", ident(name), ident(&column.name)));
        } else if !is_same || is_moved || is_renamed {
            let place = match index.checked_sub(1).and_then(|before| old.columns.get(before)) {
                Some(before) => format!(" AFTER {}", ident(&before.name)),
                None => " FIRST".to_owned(),
            };
            let place = if is_moved { place } else { String::new() };
            clauses.push(format!("CHANGE COLUMN {} {old_line}{place}", ident(name)));
        }
    }
    Some(())
}

fn keys_back(old: &Table, new: &Table, clauses: &mut Vec<String>) {
    let is_key = |line: &&str| !line.starts_with('`');
    let (before, after) = (items(&old.sql), items(&new.sql));
    let gone: Vec<&str> =
        before.iter().copied().filter(is_key).filter(|line| !after.contains(line)).collect();
    let come: Vec<&str> =
        after.iter().copied().filter(is_key).filter(|line| !before.contains(line)).collect();
    let name_of = |line: &str| line.split('`').nth(1).unwrap_or_default().to_owned();
    for line in &come {
        let name = ident(&name_of(line));
        clauses.push(if line.starts_with("PRIMARY KEY") {
            "DROP PRIMARY KEY".to_owned()
        } else if is_foreign_key(line) {
            format!("DROP FOREIGN KEY {name}")
        } else if line.starts_with("CONSTRAINT") {
            format!("DROP CONSTRAINT {name}")
        } else {
            format!("DROP INDEX {name}")
        });
    }
    for line in &gone {
        clauses.push(format!("ADD {line}"));
    }
}

/// Table options are set back where the old definition names them. ENGINE would write the table anew.
fn options_back(old: &str, new: &str, clauses: &mut Vec<String>) -> Option<()> {
    if old == new {
        return Some(());
    }
    if old.contains("PARTITION BY") || new.contains("PARTITION BY") {
        return None;
    }
    let comment = |options: &str| options.find(" COMMENT='").map(|at| options[at + 1..].to_owned());
    let without = |options: &str| match options.find(" COMMENT='") {
        Some(at) => options[..at].to_owned(),
        None => options.to_owned(),
    };
    if without(old) != without(new) {
        let option = |name: &str, options: &str| {
            options.split_whitespace().find(|word| word.starts_with(name)).map(ToOwned::to_owned)
        };
        for name in ["STATS_PERSISTENT=", "STATS_AUTO_RECALC=", "STATS_SAMPLE_PAGES=", "CHARSET=", "COLLATE="]
        {
            let (before, after) = (option(name, old), option(name, new));
            if before != after {
                let back = match (name, before) {
                    ("CHARSET=", Some(value)) => {
                        format!("DEFAULT CHARACTER SET {}", &value["CHARSET=".len()..])
                    }
                    (_, Some(value)) => value,
                    ("STATS_PERSISTENT=" | "STATS_AUTO_RECALC=" | "STATS_SAMPLE_PAGES=", None) => {
                        format!("{name}DEFAULT")
                    }
                    (_, None) => return None,
                };
                clauses.push(back);
            }
        }
    }
    if comment(old) != comment(new) {
        clauses.push(comment(old).unwrap_or_else(|| "COMMENT=''".to_owned()));
    }
    Some(())
}

/// A new name for the table.
pub fn rename(table: &Table, schema: &str, to: &str) -> Candidate {
    let (from, into) = (qualified(&table.schema, &table.name), qualified(schema, to));
    let forward = format!("RENAME TABLE {from} TO {into}");
    let step = Step {
        title: format!("rename table {} to {to}", table.name),
        statement: forward.clone(),
        inverse: format!("RENAME TABLE {into} TO {from}"),
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: json!({ "schema": table.schema, "table": table.name, "forward": forward,
                      "to_schema": schema, "to": to, "before": table.sql }),
    };
    candidate(Strategy::Instant, "only the name changes", vec![step], "`revert` gives it its old name")
}

/// `DROP TABLE`: for good where the person gave up the way back, else out of the way until `finalize`.
pub fn drop_table(table: &Table, rows: u64) -> Vec<Candidate> {
    let name = qualified(&table.schema, &table.name);
    let forward = format!("DROP TABLE {name}");
    let gone = Step {
        title: format!("drop table {}", table.name),
        statement: forward.clone(),
        inverse: String::new(),
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: json!({ "schema": table.schema, "table": table.name, "forward": forward, "before": table.sql }),
    };
    let mut for_good = candidate(Strategy::Instant, "its files are removed", vec![gone], "cannot be undone");
    for_good.discards.push(format!("table {} with {rows} rows", table.name));
    let aside = aside_name(&format!("{}.{}", table.schema, table.sql));
    let to = qualified(&table.schema, &aside);
    let forward = format!("RENAME TABLE {name} TO {to}");
    let step = Step {
        title: format!("take table {} out of the way as {aside}", table.name),
        statement: forward.clone(),
        inverse: format!("RENAME TABLE {to} TO {name}"),
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: format!("DROP TABLE {to}"),
        spec: json!({ "schema": table.schema, "table": table.name, "forward": forward,
                      "to_schema": table.schema, "to": aside, "before": table.sql }),
    };
    let kept = candidate(
        Strategy::Instant,
        "the table is renamed out of the way and dropped by `finalize`",
        vec![step],
        "`revert` gives it its name again; its rows are kept until `finalize`",
    );
    vec![for_good, kept]
}
