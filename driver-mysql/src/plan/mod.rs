//! Reading a statement against the live server: what changes, how it could be done, and what stands in the way.

mod evidence;
mod facts;
mod following;
mod mapping;
mod native;
mod renames;
mod shadow;
mod shortened;
mod value;

use std::time::Duration;

use replank_core::driver::Request;
use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Candidate, Draft, Evidence, Strategy, UNDO_KEEPING, tell_without_rebuild};
use replank_core::{Error, ErrorKind, Result};

use crate::added_keys::Looks;
use crate::attached::Attached;
use crate::connect::{Conn, Server};
use crate::feed;
use crate::foreign_key::foreign_keys;
use crate::histograms;
use crate::holders::{are_visible, holders};
use crate::inspect::{Column, NoKey, Table, named, size, twins, usable_key};
use crate::lines::{items, options};
use crate::lint::Facts;
use crate::parse::{Action, Clause, parse, parse_shape};
use crate::peers::leftovers;
use crate::preflight;
use crate::replicas::replicas;
use crate::scratch::{Scratch, Tried, Way};
use crate::sql::number;
use crate::state::{Names, all_runs};
use mapping::Given;
use renames::Renames;
use shadow::Change;
use shortened::shortened;

/// An index over so many rows keeps a replica's applier busy for more than a moment. Chosen.
const REPLICA_ROWS_MAX: u64 = 50_000;
/// Who has held the table for so long will not let go within a lock budget. Chosen.
const OLD_HOLDER: Duration = Duration::from_secs(60);
const SYSTEM: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

/// Makes the draft of a request.
pub async fn draft(server: &Server, request: &Request) -> Result<Draft> {
    request.without_pipelines()?;
    request.capture(&["log"])?;
    let mut connection = server.take().await?;
    let names = Names::new(&server.settings().state_name);
    let mut drafting = Drafting {
        server,
        connection: &mut connection,
        names,
        attached: Attached::default(),
        facts: Facts::default(),
    };
    let draft = match request {
        Request::Statement { text, forward, reverse, .. } => {
            drafting.statement(text, &Given { forward, reverse }).await?
        }
        Request::Rebuild { table, shape, .. } => drafting.rebuild(table, shape.as_deref()).await?,
        Request::TakeBack { inverses } => match &inverses[..] {
            // A plan of ours has one step.
            [inverse] => drafting.statement(inverse, &Given { forward: &[], reverse: &[] }).await?,
            _ => return Err(Error::new(ErrorKind::Internal, "one statement takes a plan back")),
        },
    };
    server.keep(connection);
    Ok(draft)
}

struct Drafting<'a> {
    server: &'a Server,
    connection: &'a mut Conn,
    names: Names,
    /// To the table's name, once it was read.
    attached: Attached,
    facts: Facts,
}

impl Drafting<'_> {
    async fn statement(&mut self, text: &str, given: &Given<'_>) -> Result<Draft> {
        let statement = parse(text)?;
        let schema = self.schema(statement.schema.as_deref())?;
        if self.lacks_privileges(&schema, &[]).await? {
            return self.without_looking(text, &schema, &statement.table).await;
        }
        match statement.action {
            Action::Alter(clauses) => {
                let table = self.table(&schema, &statement.table).await?;
                self.alter(text, &table, &clauses, given).await
            }
            Action::Rename { schema: to_schema, table: to } => {
                let table = self.table(&schema, &statement.table).await?;
                let to_schema = to_schema.unwrap_or(schema);
                self.rename(text, &table, &to_schema, &to).await
            }
            Action::Drop { if_exists } => {
                if if_exists && named(self.connection, &schema, &statement.table).await?.is_none() {
                    return self.nothing_to_do(text, &schema, &statement.table).await;
                }
                let table = self.table(&schema, &statement.table).await?;
                let (rows, _) = size(self.connection, &table).await?;
                let changes = vec![format!("table {} is dropped", table.name)];
                let candidates = native::drop_table(&table, rows);
                self.finish(text, &table, changes, candidates, Evidence::default()).await
            }
        }
    }

    /// Asked before anything is read that needs them, and long before anything is made.
    async fn lacks_privileges(&mut self, schema: &str, more: &[&str]) -> Result<bool> {
        if SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(schema)) {
            return Ok(false);
        }
        let checks = preflight::privileges(self.connection, Some(schema), &self.names, more).await?;
        self.facts.grants = preflight::blocking(checks);
        Ok(!self.facts.grants.is_empty())
    }

    fn schema(&self, named: Option<&str>) -> Result<String> {
        named.or(self.server.schema()).map(ToOwned::to_owned).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "it is not said in which database the table is")
                .hint("write database.table, or name the database in the target: mysql://host/database")
        })
    }

    /// The table, if it is one that can be changed.
    async fn table(&mut self, schema: &str, name: &str) -> Result<Table> {
        let refused = |what: String| Err(Error::new(ErrorKind::Refused, what));
        if SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(schema)) {
            return refused(format!("`{schema}` is a system database of MySQL"));
        }
        if self.names.is_own(schema, name) {
            return refused(format!("`{schema}.{name}` is one of replank's own tables"));
        }
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no table `{name}` in `{schema}`"));
        let found = named(self.connection, schema, name).await?.ok_or_else(missing)?;
        match found.kind.as_str() {
            "BASE TABLE" => {}
            "SYSTEM VERSIONED" => {
                return refused(format!(
                    "`{name}` is system-versioned: its history cannot be followed by a rebuild, and is not touched"
                ));
            }
            "SEQUENCE" => return refused(format!("`{name}` is a sequence, not a table")),
            kind => return refused(format!("`{name}` is a view, not a table ({})", kind.to_lowercase())),
        }
        if let Some(engine) = found.engine.filter(|engine| !engine.eq_ignore_ascii_case("InnoDB")) {
            return refused(format!("`{name}` is stored by {engine}; only InnoDB can be changed online"));
        }
        let table = Table::read(self.connection, &found.schema, &found.name).await?.ok_or_else(missing)?;
        self.attached = Attached::read(self.connection, &table.schema, &table.name).await?;
        Ok(table)
    }

    async fn rename(&mut self, text: &str, table: &Table, schema: &str, to: &str) -> Result<Draft> {
        if named(self.connection, schema, to).await?.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("there is a table `{to}` in `{schema}` already"),
            ));
        }
        let evidence = Evidence {
            renames: vec![(format!("table {}", table.name), to.to_owned())],
            ..Evidence::default()
        };
        let changes = vec![format!("table {} is renamed to {to}", table.name)];
        let candidates = vec![native::rename(table, schema, to)];
        self.finish(text, table, changes, candidates, evidence).await
    }

    /// Whether the login may not do what keys take, which follow the name and are tried on a copy.
    async fn lacks_what_keys_take(&mut self, table: &Table) -> Result<bool> {
        let has_keys = !foreign_keys(&table.sql).is_empty() || !self.attached.inbound.is_empty();
        Ok(has_keys && self.lacks_privileges(&table.schema, &["REFERENCES"]).await?)
    }

    async fn alter(
        &mut self,
        text: &str,
        table: &Table,
        clauses: &[Clause],
        given: &Given<'_>,
    ) -> Result<Draft> {
        if self.lacks_what_keys_take(table).await? {
            return self.without_looking(text, &table.schema, &table.name).await;
        }
        let mut scratch = Scratch::make(self.server, &self.names, table, &self.attached).await?;
        let drafted = self.alter_with(&mut scratch, text, table, clauses, given).await;
        scratch.remove(self.server).await?;
        drafted
    }

    async fn alter_with(
        &mut self,
        scratch: &mut Scratch,
        text: &str,
        table: &Table,
        clauses: &[Clause],
        given: &Given<'_>,
    ) -> Result<Draft> {
        let renames = Renames::of(clauses);
        let tried = scratch.alter(clauses).await?;
        let mut changes = changes(table, &tried.after, clauses);
        facts::compare(table, &tried.after, &renames, clauses, &mut self.facts);
        self.facts.shortened = shortened(table, &tried.after, &renames, clauses);
        let replaced = self.facts.replaced.iter();
        changes.extend(replaced.map(|column| format!("column {column} is dropped and added anew")));
        if changes.is_empty() {
            return self.finish(text, table, changes, vec![nothing()], Evidence::default()).await;
        }
        let mut candidates = self.natives(scratch, table, &tried, clauses, &renames).await?;
        let counter = counter(clauses);
        let change = Change { old: table, new: &tried.after, renames: &renames, given, counter };
        let (mut shadow, mut evidence) = self.shadow(scratch, change).await?;
        if let Some(column) = self.facts.replaced.first() {
            shadow.impossible = Some(format!("a rebuild would carry the values of {column} over"));
        }
        if let Some(partition) = clauses.iter().flat_map(|clause| &clause.empties).next() {
            shadow.impossible = Some(format!("a rebuild would keep the rows of partition {partition}"));
        }
        candidates.push(shadow);
        tell_without_rebuild(&mut candidates);
        if tried.is_unchecked {
            following::orphaned(self.connection, &following::looks(table, &tried.after), &mut evidence)
                .await?;
        }
        evidence.renames =
            renames.iter().map(|(from, to)| (format!("column {from}"), to.to_owned())).collect();
        self.finish(text, table, changes, candidates, evidence).await
    }

    /// The server's own ways, as it answered for an empty copy: they depend on the definition alone.
    async fn natives(
        &mut self,
        scratch: &mut Scratch,
        table: &Table,
        tried: &Tried,
        clauses: &[Clause],
        renames: &Renames,
    ) -> Result<Vec<Candidate>> {
        let mut candidates: Vec<Candidate> = tried
            .rejected
            .iter()
            // One that goes another way of the same strategy.
            .filter(|(way, _)| tried.way == Way::Copy || strategy(*way) != strategy(tried.way))
            .map(|(way, why)| native::impossible(strategy(*way), format!("the server says: {why}")))
            .collect();
        if tried.way == Way::Copy {
            return Ok(candidates);
        }
        let mut dropped: Vec<String> = dropped_columns(table, &tried.after, renames)
            .iter()
            .chain(&self.facts.replaced)
            .map(|column| format!("column {column}"))
            .collect();
        if tried.way == Way::OnlineCopy {
            dropped.extend(retyped_columns(table, &tried.after, renames));
        }
        let inverse = match native::inverse(table, &tried.after, renames).filter(|_| dropped.is_empty()) {
            Some(inverse) if inverse.is_empty() => Some(inverse),
            // Believed only where it gives back what was there.
            Some(inverse) => match scratch.again(&inverse).await {
                Ok(back) if back.sql == table.sql => Some(inverse),
                Err(error) if error.kind() == ErrorKind::ConnectionLost => return Err(error),
                _ => None,
            },
            None => None,
        };
        let reason = match tried.way {
            _ if tried.is_unchecked => {
                "the key is added at once for all writes to come, then the rows are looked at"
            }
            Way::Instant => "only the definition changes",
            Way::OnlineCopy => "the server itself copies the table while others read and write",
            _ => "the server makes it in place while others read and write",
        };
        let looks = Looks {
            forward: following::looks(table, &tried.after),
            inverse: following::looks(&tried.after, table),
        };
        let added = native::added(table, &tried.after, renames);
        let undo = match inverse {
            Some(_) if added.is_empty() => "`revert` runs the opposite",
            Some(_) => UNDO_KEEPING,
            None => "cannot be undone",
        };
        let inverse_discards = if inverse.is_some() { added } else { Vec::new() };
        let step = native::alter_step(
            table,
            &tried.after,
            clauses,
            tried.how,
            inverse.as_deref(),
            inverse_discards,
            &looks,
        );
        let mut candidate = native::candidate(strategy(tried.way), reason, vec![step], undo);
        candidate.discards = dropped;
        let emptied = clauses.iter().flat_map(|clause| &clause.empties);
        candidate.discards.extend(emptied.map(|partition| format!("partition {partition} with its rows")));
        if inverse.is_none() && candidate.discards.is_empty() {
            candidate.impossible =
                Some("it is not known how the server itself would take it back".to_owned());
        }
        // A replica drops a partition as quickly as the server does.
        if tried.way != Way::Instant && clauses.iter().all(|clause| clause.empties.is_empty()) {
            candidate.unasked = self.harms_replicas(table, tried).await?;
        }
        candidates.push(candidate);
        Ok(candidates)
    }

    /// A replica runs the statement once more, and applies nothing else meanwhile.
    async fn harms_replicas(&mut self, table: &Table, tried: &Tried) -> Result<Option<String>> {
        if tried.is_rebuilt || tried.way == Way::OnlineCopy {
            return Ok(Some(
                "the server would write the whole table anew, and each replica would stand still as long"
                    .to_owned(),
            ));
        }
        if table.rows <= REPLICA_ROWS_MAX {
            return Ok(None);
        }
        Ok(match replicas(self.connection).await {
            Ok(0) => None,
            Ok(replicas) => Some(format!("{replicas} replicas would stand still while they build the same")),
            Err(error) if error.kind() == ErrorKind::Refused => {
                Some("replicas would stand still while they build the same, and whether there are any cannot be seen".to_owned())
            }
            Err(error) => return Err(error),
        })
    }

    async fn shadow(&mut self, scratch: &mut Scratch, change: Change<'_>) -> Result<(Candidate, Evidence)> {
        let (mut candidate, evidence) =
            shadow::shadow(self.connection, &self.names, scratch, change, &self.attached, &mut self.facts)
                .await?;
        let unreadable = preflight::blocking(feed::replica::checks(self.server).await?);
        if !unreadable.is_empty() {
            candidate.impossible.get_or_insert_with(|| "the log cannot be followed".to_owned());
            self.facts.log.extend(unreadable);
        }
        self.judge_strictness(change).await?;
        self.facts.histograms = histograms::again(self.connection, change.old, change.new).await?;
        Ok((candidate, evidence))
    }

    async fn rebuild(&mut self, name: &str, shape: Option<&str>) -> Result<Draft> {
        let (schema, name) = match name.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, name),
        };
        if let Some(shape) = shape {
            let named = parse_shape(shape)?;
            if !named.eq_ignore_ascii_case(name) {
                let said = format!("the shape is one of `{named}`, and the table is `{name}`");
                return Err(Error::new(ErrorKind::Usage, said).hint("give the shape the table's own name"));
            }
        }
        let schema = self.schema(schema)?;
        if self.lacks_privileges(&schema, &[]).await? {
            return self.without_looking(&format!("OPTIMIZE TABLE {name}"), &schema, name).await;
        }
        let table = self.table(&schema, name).await?;
        if self.lacks_what_keys_take(&table).await? {
            return self
                .without_looking(&format!("OPTIMIZE TABLE {}", table.name), &schema, &table.name)
                .await;
        }
        let mut scratch = Scratch::make(self.server, &self.names, &table, &self.attached).await?;
        let drafted = self.rebuild_with(&mut scratch, &table, shape).await;
        scratch.remove(self.server).await?;
        drafted
    }

    async fn rebuild_with(
        &mut self,
        scratch: &mut Scratch,
        table: &Table,
        shape: Option<&str>,
    ) -> Result<Draft> {
        let (given, renames) = (Given { forward: &[], reverse: &[] }, Renames::default());
        let new = match shape {
            Some(shape) => scratch.shaped(shape).await?,
            None => table.clone(),
        };
        facts::compare(table, &new, &renames, &[], &mut self.facts);
        let change = Change { old: table, new: &new, renames: &renames, given: &given, counter: None };
        let (shadow, evidence) = self.shadow(scratch, change).await?;
        let (text, changes) = match shape {
            Some(shape) => (shape.to_owned(), changes(table, &new, &[])),
            None => (
                format!("OPTIMIZE TABLE {}", table.name),
                vec!["the table is written anew as it is".to_owned()],
            ),
        };
        self.finish(&text, table, changes, vec![shadow], evidence).await
    }

    /// Whether NULLs turn into zeros after the change.
    async fn judge_strictness(&mut self, change: Change<'_>) -> Result<()> {
        let columns = facts::not_null(change.old, change.new, change.renames);
        if columns.is_empty() {
            return Ok(());
        }
        let is_strict = "SELECT @@GLOBAL.sql_mode LIKE '%STRICT\\_TRANS\\_TABLES%' OR @@GLOBAL.sql_mode LIKE '%STRICT\\_ALL\\_TABLES%'";
        if number(self.connection, is_strict).await? == 0 {
            self.facts.not_strict = columns.into_iter().map(|column| column.name.clone()).collect();
        }
        Ok(())
    }

    /// A statement whose object is not there, and need not be.
    async fn nothing_to_do(&mut self, text: &str, schema: &str, name: &str) -> Result<Draft> {
        self.bare(text, schema, name, Vec::new(), nothing()).await
    }

    /// A statement of a login that may not even look.
    async fn without_looking(&mut self, text: &str, schema: &str, name: &str) -> Result<Draft> {
        let why = "the login lacks privileges".to_owned();
        let candidate = native::impossible(Strategy::NativeOnline, why);
        self.bare(text, schema, name, vec!["not looked at yet".to_owned()], candidate).await
    }

    async fn bare(
        &mut self,
        text: &str,
        schema: &str,
        name: &str,
        changes: Vec<String>,
        candidate: Candidate,
    ) -> Result<Draft> {
        Ok(Draft {
            statement: text.to_owned(),
            changes,
            server: crate::session::facts(self.connection).await?,
            table: TableFacts {
                id: TableId { schema: Some(schema.to_owned()), name: name.to_owned() },
                rows: 0,
                rows_exact: true,
                bytes: None,
                key: Vec::new(),
                dependants: Vec::new(),
            },
            candidates: vec![candidate],
            evidence: Evidence::default(),
            driver_facts: self.facts.write()?,
        })
    }

    async fn finish(
        &mut self,
        text: &str,
        table: &Table,
        changes: Vec<String>,
        mut candidates: Vec<Candidate>,
        mut evidence: Evidence,
    ) -> Result<Draft> {
        self.busy(table, &mut candidates, &mut evidence).await?;
        evidence.unread.push("the free room of the server's disk".to_owned());
        let key = usable_key(table);
        if candidates
            .iter()
            .filter(|candidate| candidate.strategy != Strategy::Shadow)
            .all(|candidate| candidate.impossible.is_some() || candidate.unasked.is_some())
        {
            match key.as_ref().err() {
                Some(NoKey::Nullable(why)) => self.facts.nullable_key = Some(why.clone()),
                Some(NoKey::Computed(why)) => self.facts.computed_key = Some(why.clone()),
                Some(NoKey::Other(why)) => evidence.no_key = Some(why.clone()),
                None => {}
            }
        }
        self.facts.twins = twins(self.connection, &table.schema, &table.name).await?;
        self.facts.peers = leftovers(self.connection, &table.schema, &table.name).await?;
        match are_visible(self.connection).await? {
            true => {
                let holders = holders(self.connection, &table.schema, &table.name, OLD_HOLDER).await?;
                self.facts.holders =
                    holders.iter().map(|holder| format!("{} ({})", holder.id, holder.about)).collect();
            }
            false => self.facts.has_unseen_holders = true,
        }
        let (rows, rows_exact) = size(self.connection, table).await?;
        Ok(Draft {
            statement: text.to_owned(),
            changes,
            server: crate::session::facts(self.connection).await?,
            table: TableFacts {
                id: TableId { schema: Some(table.schema.clone()), name: table.name.clone() },
                rows,
                rows_exact,
                bytes: Some(table.bytes),
                key: key.unwrap_or_default().into_iter().map(|column| column.name.clone()).collect(),
                dependants: self.attached.sentences(table),
            },
            candidates,
            evidence,
            driver_facts: self.facts.write()?,
        })
    }

    /// C032. A run that can still be taken back is in the way of a rebuild, and of whatever takes the name away
    /// from its two tables; of nothing else.
    async fn busy(
        &mut self,
        table: &Table,
        candidates: &mut [Candidate],
        evidence: &mut Evidence,
    ) -> Result<()> {
        for run in all_runs(self.connection, &self.names).await? {
            let is_other = run.table.name != table.name || run.table.schema.as_ref() != Some(&table.schema);
            if is_other {
                continue;
            }
            evidence.busy.extend(run.unfinished());
            let Some(why) = run.keeps_retired_table() else { continue };
            // A definition that changes meanwhile would end the way back.
            if candidates.iter().any(|candidate| candidate.impossible.is_none()) {
                for candidate in candidates.iter_mut() {
                    candidate.impossible.get_or_insert_with(|| why.clone());
                }
            }
            evidence.busy.push(why);
        }
        Ok(())
    }
}

fn strategy(way: Way) -> Strategy {
    match way {
        Way::Instant => Strategy::Instant,
        Way::Inplace | Way::OnlineCopy | Way::Copy => Strategy::NativeOnline,
    }
}

fn nothing() -> Candidate {
    native::candidate(Strategy::Instant, "there is nothing to change", Vec::new(), "there is nothing to undo")
}

fn dropped_columns(old: &Table, new: &Table, renames: &Renames) -> Vec<String> {
    old.columns
        .iter()
        .filter(|column| !column.is_generated && new.column(renames.new_name(&column.name)).is_none())
        .map(|column| column.name.clone())
        .collect()
}

/// Columns whose values may not come back as they were.
fn retyped_columns(old: &Table, new: &Table, renames: &Renames) -> Vec<String> {
    let is_other = |column: &&Column| {
        let to = new.column(renames.new_name(&column.name));
        to.is_some_and(|to| (&to.column_type, &to.collation) != (&column.column_type, &column.collation))
    };
    let retyped = old.columns.iter().filter(|column| !column.is_generated).filter(is_other);
    retyped.map(|column| format!("the values of {} as they were", column.name)).collect()
}

/// What differs, line by line of the definition. A rebuild that changes no line is one that was asked for.
fn changes(old: &Table, new: &Table, clauses: &[Clause]) -> Vec<String> {
    let (before, after) = (items(&old.sql), items(&new.sql));
    let mut changes = Vec::new();
    for line in before.iter().filter(|line| !after.contains(line)) {
        changes.push(format!("was {line}"));
    }
    for line in after.iter().filter(|line| !before.contains(line)) {
        changes.push(format!("becomes {line}"));
    }
    if changes.is_empty() && before != after {
        changes.push("the order of the columns changes".to_owned());
    }
    let (options_before, options_after) = (options(&old.sql), options(&new.sql));
    if options_before != options_after {
        changes.push(format!("was {options_before}"));
        changes.push(format!("becomes {options_after}"));
    }
    let asks_to_rebuild = clauses.iter().any(|clause| {
        let text = clause.text.to_ascii_uppercase();
        ["ENGINE", "FORCE", "REBUILD PARTITION", "OPTIMIZE PARTITION"]
            .iter()
            .any(|word| text.starts_with(word))
    });
    // It stands in no definition that is compared: each row that comes changes it.
    if let Some(counter) = counter(clauses) {
        changes.push(format!("the next number of AUTO_INCREMENT becomes {counter}, or follows the largest"));
    }
    if changes.is_empty() && asks_to_rebuild {
        changes.push("the table is written anew as it is".to_owned());
    }
    changes
}

/// To what a statement sets the counter of AUTO_INCREMENT itself.
fn counter(clauses: &[Clause]) -> Option<u64> {
    clauses.iter().rev().find_map(|clause| {
        let value = clause.text.get("AUTO_INCREMENT".len()..)?;
        let is_counter =
            clause.text[..clause.text.len() - value.len()].eq_ignore_ascii_case("AUTO_INCREMENT");
        is_counter.then(|| value.trim_start_matches([' ', '=', '\n', '\t']).parse().ok())?
    })
}
