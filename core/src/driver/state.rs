//! Where runs are kept: in the target itself, so that another machine can go on.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ident::{Fence, RunId, TableId};
use crate::run::Run;
use crate::{Error, ErrorKind, Result};

/// Counts the saves of a run. A save states the revision that it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// The tables `runs`, `leases`, `events`, `control` and `objects` of the target.
///
/// Every method is one transaction. A store that was never made ([`StateStore::ensure`]) reads as empty.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Creates what is missing. Calling it again, or from two places at once, is harmless.
    async fn ensure(&self) -> Result<()>;

    /// Adds a run that is not there yet, at revision 1, if `run.fence` is still the token of its table's
    /// lease.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) when it is not: another runner took over meanwhile.
    async fn create(&self, run: &Run) -> Result<Revision>;

    /// A run with its revision.
    async fn load(&self, id: &RunId) -> Result<Option<(Run, Revision)>>;

    /// Every run, oldest first.
    async fn runs(&self) -> Result<Vec<Run>>;

    /// Replaces the run if its revision is `expected` and `token` is still the table's.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) when either is not so: another runner took over.
    async fn save(&self, run: &Run, expected: Revision, token: Fence) -> Result<Revision>;

    /// The lease of a table, as it stands, with the server's clock.
    async fn lease(&self, table: &TableId) -> Result<Option<Lease>>;

    /// Takes the lease if its token is still `seen` (`None`: there never was one), with the next token.
    /// `None` if another was faster.
    async fn take_lease(
        &self,
        table: &TableId,
        seen: Option<Fence>,
        holder: &LeaseHolder,
        ttl: Duration,
    ) -> Result<Option<Fence>>;

    /// Puts the expiry off, if the token is still ours.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) when it is not.
    async fn renew_lease(&self, table: &TableId, token: Fence, ttl: Duration) -> Result<()>;

    /// Gives the lease up; the token stays, so that the next is greater. A lease that is no longer ours
    /// is left alone.
    async fn release_lease(&self, table: &TableId, token: Fence) -> Result<()>;

    /// Adds to the record of a run. The store chains the records: see [`crate::journal::chain`].
    async fn append(&self, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()>;

    /// The records of one run, or of all (only then can the chain be checked), oldest first.
    async fn events(&self, run: Option<&RunId>) -> Result<Vec<EventRecord>>;

    /// Leaves a command for whoever runs the run. Returns its number.
    async fn post(&self, run: &RunId, command: &crate::control::Control) -> Result<u64>;

    /// Commands that nobody has answered, oldest first.
    async fn pending(&self, run: &RunId) -> Result<Vec<Command>>;

    /// Answers a command. The first answer stands.
    async fn acknowledge(&self, id: u64, answer: &str) -> Result<()>;

    /// How a command stands.
    async fn command(&self, id: u64) -> Result<CommandState>;
}

/// The error of a store whose newest token for a table is not the one that a runner holds.
#[must_use]
pub fn overtaken(table: &TableId, token: Fence, newest: Option<Fence>) -> Error {
    let newest = newest.map_or_else(|| "none".to_owned(), |newest| newest.to_string());
    Error::new(ErrorKind::Fenced, format!("another runner took over `{table}`"))
        .with("token", token)
        .with("newest", newest)
        .hint("`replank status` shows who runs it")
}

/// Who works on a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// Host name.
    pub host: String,
    /// Changes with every boot of the host.
    pub boot: String,
    /// Process id on that host.
    pub pid: u32,
    /// When that process started, in the kernel's clock ticks since boot: pids are used again.
    pub started: u64,
    /// The run.
    pub run: RunId,
}

/// A lease as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The newest token given out for the table.
    pub token: Fence,
    /// Who took it; `None` after a release.
    pub holder: Option<LeaseHolder>,
    /// How long it still holds, by the server's clock; zero when it has expired.
    pub remaining: Duration,
}

/// A command that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its number.
    pub id: u64,
    /// What is asked.
    pub control: crate::control::Control,
}

/// How a command stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandState {
    /// Nobody has answered.
    Waiting,
    /// The runner's answer.
    Answered(String),
}

/// One record of a run's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    /// Counts from 1 within the store.
    pub seq: u64,
    /// When, by the server's clock.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Which run.
    pub run: RunId,
    /// The kind of record.
    pub kind: String,
    /// Its content.
    pub body: serde_json::Value,
    /// Hash of the record before.
    pub previous: String,
    /// Hash over the record before and this one.
    pub hash: String,
}
