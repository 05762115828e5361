//! From a statement to the steps that carry it out.

mod alter;
mod index;
mod step;

use replank_core::driver::Request;
use replank_core::driver::facts::TableFacts;
use replank_core::ident::TableId;
use replank_core::plan::{Candidate, Draft, Evidence, LockNote, Step, Strategy};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::inspect::Table;
use crate::parse::{Statement, parse};
use crate::sql::is_so;
use crate::state::{Names, all_runs};

pub use step::{Kind, Notes};

/// An exclusive lock for a change of the catalogue alone: some milliseconds. Measured on an idle table.
const CATALOGUE_MS: u64 = 5;

/// Reads a request against the live server. Changes nothing.
///
/// # Errors
/// Those of [`Session::draft`](replank_core::driver::Session::draft).
pub async fn draft(server: &Server, request: &Request) -> Result<Draft> {
    // What is tried is tried in a transaction of this session, which ends with it when something goes wrong.
    let mut connection = server.connect().await?;
    let names = Names::new(&server.settings().state_name);
    let mut drafting = Drafting { connection: &mut connection, names };
    match request {
        Request::Statement { text, forward, reverse } if forward.is_empty() && reverse.is_empty() => {
            drafting.statement(text).await
        }
        Request::Statement { .. } => Err(no_rebuild("expressions for values need a rebuild")),
        Request::Rebuild { table, .. } => Err(no_rebuild(&format!("{table} would be rebuilt"))),
        Request::TakeBack { inverses } => {
            Err(no_rebuild(&format!("`{}` would need one", inverses.join("; "))))
        }
    }
}

/// What is not there yet.
fn no_rebuild(why: &str) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("{why}: rebuilds of PostgreSQL tables are not in this replank yet"),
    )
    .hint("what the server can do while others write is run; see `replank plan`")
}

struct Drafting<'a> {
    connection: &'a mut Conn,
    names: Names,
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
    evidence: Evidence,
}

impl Drafting<'_> {
    async fn statement(&mut self, text: &str) -> Result<Draft> {
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
                let way = self.alter(&table, &actions).await?;
                self.finish(text, &table, way).await
            }
            Statement::CreateIndex(index) => {
                let table = self.table(&index.table).await?;
                let way = self.create_index(&table, &index).await?;
                self.finish(text, &table, way).await
            }
            Statement::DropIndex { index, if_exists } => self.drop_index(text, &index, if_exists).await,
            Statement::Reindex { name, is_table } => self.reindex(text, &name, is_table).await,
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
            table: TableFacts {
                id: TableId::new(name),
                rows: 0,
                rows_exact: true,
                bytes: None,
                key: Vec::new(),
                dependants: Vec::new(),
            },
            candidates: Vec::new(),
            evidence: Evidence::default(),
            driver_facts: serde_json::Value::Null,
        })
    }

    async fn finish(&mut self, text: &str, table: &Table, way: Way) -> Result<Draft> {
        let mut evidence = way.evidence;
        for run in all_runs(self.connection, &self.names).await? {
            if run.table.name == table.name && run.table.schema.as_ref() == Some(&table.schema) {
                evidence.busy.extend(run.unfinished());
            }
        }
        let candidate = Candidate {
            strategy: way.strategy,
            impossible: way.impossible,
            unasked: None,
            reason: way.reason,
            steps: way.steps,
            locks: way.locks,
            discards: way.discards,
            no_way_back: way.no_way_back,
            disk_bytes: None,
            undo: way.undo,
            spec: serde_json::Value::Null,
        };
        Ok(Draft {
            statement: text.to_owned(),
            changes: way.changes,
            server: crate::session::facts(self.connection).await?,
            table: TableFacts {
                id: TableId { schema: Some(table.schema.clone()), name: table.name.clone() },
                rows: u64::try_from(table.rows).unwrap_or_default(),
                rows_exact: false,
                bytes: u64::try_from(table.bytes).ok(),
                key: table.key.clone(),
                dependants: Vec::new(),
            },
            candidates: vec![candidate],
            evidence,
            driver_facts: serde_json::Value::Null,
        })
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
