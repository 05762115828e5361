//! Steps that the server runs itself.
//!
//! A step within a transaction records itself there (`steps`): what is recorded is done, and nothing else, whatever became
//! of the answer. What no transaction can hold (`CONCURRENTLY`) is told by the catalogue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{NativeDdl, Probe};
use replank_core::error::Retry;
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Server};
use crate::error::codes;
use crate::holders::old_holders;
use crate::inspect::{Index, index, indexes};
use crate::plan::{Kind, Notes};
use crate::sql::{is_so, run, text};
use crate::state::Names;

/// Runs and probes steps.
pub struct Native {
    server: Arc<Server>,
    names: Names,
}

impl Native {
    /// On a server.
    pub fn new(server: Arc<Server>) -> Self {
        let names = Names::new(&server.settings().state_name);
        Self { server, names }
    }

    /// The statement and its record, or neither.
    async fn recorded(&self, step: &Step, notes: &Notes, budget: Duration, is_long: bool) -> Result<()> {
        let mut connection = self.server.connect().await?;
        if !is_long {
            refuse_to_queue(&mut connection, notes, budget).await?;
        }
        let steps = self.names.table("steps");
        let record = match notes.is_forward(step) {
            true => format!("INSERT INTO {steps} (mark) VALUES ({})", text(&notes.mark)),
            false => format!("DELETE FROM {steps} WHERE mark = {}", text(&notes.mark)),
        };
        // Nobody who reads or writes waits behind a lock of the gentle kind. Autovacuum gives way after a second.
        let wait = if is_long { budget.max(self.server.settings().busy_timeout) } else { budget };
        let wait = wait.as_millis().max(1);
        // The wait for the lock and what is done under it, together.
        let whole = if is_long { 0 } else { wait * 2 };
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = {wait}; SET LOCAL statement_timeout = {whole}; SET LOCAL TimeZone TO DEFAULT;
             {};
             {record}; COMMIT",
            marked(step, notes)
        );
        run(&mut connection, sql).await.map(drop).map_err(|error| too_long(error, is_long))
    }

    /// On a session of its own: it waits for transactions that are older, and no setting of ours may end that wait.
    async fn alone(&self, sql: String) -> Result<()> {
        let mut connection = self.server.connect().await?;
        run(&mut connection, "SET lock_timeout = 0").await?;
        run(&mut connection, sql).await.map(drop)
    }

    async fn make_index(&self, step: &Step, notes: &Notes) -> Result<()> {
        let mut connection = self.server.take().await?;
        if let Some(left) = index(&mut connection, &notes.index).await? {
            if left.is_valid {
                return Err(Error::new(
                    ErrorKind::ForeignDdl,
                    format!("somebody else has made an index {}", left.name),
                ));
            }
            let built = format!(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_progress_create_index WHERE index_relid = {})",
                left.oid
            );
            if is_so(&mut connection, built).await? {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("somebody else builds an index {} just now", left.name),
                ));
            }
            self.drop_invalid(notes, &left).await?;
        }
        let made = self.alone(marked(step, notes)).await;
        let found = index(&mut connection, &notes.index).await;
        // Ended from outside, it is left to the next try: what it waited for would hold the removal up as well.
        if let Err(error) = &made
            && error.kind().retry() == Retry::Never
            && let Ok(Some(left)) = &found
            && !left.is_valid
        {
            self.drop_invalid(notes, left).await?;
        }
        made?;
        self.server.keep(connection);
        match found? {
            Some(found) if !found.is_valid => {
                Err(Error::new(ErrorKind::Retry, format!("index {} was built and is not valid", found.name)))
            }
            _ => Ok(()),
        }
    }

    /// Found by the step's mark, as its own statement is: it may wait for as long.
    async fn drop_invalid(&self, notes: &Notes, left: &Index) -> Result<()> {
        self.alone(format!("{} DROP INDEX CONCURRENTLY IF EXISTS {}", comment(notes), left.full_name())).await
    }

    /// What an interrupted REINDEX has left is dropped before it is tried again.
    async fn renew(&self, step: &Step, notes: &Notes) -> Result<()> {
        let mut connection = self.server.take().await?;
        let left = indexes(
            &mut connection,
            &format!(
                "i.indrelid = {} AND NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'",
                notes.table
            ),
        )
        .await?;
        self.server.keep(connection);
        for left in &left {
            self.drop_invalid(notes, left).await?;
        }
        self.alone(marked(step, notes)).await
    }
}

#[async_trait]
impl NativeDdl for Native {
    async fn run(&self, step: &Step, lock_budget: Duration) -> Result<()> {
        let notes = Notes::of(step)?;
        let is_forward = notes.is_forward(step);
        match (&notes.kind, is_forward) {
            (Kind::Recorded, _) => self.recorded(step, &notes, lock_budget, false).await,
            (Kind::RecordedLong, _) => self.recorded(step, &notes, lock_budget, true).await,
            (Kind::IndexMade, true) | (Kind::IndexDropped, false) => self.make_index(step, &notes).await,
            (Kind::IndexMade, false) | (Kind::IndexDropped, true) => self.alone(marked(step, &notes)).await,
            (Kind::IndexesRenewed { .. }, true) => self.renew(step, &notes).await,
            (Kind::IndexesRenewed { .. }, false) => Ok(()),
        }
    }

    async fn cancel(&self, step: &Step) -> Result<()> {
        let notes = Notes::of(step)?;
        let mut connection = self.server.take().await?;
        run(&mut connection, format!("SELECT pg_cancel_backend(pid) FROM {}", at_it(&notes))).await?;
        self.server.keep(connection);
        Ok(())
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let notes = Notes::of(step)?;
        let mut connection = self.server.take().await?;
        let running = format!("SELECT EXISTS (SELECT 1 FROM {})", at_it(&notes));
        let probe = if is_so(&mut connection, running).await? {
            Probe::Running
        } else if self.is_done(&mut connection, step, &notes).await? {
            Probe::Done
        } else {
            Probe::Absent
        };
        self.server.keep(connection);
        Ok(probe)
    }
}

impl Native {
    async fn is_done(&self, connection: &mut Conn, step: &Step, notes: &Notes) -> Result<bool> {
        let is_forward = notes.is_forward(step);
        Ok(match &notes.kind {
            Kind::Recorded | Kind::RecordedLong => {
                let steps = self.names.table("steps");
                let sql = format!("SELECT EXISTS (SELECT 1 FROM {steps} WHERE mark = {})", text(&notes.mark));
                is_so(connection, sql).await? == is_forward
            }
            Kind::IndexMade | Kind::IndexDropped => {
                let wanted = is_forward == (notes.kind == Kind::IndexMade);
                match index(connection, &notes.index).await? {
                    Some(found) => wanted && found.is_valid,
                    None => !wanted,
                }
            }
            Kind::IndexesRenewed { old } => {
                let present = indexes(connection, &format!("i.indrelid = {}", notes.table)).await?;
                !is_forward || !present.iter().any(|index| old.contains(&index.oid))
            }
        })
    }
}

/// Sessions that are at a step, with whatever answer they will get.
fn at_it(notes: &Notes) -> String {
    format!(
        "pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' AND query LIKE {}",
        text(&format!("%{}%", comment(notes)))
    )
}

/// A wait for the lock has an error of its own: this was work under it, and would take as long the next time.
fn too_long(error: Error, is_long: bool) -> Error {
    let was_canceled =
        error.context().iter().any(|(name, value)| *name == "code" && value == codes::CANCELED);
    if is_long || !was_canceled {
        return error;
    }
    Error::new(
        ErrorKind::Gate,
        "the step took longer under its lock than the budget allows, and was rolled back",
    )
    .hint("try a greater --lock-budget, or when less is going on")
    .caused_by(error)
}

fn comment(notes: &Notes) -> String {
    format!("/* replank {} */", notes.mark)
}

/// The statement, so that it is found among those that run.
fn marked(step: &Step, notes: &Notes) -> String {
    format!("{} {}", comment(notes), step.statement)
}

/// Whoever comes after a lock that is waited for waits too: it is not asked for behind somebody who holds the table for
/// long.
async fn refuse_to_queue(connection: &mut Conn, notes: &Notes, budget: Duration) -> Result<()> {
    let mut holders = Vec::new();
    for table in notes.others.iter().chain([&notes.table]) {
        holders.extend(old_holders(connection, *table, budget).await?);
    }
    let Some(first) = holders.first() else { return Ok(()) };
    Err(Error::new(ErrorKind::LockTimeout, format!("session {} holds the table: {}", first.id, first.about))
        .with("holders", holders.len()))
}
