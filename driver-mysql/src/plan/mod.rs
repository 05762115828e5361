//! Reading a statement against the live server: what changes, how it could be done, and what stands in the way.

mod evidence;
mod mapping;
mod native;
mod value;

use mysql_async::Conn;
use replank_core::driver::Request;
use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Candidate, Draft, Evidence, LockNote, Step, Strategy};
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;

use crate::connect::Server;
use crate::inspect::{Table, count, dependants, items, kind_of, usable_key};
use crate::parse::{Action, Clause, parse};
use crate::preflight;
use crate::scratch::{Scratch, Tried, Way};
use crate::spec::{Side, Spec};
use crate::sql::number;
use crate::state::{Names, all_runs};
use mapping::{Given, mapping};

/// The lock, the drain of the last changes, and the rename. Measured: 20 to 60 ms under load.
const SWAP_MS: u64 = 60;
/// An index over so many rows keeps a replica's applier busy for more than a moment. Chosen.
const REPLICA_ROWS_MAX: u64 = 50_000;
const SYSTEM: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

/// Makes the draft of a request.
pub async fn draft(server: &Server, request: &Request) -> Result<Draft> {
    let mut connection = server.take().await?;
    let names = Names::new(&server.settings().state_name);
    let mut drafting = Drafting { server, connection: &mut connection, names };
    let draft = match request {
        Request::Statement { text, forward, reverse } => {
            drafting.statement(text, &Given { forward, reverse }).await?
        }
        Request::Rebuild { table, shape } => drafting.rebuild(table, shape.as_deref()).await?,
    };
    server.keep(connection);
    Ok(draft)
}

struct Drafting<'a> {
    server: &'a Server,
    connection: &'a mut Conn,
    names: Names,
}

impl Drafting<'_> {
    async fn statement(&mut self, text: &str, given: &Given<'_>) -> Result<Draft> {
        let statement = parse(text)?;
        let schema = self.schema(statement.schema.as_deref())?;
        self.check_privileges(&schema).await?;
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
                if if_exists && kind_of(self.connection, &schema, &statement.table).await?.is_none() {
                    return self.nothing_to_do(text, &schema, &statement.table).await;
                }
                let table = self.table(&schema, &statement.table).await?;
                let (rows, _) = count(self.connection, &table).await?;
                let changes = vec![format!("table {} is dropped", table.name)];
                let candidates = native::drop_table(&table, rows);
                self.finish(text, &table, changes, candidates, Evidence::default()).await
            }
        }
    }

    /// Before anything is read that needs them, and long before anything is made.
    async fn check_privileges(&mut self, schema: &str) -> Result<()> {
        if SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(schema)) {
            return Ok(());
        }
        let checks = preflight::privileges(self.connection, Some(schema), self.names.schema()).await?;
        let missing: Vec<String> =
            preflight::blocking(&checks).iter().filter_map(|check| check.mend.clone()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused, "the login lacks privileges; nothing was changed")
            .hint(format!("as an administrator: {}", missing.join("; "))))
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
        match kind_of(self.connection, schema, name).await? {
            None => {
                let missing = format!("there is no table `{name}` in `{schema}`");
                Err(Error::new(ErrorKind::NotFound, missing))
            }
            Some((kind, _)) if kind != "BASE TABLE" => {
                refused(format!("`{name}` is a view, not a table ({})", kind.to_lowercase()))
            }
            Some((_, Some(engine))) if !engine.eq_ignore_ascii_case("InnoDB") => {
                refused(format!("`{name}` is stored by {engine}; only InnoDB can be changed online"))
            }
            Some(_) => Table::read(self.connection, schema, name)
                .await?
                .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no table `{name}`"))),
        }
    }

    async fn rename(&mut self, text: &str, table: &Table, schema: &str, to: &str) -> Result<Draft> {
        if kind_of(self.connection, schema, to).await?.is_some() {
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

    async fn alter(
        &mut self,
        text: &str,
        table: &Table,
        clauses: &[Clause],
        given: &Given<'_>,
    ) -> Result<Draft> {
        if items(&table.sql).iter().any(|line| line.contains(" FOREIGN KEY ")) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("`{}` has foreign keys of its own, which is not supported yet", table.name),
            )
            .hint("its definition cannot be tried on a copy under the same names of constraints"));
        }
        let mut scratch = Scratch::make(self.server, table).await?;
        let drafted = self.alter_with(&mut scratch, text, table, clauses, given).await;
        scratch.remove().await?;
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
        let renames: Vec<(String, String)> =
            clauses.iter().filter_map(|clause| clause.renames.clone()).collect();
        let tried = scratch.alter(clauses).await?;
        let changes = changes(table, &tried.after, clauses);
        if changes.is_empty() {
            return self.finish(text, table, changes, vec![nothing()], Evidence::default()).await;
        }
        let mut candidates = self.natives(scratch, table, &tried, clauses, &renames).await?;
        let (shadow, mut evidence) = self.shadow(scratch, table, &tried.after, &renames, given).await?;
        candidates.push(shadow);
        evidence.renames = renames.iter().map(|(from, to)| (format!("column {from}"), to.clone())).collect();
        self.finish(text, table, changes, candidates, evidence).await
    }

    /// The server's own ways, as it answered for an empty copy: they depend on the definition alone.
    async fn natives(
        &mut self,
        scratch: &mut Scratch,
        table: &Table,
        tried: &Tried,
        clauses: &[Clause],
        renames: &[(String, String)],
    ) -> Result<Vec<Candidate>> {
        let mut candidates: Vec<Candidate> = tried
            .rejected
            .iter()
            .map(|(way, why)| native::impossible(strategy(*way), format!("MySQL says: {why}")))
            .collect();
        let how = match tried.way {
            Way::Instant => "ALGORITHM = INSTANT",
            Way::Inplace => "ALGORITHM = INPLACE, LOCK = NONE",
            Way::Copy => return Ok(candidates),
        };
        let dropped = dropped_columns(table, &tried.after, renames);
        let inverse = match native::inverse(table, &tried.after, renames) {
            Some(inverse) if inverse.is_empty() => Some(inverse),
            // Believed only where it gives back what was there.
            Some(inverse) => match scratch.again(&inverse).await {
                Ok(back) if back.sql == table.sql => Some(inverse),
                _ => None,
            },
            None => None,
        };
        let reason = match tried.way {
            Way::Instant => "only the definition changes",
            _ => "MySQL makes it in place while others read and write",
        };
        let step = native::alter_step(table, &tried.after, clauses, how, inverse.as_deref());
        let undo = if inverse.is_some() {
            "`revert` runs the opposite; values of a column that was added are gone then"
        } else {
            "cannot be undone"
        };
        let mut candidate = native::candidate(strategy(tried.way), reason, vec![step], undo);
        candidate.discards = dropped.iter().map(|column| format!("column {column}")).collect();
        if inverse.is_none() && dropped.is_empty() {
            candidate.impossible = Some("it is not known how MySQL itself would take it back".to_owned());
        }
        if tried.way == Way::Inplace {
            candidate.impossible = candidate.impossible.take().or(self.harms_replicas(table, tried).await?);
        }
        candidates.push(candidate);
        Ok(candidates)
    }

    /// A replica runs the statement once more, and applies nothing else meanwhile.
    async fn harms_replicas(&mut self, table: &Table, tried: &Tried) -> Result<Option<String>> {
        if tried.is_rebuilt {
            return Ok(Some(
                "MySQL would write the whole table anew, and each replica would stand still as long"
                    .to_owned(),
            ));
        }
        let replicas = number(
            self.connection,
            "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_command LIKE 'Binlog Dump%'",
        )
        .await?;
        if replicas > 0 && table.rows > REPLICA_ROWS_MAX {
            return Ok(Some(format!("{replicas} replicas would stand still while they build the same")));
        }
        Ok(None)
    }

    async fn rebuild(&mut self, name: &str, shape: Option<&str>) -> Result<Draft> {
        let (schema, name) = match name.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, name),
        };
        if shape.is_some() {
            return Err(Error::new(
                ErrorKind::Refused,
                "a new shape as a whole is not supported on MySQL yet",
            )
            .hint("say what changes: replank apply -e 'ALTER TABLE …'"));
        }
        let schema = self.schema(schema)?;
        self.check_privileges(&schema).await?;
        let table = self.table(&schema, name).await?;
        let mut scratch = Scratch::make(self.server, &table).await?;
        let given = Given { forward: &[], reverse: &[] };
        let shadow = self.shadow(&mut scratch, &table, &table, &[], &given).await;
        scratch.remove().await?;
        let (shadow, evidence) = shadow?;
        let changes = vec!["the table is written anew as it is".to_owned()];
        self.finish(&format!("OPTIMIZE TABLE {name}"), &table, changes, vec![shadow], evidence).await
    }

    async fn shadow(
        &mut self,
        scratch: &mut Scratch,
        old: &Table,
        new: &Table,
        renames: &[(String, String)],
        given: &Given<'_>,
    ) -> Result<(Candidate, Evidence)> {
        let impossible = |why: String| Candidate { impossible: Some(why), ..shadow(old) };
        let mapping = mapping(scratch, old, new, renames, given).await?;
        let forward = match mapping.forward {
            Ok(forward) => forward,
            Err(why) => {
                let why = format!("rows cannot be told apart while they are copied: {why}");
                return Ok((impossible(why), Evidence::default()));
            }
        };
        let mut evidence = evidence::gather(self.connection, old, new, &forward).await?;
        let mut candidate = shadow(old);
        candidate.impossible = self.unsuitable(old, new, &mut evidence).await?;
        let spec = Spec {
            schema: old.schema.clone(),
            old: side(old, false),
            new: side(new, true),
            forward,
            backward: mapping.backward.as_ref().ok().cloned(),
        };
        candidate.impossible = candidate.impossible.take().or(undeferrable(&spec, new));
        candidate.spec = spec.write()?;
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
                candidate.undo = format!("cannot be taken back after the swap: {why}");
                candidate.discards.push(format!("the way back ({why})"));
            }
        }
        Ok((candidate, evidence))
    }

    /// What about the table or the server stands in the way of a rebuild.
    async fn unsuitable(
        &mut self,
        old: &Table,
        new: &Table,
        evidence: &mut Evidence,
    ) -> Result<Option<String>> {
        let dependants = dependants(self.connection, &old.schema, &old.name).await?;
        if !dependants.is_empty() {
            return Ok(Some(format!(
                "{} would not follow the name: tables with foreign keys or triggers are not supported yet",
                dependants.join(", ")
            )));
        }
        if items(&new.sql).iter().any(|line| line.contains(" FOREIGN KEY ")) {
            return Ok(Some("a new foreign key is not supported in a rebuild yet".to_owned()));
        }
        if let Some(check) = shared_check(old, new) {
            return Ok(Some(format!(
                "the check `{check}` has a name of its own, which two tables of one database cannot share"
            )));
        }
        if let Some(why) = self.time_zones(old, new).await? {
            return Ok(Some(why));
        }
        let prepared = preflight::prepared(self.connection).await?;
        if prepared > 0 {
            return Ok(Some(format!(
                "{prepared} prepared XA transactions wait (`XA RECOVER`): their rows are in the log and not yet visible"
            )));
        }
        let checks = preflight::checks(self.connection, Some(&old.schema), self.names.schema()).await?;
        if let Some(kept) = preflight::kept_seconds(self.connection).await? {
            // Some 20 MB a second, twice over, and a day in which it can be taken back.
            let needed = 2 * (old.bytes / 20_000_000) + 24 * 60 * 60;
            if kept < needed {
                evidence.retention = Some(format!("the log is kept for {kept} s, and {needed} s are needed"));
            }
        }
        let blocking = preflight::blocking(&checks);
        if blocking.is_empty() {
            return Ok(None);
        }
        let all: Vec<String> = blocking
            .iter()
            .map(|check| {
                format!("{}: {}; {}", check.name, check.found, check.mend.clone().unwrap_or_default())
            })
            .collect();
        Ok(Some(all.join("; ")))
    }

    /// Our sessions count in UTC, and the person's may not.
    async fn time_zones(&mut self, old: &Table, new: &Table) -> Result<Option<String>> {
        let converts = new.columns.iter().find(|column| {
            old.column(&column.name).is_some_and(|from| {
                from.data_type != column.data_type
                    && (from.data_type == "timestamp" || column.data_type == "timestamp")
            })
        });
        let Some(column) = converts else { return Ok(None) };
        let in_utc = number(
            self.connection,
            "SELECT @@GLOBAL.time_zone IN ('+00:00', 'UTC') OR (@@GLOBAL.time_zone = 'SYSTEM' AND @@GLOBAL.system_time_zone = 'UTC')",
        )
        .await?;
        Ok((in_utc == 0).then(|| {
            format!(
                "column {} becomes or was a TIMESTAMP, and the server's time zone is not UTC",
                column.name
            )
        }))
    }

    /// A statement whose object is not there, and need not be.
    async fn nothing_to_do(&mut self, text: &str, schema: &str, name: &str) -> Result<Draft> {
        Ok(Draft {
            statement: text.to_owned(),
            changes: Vec::new(),
            server: crate::session::facts(self.connection).await?,
            table: TableFacts {
                id: TableId { schema: Some(schema.to_owned()), name: name.to_owned() },
                rows: 0,
                rows_exact: true,
                bytes: None,
                key: Vec::new(),
                dependants: Vec::new(),
            },
            candidates: vec![nothing()],
            evidence: Evidence::default(),
            driver_facts: Json::Null,
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
            .all(|candidate| candidate.strategy == Strategy::Shadow || candidate.impossible.is_some())
        {
            evidence.no_key = key.as_ref().err().cloned();
        }
        let (rows, rows_exact) = count(self.connection, table).await?;
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
                dependants: dependants(self.connection, &table.schema, &table.name).await?,
            },
            candidates,
            evidence,
            driver_facts: Json::Null,
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
        Way::Inplace | Way::Copy => Strategy::NativeOnline,
    }
}

fn nothing() -> Candidate {
    native::candidate(Strategy::Instant, "there is nothing to change", Vec::new(), "there is nothing to undo")
}

fn dropped_columns(old: &Table, new: &Table, renames: &[(String, String)]) -> Vec<String> {
    let is_gone = |name: &str| {
        let renamed =
            renames.iter().find(|(from, _)| from.eq_ignore_ascii_case(name)).map(|(_, to)| to.as_str());
        new.column(renamed.unwrap_or(name)).is_none()
    };
    old.columns
        .iter()
        .filter(|column| !column.is_generated && is_gone(&column.name))
        .map(|column| column.name.clone())
        .collect()
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
    let (options_before, options_after) =
        (crate::inspect::options(&old.sql), crate::inspect::options(&new.sql));
    if options_before != options_after {
        changes.push(format!("was {options_before}"));
        changes.push(format!("becomes {options_after}"));
    }
    let asks_to_rebuild = clauses.iter().any(|clause| {
        let text = clause.text.to_ascii_uppercase();
        text.starts_with("ENGINE") || text.starts_with("FORCE")
    });
    if changes.is_empty() && asks_to_rebuild {
        changes.push("the table is written anew as it is".to_owned());
    }
    changes
}

fn shadow(table: &Table) -> Candidate {
    let step = Step::of_engine;
    Candidate {
        strategy: Strategy::Shadow,
        impossible: None,
        reason: "MySQL itself would copy the table under a lock".to_owned(),
        steps: vec![
            step("make the new table, empty and without its secondary indexes", "drop it"),
            step("copy rows in chunks, and apply changes from the binary log", "drop the new table"),
            step("build the secondary indexes of the new table", "drop the new table"),
            step("compare every row, both ways", "nothing"),
            step("swap the names under a lock; the old table stays in step", "swap them back"),
        ],
        locks: vec![LockNote { what: "the table, for the swap: others wait".to_owned(), hold_ms: SWAP_MS }],
        discards: Vec::new(),
        // The table and its indexes, and as much again in the log of its copy.
        disk_bytes: Some(table.bytes * 2),
        undo: "`revert` swaps back, with every write made since; `finalize` drops the old table".to_owned(),
        spec: Json::Null,
    }
}

/// A table's part of the plan. `is_new`: its secondary indexes are built after the copy.
fn side(table: &Table, is_new: bool) -> Side {
    let counter = table.columns.iter().find(|column| column.is_counter);
    let mut indexes = table.indexes.clone();
    for index in &mut indexes {
        let serves_counter = counter.is_some_and(|counter| serves(index.clause.as_str(), &counter.name));
        let counts_by_key = counter.is_some_and(|counter| {
            table
                .unique
                .iter()
                .any(|unique| unique.name == "PRIMARY" && unique.parts[0] == crate::sql::ident(&counter.name))
        });
        let is_key = !table.unique.iter().any(|unique| unique.name == "PRIMARY") && index.is_unique;
        let is_needed = is_key || (serves_counter && !counts_by_key);
        index.is_deferred = is_new && index.is_deferred && !is_needed;
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
    clause.split_once(" (").is_some_and(|(_, parts)| parts.starts_with(&crate::sql::ident(column)))
}

/// Two unique keys that must be there while rows are copied would let rows of different moments collide.
fn undeferrable(spec: &Spec, new: &Table) -> Option<String> {
    let present = new.unique.iter().filter(|unique| {
        unique.name == "PRIMARY"
            || spec.new.indexes.iter().any(|index| index.name == unique.name && !index.is_deferred)
    });
    (present.count() > 1).then(|| "it has two unique keys that cannot be built after the copy".to_owned())
}

/// A check of both shapes whose name the server did not make: names of checks are unique in a database.
fn shared_check(old: &Table, new: &Table) -> Option<String> {
    let theirs = explicit_checks(new);
    explicit_checks(old).into_iter().find(|name| theirs.contains(name)).map(ToOwned::to_owned)
}

fn explicit_checks(table: &Table) -> Vec<&str> {
    let own = format!("{}_chk_", table.name);
    items(&table.sql)
        .into_iter()
        .filter(|line| line.starts_with("CONSTRAINT") && line.contains(" CHECK "))
        .filter_map(|line| line.split('`').nth(1))
        .filter(|name| name.strip_prefix(&own).is_none_or(|rest| rest.parse::<u32>().is_err()))
        .collect()
}
