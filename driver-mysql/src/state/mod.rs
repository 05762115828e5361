//! Where runs are kept: the tables of the database `_replank` on the server itself.
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
use crate::rebuild::names::is_helper;
use crate::spec::Homes;
use crate::sql::{ident, number, run as execute, table, text};

pub use lease::check_token;
pub use object::{ObjectRole, Objects};
pub use run::{all as all_runs, save as save_run};

/// The server's clock in milliseconds since 1970, as an expression.
const NOW_MS: &str = "CAST(FLOOR(UNIX_TIMESTAMP(NOW(6)) * 1000) AS SIGNED)";

/// The names of the state's tables.
#[derive(Debug, Clone)]
pub struct Names {
    schema: String,
}

impl Names {
    /// The names in a database.
    pub fn new(schema: &str) -> Self {
        Self { schema: schema.to_owned() }
    }

    /// The database.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The databases of tables that are not live, where they cannot be in the table's own.
    pub fn homes(&self) -> Homes {
        Homes { shadow: format!("{}_new", self.schema), retired: format!("{}_old", self.schema) }
    }

    /// What the names of databases with scratch tables begin with.
    pub fn scratch_prefix(&self) -> String {
        format!("{}_scratch_", self.schema)
    }

    /// A table's quoted name.
    pub fn table(&self, part: &str) -> String {
        table(&self.schema, part)
    }

    /// Whether a table is one of ours.
    pub fn is_own(&self, schema: &str, name: &str) -> bool {
        let Homes { shadow, retired } = self.homes();
        let is_ours = [&self.schema, &shadow, &retired].iter().any(|ours| ours.eq_ignore_ascii_case(schema));
        is_ours || schema.starts_with(&self.scratch_prefix()) || is_helper(name)
    }

    fn ddl(&self) -> [String; 6] {
        let made = |part: &str, columns: &str| {
            format!(
                "CREATE TABLE IF NOT EXISTS {} ({columns}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
                self.table(part)
            )
        };
        [
            format!("CREATE DATABASE IF NOT EXISTS {}", ident(&self.schema)),
            made(
                "runs",
                "number BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, id CHAR(16) NOT NULL UNIQUE,
                 table_name VARCHAR(200) NOT NULL, state VARCHAR(40) NOT NULL, revision BIGINT NOT NULL,
                 body LONGTEXT NOT NULL",
            ),
            made(
                "leases",
                "table_name VARCHAR(200) NOT NULL PRIMARY KEY, token BIGINT NOT NULL, holder TEXT,
                 expires_ms BIGINT NOT NULL",
            ),
            made(
                "events",
                "seq BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL, run CHAR(16) NOT NULL,
                 kind VARCHAR(64) NOT NULL, body LONGTEXT NOT NULL, previous VARCHAR(128) NOT NULL,
                 hash VARCHAR(128) NOT NULL",
            ),
            made(
                "control",
                "id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, run CHAR(16) NOT NULL, body TEXT NOT NULL,
                 answer TEXT, KEY waiting (run)",
            ),
            // Last: who finds it, finds all.
            made(
                "objects",
                "number BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, run CHAR(16) NOT NULL,
                 role VARCHAR(32) NOT NULL, name VARCHAR(64) NOT NULL, extra TEXT NOT NULL,
                 UNIQUE KEY one (run, role, name)",
            ),
        ]
    }
}

/// Whether the store was made.
pub async fn is_made(connection: &mut Conn, names: &Names) -> Result<bool> {
    let found = number(
        connection,
        format!(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {} AND table_name = 'objects'",
            text(names.schema())
        ),
    )
    .await?;
    Ok(found > 0)
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
            for statement in self.names.ddl() {
                execute(&mut connection, statement).await?;
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
