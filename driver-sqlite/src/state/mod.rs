//! Where runs are kept: the tables `_replank_*` of the database itself.
//!
//! They use nothing that an older SQLite cannot read, such as STRICT: an application with an older library
//! could not open its own database any more.

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
use sqlx::sqlite::SqliteConnection;

use crate::connect::Database;
use crate::error::from_sqlx;
use crate::sql::{ident, query, run as execute};

pub use lease::check_token;
pub use object::{Object, ObjectRole, Objects};
pub use run::{all as all_runs, save as save_run};

/// The names of the state's tables.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// The names under a prefix.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// A table's quoted name.
    pub fn table(&self, part: &str) -> String {
        ident(&self.plain(part))
    }

    /// A table's name.
    pub fn plain(&self, part: &str) -> String {
        format!("{}_{part}", self.prefix)
    }

    /// Whether a name is one of ours.
    pub fn is_own(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name.starts_with(&format!("{}_", self.prefix.to_ascii_lowercase())) || name.starts_with("_rp_")
    }

    fn ddl(&self) -> [String; 5] {
        [
            format!(
                "CREATE TABLE IF NOT EXISTS {} (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
                 table_name TEXT NOT NULL, state TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL)",
                self.table("runs")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (table_name TEXT NOT NULL PRIMARY KEY, token INTEGER NOT NULL,
                 holder TEXT, expires_ms INTEGER NOT NULL)",
                self.table("leases")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, run TEXT NOT NULL,
                 kind TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)",
                self.table("events")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL,
                 body TEXT NOT NULL, answer TEXT)",
                self.table("control")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (run TEXT NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL,
                 extra TEXT NOT NULL, PRIMARY KEY (run, role, name))",
                self.table("objects")
            ),
        ]
    }
}

/// The store of one database.
pub struct Store {
    database: Arc<Database>,
    names: Names,
}

impl Store {
    /// The store of a database; nothing is created.
    pub fn new(database: Arc<Database>) -> Self {
        let names = Names::new(&database.settings().state_name);
        Self { database, names }
    }
}

/// Whether the store was made.
pub async fn is_made(connection: &mut SqliteConnection, names: &Names) -> Result<bool> {
    let found = query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
        .bind(names.plain("objects"))
        .fetch_optional(connection)
        .await
        .map_err(from_sqlx)?;
    Ok(found.is_some())
}

/// Milliseconds since 1970. SQLite runs in this process, so the server's clock is this host's.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
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
        let mut tx = self.database.read().await?;
        let made = is_made(tx.connection(), &self.names).await?;
        tx.end().await?;
        if made {
            return Ok(());
        }
        let mut tx = self.database.write().await?;
        for statement in self.names.ddl() {
            execute(tx.connection(), statement).await?;
        }
        tx.commit().await
    }

    async fn create(&self, run: &Run) -> Result<Revision> {
        let mut tx = self.database.write().await?;
        lease::check_token(tx.connection(), &self.names, &run.table, run.fence).await?;
        let revision = run::create(tx.connection(), &self.names, run).await?;
        tx.commit().await?;
        Ok(revision)
    }

    async fn load(&self, id: &RunId) -> Result<Option<(Run, Revision)>> {
        let mut tx = self.database.read().await?;
        let found = match is_made(tx.connection(), &self.names).await? {
            true => run::load(tx.connection(), &self.names, id).await?,
            false => None,
        };
        tx.end().await?;
        Ok(found)
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        let mut tx = self.database.read().await?;
        let found = all_runs(tx.connection(), &self.names).await?;
        tx.end().await?;
        Ok(found)
    }

    async fn save(&self, run: &Run, expected: Revision, token: Fence) -> Result<Revision> {
        let mut tx = self.database.write().await?;
        let revision = save_run(tx.connection(), &self.names, run, expected, token).await?;
        tx.commit().await?;
        Ok(revision)
    }

    async fn lease(&self, table: &TableId) -> Result<Option<Lease>> {
        let mut tx = self.database.read().await?;
        let found = match is_made(tx.connection(), &self.names).await? {
            true => lease::load(tx.connection(), &self.names, table).await?,
            false => None,
        };
        tx.end().await?;
        Ok(found)
    }

    async fn take_lease(
        &self,
        table: &TableId,
        seen: Option<Fence>,
        holder: &LeaseHolder,
        ttl: Duration,
    ) -> Result<Option<Fence>> {
        let mut tx = self.database.write().await?;
        let token = lease::take(tx.connection(), &self.names, table, seen, holder, ttl).await?;
        tx.commit().await?;
        Ok(token)
    }

    async fn renew_lease(&self, table: &TableId, token: Fence, ttl: Duration) -> Result<()> {
        let mut tx = self.database.write().await?;
        lease::renew(tx.connection(), &self.names, table, token, ttl).await?;
        tx.commit().await
    }

    async fn release_lease(&self, table: &TableId, token: Fence) -> Result<()> {
        let mut tx = self.database.write().await?;
        lease::release(tx.connection(), &self.names, table, token).await?;
        tx.commit().await
    }

    async fn append(&self, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()> {
        let mut tx = self.database.write().await?;
        event::append(tx.connection(), &self.names, run, kind, body).await?;
        tx.commit().await
    }

    async fn events(&self, run: Option<&RunId>) -> Result<Vec<EventRecord>> {
        let mut tx = self.database.read().await?;
        let found = match is_made(tx.connection(), &self.names).await? {
            true => event::load(tx.connection(), &self.names, run).await?,
            false => Vec::new(),
        };
        tx.end().await?;
        Ok(found)
    }

    async fn post(&self, run: &RunId, command: &Control) -> Result<u64> {
        let mut tx = self.database.write().await?;
        let id = control::post(tx.connection(), &self.names, run, command).await?;
        tx.commit().await?;
        Ok(id)
    }

    async fn pending(&self, run: &RunId) -> Result<Vec<Command>> {
        let mut tx = self.database.read().await?;
        let found = match is_made(tx.connection(), &self.names).await? {
            true => control::pending(tx.connection(), &self.names, run).await?,
            false => Vec::new(),
        };
        tx.end().await?;
        Ok(found)
    }

    async fn acknowledge(&self, id: u64, answer: &str) -> Result<()> {
        let mut tx = self.database.write().await?;
        control::acknowledge(tx.connection(), &self.names, id, answer).await?;
        tx.commit().await
    }

    async fn command(&self, id: u64) -> Result<CommandState> {
        let mut tx = self.database.read().await?;
        let found = match is_made(tx.connection(), &self.names).await? {
            true => control::state(tx.connection(), &self.names, id).await?,
            false => CommandState::Waiting,
        };
        tx.end().await?;
        Ok(found)
    }
}
