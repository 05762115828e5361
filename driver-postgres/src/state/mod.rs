//! Where runs are kept: the tables of the schema `_replank` in the database itself.
//!
//! Every change is one statement that commits by itself. A runner that is stopped between two statements of
//! a transaction would hold its locks until the server notices, and nobody could take over.
//!
//! Bodies are text and not JSON: the server would sort their keys, and the hash chain is over the text.

mod control;
mod event;
mod lease;
mod object;
mod run;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::control::Control;
use replank_core::driver::{Command, CommandState, EventRecord, Lease, LeaseHolder, Revision, StateStore};
use replank_core::ident::{Fence, RunId, TableId};
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::preflight::refuse_pooler;
use crate::sql::{ident, is_so, run as execute, table, text};

pub use lease::{check_token, held, renew as renew_lease};
pub use object::{Object, ObjectRole, Objects};
pub use run::{all as all_runs, save as save_run};

/// The server's clock in milliseconds since 1970, as an expression.
const NOW_MS: &str = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The names of the state's tables.
#[derive(Debug, Clone)]
pub struct Names {
    schema: String,
}

impl Names {
    /// The names in a schema.
    pub fn new(schema: &str) -> Self {
        Self { schema: schema.to_owned() }
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// A table's quoted name.
    pub fn table(&self, part: &str) -> String {
        table(&self.schema, part)
    }

    fn ddl(&self) -> String {
        let made = |part: &str, columns: &str| {
            format!("CREATE TABLE IF NOT EXISTS {} ({columns});\n", self.table(part))
        };
        [
            made(
                "runs",
                "number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE,
                 table_name text NOT NULL, state text NOT NULL, revision bigint NOT NULL, body text NOT NULL",
            ),
            made(
                "leases",
                "table_name text PRIMARY KEY, token bigint NOT NULL, holder text, expires_ms bigint NOT NULL",
            ),
            made(
                "events",
                "seq bigint PRIMARY KEY, at_ms bigint NOT NULL, run text NOT NULL, kind text NOT NULL,
                 body text NOT NULL, previous text NOT NULL, hash text NOT NULL",
            ),
            made(
                "control",
                "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL, body text NOT NULL, answer text",
            ),
            // What the server ran in a transaction, recorded in that transaction.
            made("steps", "mark text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()"),
            // Last: who finds it, finds all.
            made(
                "objects",
                "number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text NOT NULL, role text NOT NULL,
                 name text NOT NULL, extra text NOT NULL, UNIQUE (run, role, name)",
            ),
        ]
        .concat()
    }
}

/// Whether the store was made.
pub async fn is_made(connection: &mut Conn, names: &Names) -> Result<bool> {
    is_so(connection, format!("SELECT to_regclass({}) IS NOT NULL", text(&names.table("objects")))).await
}

/// The store of one server.
pub struct Store {
    server: Arc<Server>,
    names: Names,
}

impl Store {
    /// The store of a server; nothing is created.
    pub fn new(server: Arc<Server>) -> Self {
        let names = Names::new(&server.settings().state_name);
        Self { server, names }
    }

    /// A session for reading; `None` where the store was never made.
    async fn reading(&self) -> Result<Option<Conn>> {
        let mut connection = self.server.take().await?;
        if is_made(&mut connection, &self.names).await? {
            return Ok(Some(connection));
        }
        self.server.keep(connection);
        Ok(None)
    }
}

fn broken(what: &str, error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Server, format!("a record of the state store cannot be read: {what}"))
        .with("why", &error)
        .hint("was it written by a newer replank? then go on with that one")
        .caused_by(error)
}

fn unwritable(what: &str, error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("{what} cannot be written as JSON")).caused_by(error)
}

#[async_trait]
impl StateStore for Store {
    async fn ensure(&self) -> Result<()> {
        let mut connection = self.server.take().await?;
        if !is_made(&mut connection, &self.names).await? {
            // It asks for CREATE on the database even where the schema is there.
            let there = format!(
                "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = {})",
                text(self.names.schema())
            );
            let schema = match is_so(&mut connection, there).await? {
                true => String::new(),
                false => format!("CREATE SCHEMA IF NOT EXISTS {};\n", ident(self.names.schema())),
            };
            match execute(&mut connection, schema + &self.names.ddl()).await {
                // Two that make it at once meet in the catalogue: one of them finds it made.
                Err(error) if matches!(error.kind(), ErrorKind::Duplicate | ErrorKind::Server) => {
                    if !is_made(&mut connection, &self.names).await? {
                        return Err(error);
                    }
                }
                made => drop(made?),
            }
        }
        self.server.keep(connection);
        Ok(())
    }

    async fn create(&self, run: &Run) -> Result<Revision> {
        let mut connection = self.server.take().await?;
        let revision = run::create(&mut connection, &self.names, run).await?;
        self.server.keep(connection);
        Ok(revision)
    }

    async fn load(&self, id: &RunId) -> Result<Option<(Run, Revision)>> {
        let Some(mut connection) = self.reading().await? else { return Ok(None) };
        let found = run::load(&mut connection, &self.names, id).await?;
        self.server.keep(connection);
        Ok(found)
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        let mut connection = self.server.take().await?;
        let found = all_runs(&mut connection, &self.names).await?;
        self.server.keep(connection);
        Ok(found)
    }

    async fn save(&self, run: &Run, expected: Revision, token: Fence) -> Result<Revision> {
        let mut connection = self.server.take().await?;
        let revision = save_run(&mut connection, &self.names, run, expected, token).await?;
        self.server.keep(connection);
        Ok(revision)
    }

    async fn lease(&self, table: &TableId) -> Result<Option<Lease>> {
        let Some(mut connection) = self.reading().await? else { return Ok(None) };
        let found = lease::load(&mut connection, &self.names, table).await?;
        self.server.keep(connection);
        Ok(found)
    }

    async fn take_lease(
        &self,
        table: &TableId,
        seen: Option<Fence>,
        holder: &LeaseHolder,
        ttl: Duration,
    ) -> Result<Option<Fence>> {
        // Whatever changes something has a lease: of a run that was planned elsewhere, too.
        refuse_pooler(&self.server)?;
        let mut connection = self.server.take().await?;
        let token = lease::take(&mut connection, &self.names, table, seen, holder, ttl).await?;
        self.server.keep(connection);
        Ok(token)
    }

    async fn renew_lease(&self, table: &TableId, token: Fence, ttl: Duration) -> Result<()> {
        let mut connection = self.server.take().await?;
        lease::renew(&mut connection, &self.names, table, token, ttl).await?;
        self.server.keep(connection);
        Ok(())
    }

    async fn release_lease(&self, table: &TableId, token: Fence) -> Result<()> {
        let mut connection = self.server.take().await?;
        lease::release(&mut connection, &self.names, table, token).await?;
        self.server.keep(connection);
        Ok(())
    }

    async fn append(&self, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()> {
        let mut connection = self.server.take().await?;
        event::append(&mut connection, &self.names, run, kind, body).await?;
        self.server.keep(connection);
        Ok(())
    }

    async fn events(&self, run: Option<&RunId>) -> Result<Vec<EventRecord>> {
        let Some(mut connection) = self.reading().await? else { return Ok(Vec::new()) };
        let found = event::load(&mut connection, &self.names, run).await?;
        self.server.keep(connection);
        Ok(found)
    }

    async fn post(&self, run: &RunId, command: &Control) -> Result<u64> {
        let mut connection = self.server.take().await?;
        let id = control::post(&mut connection, &self.names, run, command).await?;
        self.server.keep(connection);
        Ok(id)
    }

    async fn pending(&self, run: &RunId) -> Result<Vec<Command>> {
        let Some(mut connection) = self.reading().await? else { return Ok(Vec::new()) };
        let found = control::pending(&mut connection, &self.names, run).await?;
        self.server.keep(connection);
        Ok(found)
    }

    async fn acknowledge(&self, id: u64, answer: &str) -> Result<()> {
        let mut connection = self.server.take().await?;
        control::acknowledge(&mut connection, &self.names, id, answer).await?;
        self.server.keep(connection);
        Ok(())
    }

    async fn command(&self, id: u64) -> Result<CommandState> {
        let Some(mut connection) = self.reading().await? else { return Ok(CommandState::Waiting) };
        let found = control::state(&mut connection, &self.names, id).await?;
        self.server.keep(connection);
        Ok(found)
    }
}
