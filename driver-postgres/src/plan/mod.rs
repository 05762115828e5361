//! From a statement to the steps that carry it out.

mod alter;
mod aside;
mod bounds;
mod constraint;
mod evidence;
mod foresight;
mod given;
mod identity;
mod index;
mod keeping;
mod key;
mod lock_table;
mod mapping;
mod matview_trial;
mod object;
mod parent_index;
mod parent_key;
mod partition;
mod partition_own;
mod partitioned_writes;
mod repack;
mod shadow;
mod step;
mod table;
mod view_trial;
mod words;

use std::time::Duration;

use replank_core::driver::Request;
use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Candidate, Draft, Evidence, LockNote, Step, Strategy, tell_without_rebuild};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::definition::Definition;
use crate::given_shape::parse_shape;
use crate::holders::{lock_waiters, old_holders};
use crate::inspect::Table;
use crate::lint::{Facts, Seen};
use crate::parse::{self, Statement, parse, parse_all, within_transaction};
use crate::partitions::Partition;
use crate::preflight::POOLED;
use crate::spec::{CaptureBy, Spec};
use crate::sql::{first, get, is_so};
use crate::state::{Names, all_runs};
use crate::words::words;
use index::nothing;
use mapping::Given;
use object::unknown;
use shadow::Wanted;

pub use step::{Kind, NOTHING, Notes};

/// A transaction that is worth to be named before anything is begun. Chosen: those that are young are over by then.
const OLD: Duration = Duration::from_secs(5);
/// An exclusive lock for a change of the catalogue alone: some milliseconds. Measured on an idle table.
const CATALOGUE_MS: u64 = 5;

/// Reads a request against the live server. Changes nothing.
///
/// # Errors
/// Those of [`Session::draft`](replank_core::driver::Session::draft).
pub async fn draft(server: &Server, request: &Request) -> Result<Draft> {
    request.without_pipelines()?;
    if server.is_pooled() {
        return pooled(server, request).await;
    }
    // What is tried is tried in a transaction of this session, which ends with it when something goes wrong.
    let mut connection = server.connect().await?;
    let names = Names::new(&server.settings().state_name);
    let capture = CaptureBy::of(request.capture(&CaptureBy::WORDS)?);
    let version = server.version();
    let mut drafting =
        Drafting { connection: &mut connection, names, version, capture, seen: Vec::new(), lost: Vec::new() };
    if !matches!(request, Request::TakeBack { .. }) {
        drafting.see_publications_of_all().await?;
    }
    let mut drafted = match request {
        Request::Statement { text, forward, reverse, .. } => {
            drafting.statement(text, &Given { forward, reverse }).await
        }
        Request::Rebuild { table, shape, .. } => {
            drafting.see_name(table).await?;
            match shape {
                None => drafting.rebuild(table).await,
                Some(shape) => {
                    drafting.see_padding(&words(shape).columns).await?;
                    drafting.reshape(table, shape).await
                }
            }
        }
        Request::TakeBack { inverses } => drafting.take_back(inverses).await,
    }?;
    drafted.driver_facts = Facts::and(&drafted.driver_facts, drafting.seen);
    Ok(drafted)
}

/// Behind a pooler nothing is tried: each transaction has another session.
async fn pooled(server: &Server, request: &Request) -> Result<Draft> {
    let statement = match request {
        Request::Statement { text, .. } => text.clone(),
        Request::Rebuild { table, .. } => format!("REBUILD {table}"),
        Request::TakeBack { inverses } => inverses.join("; "),
    };
    let mut connection = server.take().await?;
    let facts = crate::session::facts(&mut connection).await?;
    server.keep(connection);
    let impossible = Candidate {
        strategy: Strategy::Instant,
        impossible: Some(POOLED.to_owned()),
        unasked: None,
        reason: String::new(),
        steps: Vec::new(),
        locks: Vec::new(),
        discards: Vec::new(),
        no_way_back: None,
        disk_bytes: None,
        undo: String::new(),
        spec: serde_json::Value::Null,
    };
    Ok(Draft {
        changes: vec![statement.clone()],
        statement,
        server: facts,
        table: unknown("this database"),
        candidates: vec![impossible],
        evidence: Evidence::default(),
        driver_facts: Facts::one("P153", POOLED.to_owned()),
    })
}

struct Drafting<'a> {
    connection: &'a mut Conn,
    names: Names,
    version: u32,
    capture: CaptureBy,
    /// For the rules of this driver, whichever way is taken.
    seen: Vec<Seen>,
    /// What partitions have by themselves and the new shape does not.
    lost: Vec<String>,
}

/// What a change comes to.
struct Way {
    changes: Vec<String>,
    steps: Vec<Step>,
    strategy: Strategy,
    reason: String,
    locks: Vec<LockNote>,
    undo: String,
    discards: Vec<String>,
    no_way_back: Option<String>,
    impossible: Option<String>,
    /// Taken only when it is asked for by name, for this reason.
    unasked: Option<String>,
    evidence: Evidence,
    /// For the rules of this driver.
    seen: Vec<Seen>,
}

impl Way {
    /// Notes something for a rule of this driver.
    fn seen(&mut self, rule: &str, what: String) {
        self.seen.push(Seen { rule: rule.to_owned(), what });
    }
}

impl Drafting<'_> {
    async fn statement(&mut self, text: &str, given: &Given<'_>) -> Result<Draft> {
        let within = within_transaction(text)?;
        let one = within.as_deref().unwrap_or(text);
        self.see_words(one).await?;
        if within.is_some() && is_alone(&parse(one)?) {
            self.note("P103", "the server runs no CONCURRENTLY between BEGIN and COMMIT".to_owned());
        }
        let mut draft = self.one_statement(one, given).await?;
        text.clone_into(&mut draft.statement);
        Ok(draft)
    }

    async fn one_statement(&mut self, text: &str, given: &Given<'_>) -> Result<Draft> {
        match parse(text)? {
            Statement::AlterTable { table, only, actions } => {
                let table = self.table(&table).await?;
                let children =
                    format!("SELECT EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = {})", table.oid);
                if only && is_so(self.connection, children).await? {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        "ALTER TABLE ONLY is not run by replank yet where a table has children",
                    )
                    .hint("without ONLY the children are changed as well"));
                }
                match actions.first().map(|action| &action.kind) {
                    Some(parse::Kind::Attach { child, bound }) => {
                        return self.attach(text, &table, child, bound).await;
                    }
                    Some(parse::Kind::Detach { child }) => return self.detach(text, &table, child).await,
                    _ => {}
                }
                let way = self.alter(&table, &actions).await?;
                let rebuild = self.shadow(&table, &Wanted::Altered(&actions), given).await?;
                let wants_rebuild = !given.forward.is_empty() || !given.reverse.is_empty();
                self.finish(text, &table, (!wants_rebuild).then_some(way), Some(rebuild)).await
            }
            _ if !given.forward.is_empty() || !given.reverse.is_empty() => Err(Error::new(
                ErrorKind::Usage,
                "expressions for values go with an ALTER TABLE that needs a rebuild",
            )),
            Statement::CreateIndex(index) => {
                let table = self.table(&index.table).await?;
                let way = self.create_index(&table, &index).await?;
                self.finish(text, &table, Some(way), None).await
            }
            Statement::DropIndex { index, if_exists, is_concurrent } => {
                self.drop_index(text, &index, if_exists, is_concurrent).await
            }
            Statement::Object(object) => self.object(text, &object).await,
            Statement::Reindex { name, is_table, is_concurrent, options } => {
                self.reindex(text, &name, is_table, is_concurrent, &options).await
            }
        }
    }

    async fn table(&mut self, name: &str) -> Result<Table> {
        let table = Table::named(self.connection, name).await?;
        if self.names.schema() == table.schema {
            return Err(Error::new(ErrorKind::Refused, format!("{name} is one of replank's own tables")));
        }
        Ok(table)
    }

    /// What is to go is not there.
    async fn nothing_to_do(&mut self, text: &str, name: &str) -> Result<Draft> {
        Ok(Draft {
            statement: text.to_owned(),
            changes: Vec::new(),
            server: crate::session::facts(self.connection).await?,
            table: unknown(name),
            candidates: Vec::new(),
            evidence: Evidence::default(),
            driver_facts: serde_json::Value::Null,
        })
    }

    /// Every row is written anew, and nothing else changes.
    async fn rebuild(&mut self, name: &str) -> Result<Draft> {
        let table = self.table(name).await?;
        let given = Given { forward: &[], reverse: &[] };
        let (mut candidate, evidence) = self.shadow(&table, &Wanted::Altered(&[]), &given).await?;
        candidate.reason = "every row is written anew".to_owned();
        let said = format!("REBUILD {name}");
        let way = self.own_repack(&table, said.clone()).await?;
        let mut draft = self.finish(&said, &table, way, Some((candidate, evidence))).await?;
        draft.changes.push("every row is written anew".to_owned());
        Ok(draft)
    }

    /// The rows in another shape, which a person gave.
    async fn reshape(&mut self, name: &str, text: &str) -> Result<Draft> {
        let shape = parse_shape(text)?;
        let table = self.table(name).await?;
        for named in [&shape.table].into_iter().chain(shape.indexes.iter().map(|index| &index.table)) {
            if self.table(named).await?.oid != table.oid {
                let said = format!("the shape is one of {named}, and the table is {name}");
                return Err(Error::new(ErrorKind::Usage, said).hint("give the shape the table's own name"));
            }
        }
        let present = Definition::read(self.connection, table.oid).await?;
        if shape.is_unlogged != present.is_unlogged() {
            let said = format!("{name} would be UNLOGGED, or no longer: a shape does not change that");
            return Err(Error::new(ErrorKind::Refused, said)
                .hint("keep it in the shape as it is; ALTER TABLE … SET LOGGED, or UNLOGGED, changes it"));
        }
        let wanted = Wanted::Given(&shape);
        let given = Given { forward: &[], reverse: &[] };
        let (mut candidate, evidence) = self.shadow(&table, &wanted, &given).await?;
        candidate.reason = "every row is written anew, in the shape that was given".to_owned();
        let planned = Spec::read(&candidate.spec).ok();
        let mut draft = self.finish(text, &table, None, Some((candidate, evidence))).await?;
        if let Some(planned) = planned {
            let (mut gone, mut new) = present.differences(&planned.new.definition);
            gone.extend(planned.old.partitions.iter().map(Partition::told));
            new.extend(planned.new.partitions.iter().map(Partition::told));
            draft.changes = gone.into_iter().map(|line| format!("was {line}")).collect();
            draft.changes.extend(self.lost.drain(..).map(|line| format!("loses {line}")));
            draft.changes.extend(new.into_iter().map(|line| format!("becomes {line}")));
            if draft.changes.is_empty() {
                draft.changes.push("the order of the columns, or nothing, changes".to_owned());
            }
        }
        Ok(draft)
    }

    /// A rebuild that takes off what steps of the server's own have added, so that its values are kept.
    async fn take_back(&mut self, inverses: &[String]) -> Result<Draft> {
        let mut all = Vec::new();
        let mut name = None;
        for statement in inverses.iter().filter(|inverse| !inverse.starts_with("--")) {
            for statement in parse_all(statement)? {
                match statement {
                    Statement::AlterTable { table, actions, .. } => {
                        name = Some(table);
                        all.extend(actions);
                    }
                    // It goes with its constraint.
                    Statement::DropIndex { .. } => {}
                    _ => {
                        return Err(Error::new(
                            ErrorKind::Refused,
                            "an index is dropped by a step of its own",
                        ));
                    }
                }
            }
        }
        let name = name.ok_or_else(|| Error::new(ErrorKind::Internal, "there is nothing to take back"))?;
        let table = self.table(&name).await?;
        let given = Given { forward: &[], reverse: &[] };
        let rebuild = self.shadow(&table, &Wanted::Altered(&all), &given).await?;
        let mut draft = self.finish(&inverses.join("; "), &table, None, Some(rebuild)).await?;
        draft.changes = all.into_iter().map(|action| action.text).collect();
        Ok(draft)
    }

    async fn finish(
        &mut self,
        text: &str,
        table: &Table,
        way: Option<Way>,
        rebuild: Option<(Candidate, Evidence)>,
    ) -> Result<Draft> {
        let facts = TableFacts {
            id: TableId { schema: Some(table.schema.clone()), name: table.name.clone() },
            rows: u64::try_from(table.rows).unwrap_or_default(),
            rows_exact: false,
            bytes: u64::try_from(table.bytes).ok(),
            key: table.key.clone(),
            dependants: Vec::new(),
        };
        let mut way = way;
        if let Some(way) = &mut way {
            for holder in old_holders(self.connection, table.oid, OLD).await? {
                way.seen("P150", format!("session {} holds {}: {}", holder.id, table.name, holder.about));
            }
            let waits = |step: &Step| Notes::of(step).is_ok_and(|notes| notes.kind.waits_for_snapshots());
            if way.steps.iter().any(waits) {
                for waiter in lock_waiters(self.connection, OLD).await? {
                    let what =
                        format!("session {} waits for an advisory lock of {}", waiter.id, waiter.about);
                    way.seen("P104", format!("{what}, with a snapshot that this would wait for"));
                }
            }
        }
        self.finish_facts(text, facts, way, rebuild).await
    }

    async fn finish_facts(
        &mut self,
        text: &str,
        table: TableFacts,
        way: Option<Way>,
        rebuild: Option<(Candidate, Evidence)>,
    ) -> Result<Draft> {
        let mut candidates = Vec::new();
        let mut evidence = Evidence::default();
        let mut changes = Vec::new();
        let mut driver_facts = serde_json::Value::Null;
        if let Some(mut way) = way {
            // Steps may run, and be taken back, when the login has another one, or another login does it.
            let path = "SELECT string_agg(quote_ident(s), ', ') FROM unnest(current_schemas(false)) AS s";
            let path =
                first(self.connection, path).await?.map(|row| get::<Option<String>>(&row, 0)).transpose()?;
            let path = path.flatten().unwrap_or_else(|| "''".to_owned());
            way.steps = way.steps.into_iter().map(|step| step::along(step, &path)).collect();
            driver_facts = Facts::written(way.seen);
            evidence = way.evidence;
            changes = way.changes;
            candidates.push(Candidate {
                strategy: way.strategy,
                impossible: way.impossible,
                unasked: way.unasked,
                reason: way.reason,
                steps: way.steps,
                locks: way.locks,
                discards: way.discards,
                no_way_back: way.no_way_back,
                disk_bytes: None,
                undo: way.undo,
                spec: serde_json::Value::Null,
            });
        } else if rebuild.is_some() {
            changes.push(text.to_owned());
        }
        if let Some((candidate, found)) = rebuild {
            candidates.push(candidate);
            // Of NOT NULL both ask.
            evidence
                .nulls
                .extend(found.nulls.into_iter().filter(|_| evidence.nulls.is_empty()).collect::<Vec<_>>());
            evidence.collisions.extend(found.collisions);
            evidence.unfit.extend(found.unfit);
        }
        tell_without_rebuild(&mut candidates);
        for run in all_runs(self.connection, &self.names).await? {
            if run.table == table.id {
                evidence.busy.extend(run.unfinished());
            }
        }
        Ok(Draft {
            statement: text.to_owned(),
            changes,
            server: crate::session::facts(self.connection).await?,
            table,
            candidates,
            evidence,
            driver_facts,
        })
    }
}

/// Whether a statement refuses to be part of a transaction.
fn is_alone(statement: &Statement) -> bool {
    match statement {
        Statement::CreateIndex(index) => index.is_concurrent,
        Statement::DropIndex { is_concurrent, .. } | Statement::Reindex { is_concurrent, .. } => {
            *is_concurrent
        }
        Statement::AlterTable { actions, .. } => actions.iter().any(|action| {
            let is_detach = matches!(action.kind, parse::Kind::Detach { .. });
            is_detach && action.text.to_uppercase().ends_with(" CONCURRENTLY")
        }),
        Statement::Object(_) => false,
    }
}

fn catalogue_lock(what: &str) -> LockNote {
    LockNote {
        what: format!("{what}, for a change of the catalogue alone: others wait"),
        hold_ms: CATALOGUE_MS,
    }
}

/// A lock beside which others read and write.
fn gentle_lock(what: &str) -> LockNote {
    LockNote { what: format!("{what}: others read and write, and only other changes wait"), hold_ms: 0 }
}
