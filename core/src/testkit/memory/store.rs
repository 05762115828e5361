//! The store of runs, as a client uses it.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::catalogue::State;
use super::client::{Client, Kind};
use super::records::clock;
use super::{error, server::Server};
use crate::control::Control;
use crate::driver::{Command, CommandState, EventRecord, Lease, LeaseHolder, Revision, StateStore};
use crate::ident::{Fence, RunId, TableId};
use crate::run::Run;
use crate::{Result, journal::lease};

// What replank's own statements wait for locks that are not the swap's: `Settings::busy_timeout`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// One transaction on the records.
    async fn record<T: Send + 'static>(
        &self,
        what: String,
        change: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let work = |server: Server| -> std::pin::Pin<Box<dyn Future<Output = Result<T>> + Send>> {
            Box::pin(async move {
                let deadline = Instant::now() + BUSY_TIMEOUT;
                let Some(lock) = server.share_records(deadline).await else {
                    return Err(error::rolled_back());
                };
                server.pause().await;
                let result = server.step(change);
                drop(lock);
                result
            })
        };
        self.call(Kind::Records, what, work).await
    }
}

#[async_trait]
impl StateStore for Client {
    async fn ensure(&self) -> Result<()> {
        let change = |state: &mut State| {
            state.records.is_made = true;
            Ok(())
        };
        self.record("ensure".to_owned(), change).await
    }

    async fn create(&self, run: &Run) -> Result<Revision> {
        let run = run.clone();
        self.record("create run".to_owned(), move |state| state.records.create(&run)).await
    }

    async fn load(&self, id: &RunId) -> Result<Option<(Run, Revision)>> {
        let id = id.clone();
        self.record("load run".to_owned(), move |state| Ok(state.records.load(&id))).await
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        self.record("list runs".to_owned(), |state| Ok(state.records.runs())).await
    }

    async fn save(&self, run: &Run, expected: Revision, token: Fence) -> Result<Revision> {
        let what = format!("save {} {:?} at {expected:?} under {token}", run.state, run.checkpoint.position);
        let run = run.clone();
        let change = move |state: &mut State| {
            let revision = state.records.save(&run, expected, token)?;
            state.judge_save(&run);
            Ok(revision)
        };
        self.record(what, change).await
    }

    async fn lease(&self, table: &TableId) -> Result<Option<Lease>> {
        let table = table.clone();
        self.record("read lease".to_owned(), move |state| Ok(state.lease(&table))).await
    }

    async fn take_lease(
        &self,
        table: &TableId,
        seen: Option<Fence>,
        holder: &LeaseHolder,
        ttl: Duration,
    ) -> Result<Option<Fence>> {
        let (table, holder, client) = (table.clone(), holder.clone(), self.number);
        debug_assert!(ttl <= 2 * lease::TTL, "nobody holds a table for longer without a sign of life");
        let change = move |state: &mut State| state.records.take_lease(client, &table, seen, &holder, ttl);
        self.record(format!("take lease after {seen:?}"), change).await
    }

    async fn renew_lease(&self, table: &TableId, token: Fence, ttl: Duration) -> Result<()> {
        let table = table.clone();
        let change = move |state: &mut State| state.records.renew_lease(&table, token, ttl);
        self.record(format!("renew lease {token}"), change).await
    }

    async fn release_lease(&self, table: &TableId, token: Fence) -> Result<()> {
        let table = table.clone();
        let change = move |state: &mut State| {
            state.records.release_lease(&table, token);
            Ok(())
        };
        self.record(format!("release lease {token}"), change).await
    }

    async fn append(&self, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()> {
        let what = format!("append {kind}");
        let (run, kind, body) = (run.clone(), kind.to_owned(), body.clone());
        let change = move |state: &mut State| {
            let at = clock(state.started);
            state.records.append(at, &run, &kind, &body)
        };
        self.record(what, change).await
    }

    async fn events(&self, run: Option<&RunId>) -> Result<Vec<EventRecord>> {
        let run = run.cloned();
        self.record("read events".to_owned(), move |state| Ok(state.records.events(run.as_ref()))).await
    }

    async fn post(&self, run: &RunId, command: &Control) -> Result<u64> {
        let what = format!("post {command:?}");
        let (run, command) = (run.clone(), command.clone());
        self.record(what, move |state| state.records.post(&run, &command)).await
    }

    async fn pending(&self, run: &RunId) -> Result<Vec<Command>> {
        let run = run.clone();
        self.record("read commands".to_owned(), move |state| Ok(state.records.pending(&run))).await
    }

    async fn acknowledge(&self, id: u64, answer: &str) -> Result<()> {
        let answer = answer.to_owned();
        self.record(format!("answer command {id}"), move |state| state.records.acknowledge(id, &answer)).await
    }

    async fn command(&self, id: u64) -> Result<CommandState> {
        self.record(format!("read command {id}"), move |state| state.records.command(id)).await
    }
}

impl State {
    /// The lease, with a holder that its host can see to be dead where that is so.
    fn lease(&self, table: &TableId) -> Option<Lease> {
        let mut lease = self.records.lease(table)?;
        let is_dead = self.records.lease_client(table).is_some_and(|client| self.is_known_dead(client));
        if is_dead && let Some(holder) = lease.holder.as_mut() {
            // All simulated runners are this process. No process ever started at this tick.
            holder.started = 1;
        }
        Some(lease)
    }
}
