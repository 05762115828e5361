//! The rebuild as a candidate.

use replank_core::Result;
use replank_core::plan::{Candidate, Evidence, LockNote, Step, Strategy};
use serde_json::Value as Json;

use super::mapping::{Given, mapping};
use super::native::added;
use super::renames::Renames;
use super::value::does_not_fit;
use super::{evidence, following};
use crate::attached::Attached;
use crate::connect::{Conn, Product};
use crate::definition;
use crate::foreign_key::foreign_keys;
use crate::inspect::Table;
use crate::lines::items;
use crate::lint::Facts;
use crate::preflight;
use crate::rebuild::names::prefix;
use crate::scratch::Scratch;
use crate::spec::{Index, Side, Spec};
use crate::sql::{ident, number};
use crate::state::Names;

/// The lock, the drain of the last changes, and the rename. Measured: 20 to 60 ms under load.
const SWAP_MS: u64 = 60;
/// A statement that moves a key or a trigger. Measured: 2 to 18 ms.
const MOVE_MS: u64 = 10;

/// A table's two shapes, and how they hang together.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// As it is.
    pub old: &'a Table,
    /// As it will be.
    pub new: &'a Table,
    /// By the statement.
    pub renames: &'a Renames,
    /// By the person.
    pub given: &'a Given<'a>,
    /// To what the statement sets the counter of AUTO_INCREMENT.
    pub counter: Option<u64>,
}

/// The candidate, with what the rows that are there say.
pub async fn shadow(
    connection: &mut Conn,
    names: &Names,
    scratch: &mut Scratch,
    change: Change<'_>,
    attached: &Attached,
    facts: &mut Facts,
) -> Result<(Candidate, Evidence)> {
    let Change { old, new, renames, given, counter } = change;
    let mapping = mapping(scratch, old, new, renames, given).await?;
    let forward = match mapping.forward {
        Ok(forward) => forward,
        Err(why) => {
            if let Some(change) = &mut facts.primary_key {
                change.why_not = Some(why.clone());
            }
            let why = format!("rows cannot be told apart while they are copied: {why}");
            return Ok((impossible(old, why), Evidence::default()));
        }
    };
    let product = connection.product();
    let mut evidence = evidence::gather(connection, old, new, &forward).await?;
    let spec = Spec {
        schema: old.schema.clone(),
        file: scratch.file_name(old).await?,
        old: side(old, None),
        new: side(new, Some(&mapping.through)),
        forward,
        backward: mapping.backward.as_ref().ok().cloned(),
        counter,
        homes: (product == Product::MySql && shares_names(old, new)).then(|| names.homes()),
    };
    let mut candidate = candidate(old);
    candidate.locks = vec![lock_note(old, attached)];
    let follows_not = following::judge(connection, scratch, (old, new), attached, facts).await?;
    let unsuitable = unsuitable(connection, change, facts, &mut evidence).await?;
    candidate.impossible = follows_not.or(unsuitable);
    candidate.spec = spec.write()?;
    let narrower = narrower(old, new, renames);
    if mapping.backward.is_ok() && !narrower.is_empty() {
        candidate.undo = format!(
            "{}; not while rows hold values that the old {} cannot hold: it lists them",
            candidate.undo,
            narrower.join(", ")
        );
    }
    let added = added(old, new, renames);
    if mapping.backward.is_ok() && !added.is_empty() {
        candidate.undo = format!("{}; what was written to {} is gone then", candidate.undo, added.join(", "));
    }
    match &mapping.backward {
        Ok(back) if !back.kept.is_empty() => {
            candidate.undo = format!(
                "{}; {} comes back for rows whose key did not change since",
                candidate.undo,
                back.kept.join(", ")
            );
        }
        Ok(_) => {}
        Err(why) => {
            candidate.no_way_back = Some(why.clone());
        }
    }
    Ok((candidate, evidence))
}

/// Columns of the old shape that cannot hold every value of the new one, as far as the types tell.
fn narrower<'a>(old: &'a Table, new: &Table, renames: &Renames) -> Vec<&'a str> {
    let columns = old.columns.iter().filter(|column| !column.is_generated).filter(|column| {
        let to = new.column(renames.new_name(&column.name)).filter(|to| !to.is_generated);
        to.is_some_and(|to| {
            !column.is_nullable && to.is_nullable || does_not_fit(&ident(&to.name), to, column).is_some()
        })
    });
    columns.map(|column| column.name.as_str()).collect()
}

/// A rebuild that cannot be made.
pub fn impossible(table: &Table, why: String) -> Candidate {
    Candidate { impossible: Some(why), ..candidate(table) }
}

fn candidate(table: &Table) -> Candidate {
    let step = Step::of_engine;
    Candidate {
        strategy: Strategy::Shadow,
        impossible: None,
        unasked: None,
        reason: "the server itself would copy the table under a lock".to_owned(),
        steps: vec![
            step("make the new table, empty and without its secondary indexes", "drop it"),
            step("copy rows in chunks, and apply changes from the binary log", "drop the new table"),
            step("build the secondary indexes of the new table", "drop the new table"),
            step("compare every row, both ways", "nothing"),
            step("swap the names under a lock; the old table stays in step", "swap them back"),
        ],
        locks: Vec::new(),
        discards: Vec::new(),
        no_way_back: None,
        // The table and its indexes, and as much again in the log of its copy.
        disk_bytes: Some(table.bytes * 2),
        undo: "`revert` swaps back, with every write made since; `finalize` drops the old table".to_owned(),
        spec: Json::Null,
    }
}

/// The swap's lock: on every table that foreign keys join with this one, too.
fn lock_note(table: &Table, attached: &Attached) -> LockNote {
    let own = foreign_keys(&table.sql);
    let mut joined: Vec<&str> = own.iter().map(|key| key.table.as_str()).collect();
    joined.extend(attached.inbound.iter().map(|inbound| inbound.table.as_str()));
    joined.retain(|name| *name != table.name);
    joined.sort_unstable();
    joined.dedup();
    let keys = 2 * usize::from(!own.is_empty()) + 3 * attached.inbound.len();
    let statements = u64::try_from(keys + 2 * attached.triggers.len()).unwrap_or(u64::MAX);
    let what = match joined.is_empty() {
        true => "the table, for the swap: others wait".to_owned(),
        false => format!("the table and {}, for the swap: others wait", joined.join(", ")),
    };
    LockNote { what, hold_ms: SWAP_MS + statements.saturating_mul(MOVE_MS) }
}

/// What about the table or the server stands in the way of a rebuild. What a rule judges is in `facts` as well.
async fn unsuitable(
    connection: &mut Conn,
    Change { old, new, .. }: Change<'_>,
    facts: &mut Facts,
    evidence: &mut Evidence,
) -> Result<Option<String>> {
    if let Some(why) = names_or_types(connection, old, new) {
        return Ok(Some(why));
    }
    if let Some(why) = time_zones(connection, old, new).await? {
        return Ok(Some(why));
    }
    let prepared = preflight::prepared(connection).await?;
    if prepared > 0 {
        return Ok(Some(format!(
            "{prepared} prepared XA transactions wait (`XA RECOVER`): their rows are in the log and not yet visible"
        )));
    }
    if let Some(kept) = preflight::kept_seconds(connection).await? {
        // Some 20 MB a second, twice over, and a day in which it can be taken back.
        let needed = 2 * (old.bytes / 20_000_000) + 24 * 60 * 60;
        if kept < needed {
            evidence.retention = Some(format!("the log is kept for {kept} s, and {needed} s are needed"));
        }
    }
    facts.log = preflight::blocking(preflight::log(connection).await?);
    facts.topology = preflight::blocking(preflight::topology(connection).await?);
    let why_not =
        if facts.log.is_empty() { "changes would come from elsewhere" } else { "the log cannot be followed" };
    Ok((!facts.log.is_empty() || !facts.topology.is_empty()).then(|| why_not.to_owned()))
}

/// What MariaDB's own ways stand in the way of.
fn names_or_types(connection: &Conn, old: &Table, new: &Table) -> Option<String> {
    if !connection.is_mariadb() {
        return None;
    }
    if prefix(Product::MariaDb, &old.name).is_none() {
        return Some(
            "no helper's name comes after the table's, in the order in which locks are taken".to_owned(),
        );
    }
    let compressed =
        items(&old.sql).into_iter().chain(items(&new.sql)).find(|line| line.contains(" COMPRESSED"))?;
    let column = compressed.split('`').nth(1).unwrap_or_default();
    Some(format!("column {column} is COMPRESSED, and its rows in the log cannot be read"))
}

/// Our sessions count in UTC, and the person's may not.
async fn time_zones(connection: &mut Conn, old: &Table, new: &Table) -> Result<Option<String>> {
    let converts = new.columns.iter().find(|column| {
        old.column(&column.name).is_some_and(|from| {
            from.data_type != column.data_type
                && (from.data_type == "timestamp" || column.data_type == "timestamp")
        })
    });
    let Some(column) = converts else { return Ok(None) };
    let in_utc = number(
        connection,
        "SELECT @@GLOBAL.time_zone IN ('+00:00', 'UTC') OR (@@GLOBAL.time_zone = 'SYSTEM' AND @@GLOBAL.system_time_zone = 'UTC')",
    )
    .await?;
    Ok((in_utc == 0).then(|| {
        format!("column {} becomes or was a TIMESTAMP, and the server's time zone is not UTC", column.name)
    }))
}

/// A table's part of the plan. The new one's secondary indexes are built after the copy, but for the one `through` which
/// its rows are found.
fn side(table: &Table, through: Option<&str>) -> Side {
    let counter = table.columns.iter().find(|column| column.is_counter);
    let counts_by_key = counter.is_some_and(|counter| {
        let primary = table.unique.iter().find(|unique| unique.name == "PRIMARY");
        primary.is_some_and(|primary| primary.parts[0] == ident(&counter.name))
    });
    let mut indexes = table.indexes.clone();
    let is_needed = |index: &Index| {
        let serves_counter = counter.is_some_and(|counter| serves(&index.clause, &counter.name));
        through == Some(index.name.as_str()) || (serves_counter && !counts_by_key)
    };
    // The server lists indexes of one kind as they were made: what comes before one that is needed is made with it.
    let last_needed = [true, false]
        .map(|is_unique| indexes.iter().rposition(|index| index.is_unique == is_unique && is_needed(index)));
    for (at, index) in indexes.iter_mut().enumerate() {
        let last_needed = if index.is_unique { last_needed[0] } else { last_needed[1] };
        index.is_deferred &= through.is_some() && last_needed.is_none_or(|last| at > last);
    }
    Side {
        sql: table.sql.clone(),
        columns: table
            .columns
            .iter()
            .map(|column| table.column_line(&column.name).unwrap_or(&column.name).to_owned())
            .collect(),
        indexes,
        unique: table.unique.clone(),
        auto_increment: counter.map(|counter| counter.name.clone()),
    }
}

fn serves(clause: &str, column: &str) -> bool {
    clause.split_once(" (").is_some_and(|(_, parts)| parts.starts_with(&ident(column)))
}

/// Whether the two shapes have a constraint of one name, which a database cannot hold twice.
fn shares_names(old: &Table, new: &Table) -> bool {
    let theirs = definition::named_checks(&new.sql, &new.name);
    definition::named_checks(&old.sql, &old.name).iter().any(|name| theirs.contains(name))
}
