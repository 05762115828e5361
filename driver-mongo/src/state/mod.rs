//! Where runs are kept: the database `_replank` of the replica set, of whose collections each record is one document.
//!
//! Each method changes one document, and a server changes a document as a whole or not at all. A transaction would bind
//! more together, and one whose runner was killed keeps its documents locked for a minute: the next runner would have to wait
//! for it. So a run's document bears the token of its table's lease: who takes the lease writes the new token into the runs
//! before it does anything else, and a save of the one before finds no document any more.

mod control;
mod event;
mod lease;
mod object;
mod run;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bson::Document;
use mongodb::Collection;
use replank_core::control::Control;
use replank_core::driver::{Command, CommandState, EventRecord, Lease, LeaseHolder, Revision, StateStore};
use replank_core::ident::{Fence, RunId, TableId};
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Server;
use crate::error::{NAMESPACE_EXISTS, code, from_mongo};

pub use lease::{check_token, load as lease, now_ms, seize};
pub use object::{Object, ObjectRole, Objects, fences};
pub use run::{all as all_runs, save as save_run};
pub use sessions::{Noted, end as end_sessions};

const COLLECTIONS: [&str; 6] = ["runs", "leases", "events", "control", "objects", "sessions"];

/// A collection of the records.
pub fn records(server: &Server, part: &str) -> Collection<Document> {
    server.records().collection(part)
}

/// The store of one replica set.
pub struct Store {
    server: Arc<Server>,
}

impl Store {
    /// The store of a server; nothing is created.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

fn broken(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Server, format!("a record of the state store cannot be read: {what}"))
        .with("why", &error)
        .hint("was it written by a newer replank? then go on with that one")
        .caused_by(error)
}

fn missing(what: &str) -> impl Fn(bson::error::Error) -> Error {
    let what = what.to_owned();
    move |error| broken(&what, error)
}

fn unwritable(what: &str, error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("{what} cannot be written as JSON")).caused_by(error)
}

fn unsigned(number: i64) -> u64 {
    number.unsigned_abs()
}

/// A number as the records have it.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl StateStore for Store {
    async fn ensure(&self) -> Result<()> {
        for part in COLLECTIONS {
            match self.server.records().create_collection(part).await {
                Ok(()) => {}
                Err(error) if code(&error) == Some(NAMESPACE_EXISTS) => {}
                Err(error) => return Err(from_mongo(error)),
            }
        }
        Ok(())
    }

    async fn create(&self, run: &Run) -> Result<Revision> {
        run::create(&self.server, run).await
    }

    async fn load(&self, id: &RunId) -> Result<Option<(Run, Revision)>> {
        run::load(&self.server, id).await
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        run::all(&self.server).await
    }

    async fn save(&self, run: &Run, expected: Revision, token: Fence) -> Result<Revision> {
        run::save(&self.server, run, expected, token).await
    }

    async fn lease(&self, table: &TableId) -> Result<Option<Lease>> {
        lease::load(&self.server, table).await
    }

    async fn take_lease(
        &self,
        table: &TableId,
        seen: Option<Fence>,
        holder: &LeaseHolder,
        ttl: Duration,
    ) -> Result<Option<Fence>> {
        lease::take(&self.server, table, seen, holder, ttl).await
    }

    async fn renew_lease(&self, table: &TableId, token: Fence, ttl: Duration) -> Result<()> {
        lease::renew(&self.server, table, token, ttl).await
    }

    async fn release_lease(&self, table: &TableId, token: Fence) -> Result<()> {
        lease::release(&self.server, table, token).await
    }

    async fn append(&self, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()> {
        event::append(&self.server, run, kind, body).await
    }

    async fn events(&self, run: Option<&RunId>) -> Result<Vec<EventRecord>> {
        event::load(&self.server, run).await
    }

    async fn post(&self, run: &RunId, command: &Control) -> Result<u64> {
        control::post(&self.server, run, command).await
    }

    async fn pending(&self, run: &RunId) -> Result<Vec<Command>> {
        control::pending(&self.server, run).await
    }

    async fn acknowledge(&self, id: u64, answer: &str) -> Result<()> {
        control::acknowledge(&self.server, id, answer).await
    }

    async fn command(&self, id: u64) -> Result<CommandState> {
        control::state(&self.server, id).await
    }
}
