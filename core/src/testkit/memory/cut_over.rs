//! The swap, as a client uses it: each method of the guard is a message to the session that holds the lock.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::client::{Client, Kind};
use super::config::Mutant;
use super::error;
use super::rebuild::MemoryRebuild;
use super::server::Server;
use super::swap_session::{self, Ask};
use crate::driver::{Applied, Compared, CutOver, Holder, Owner, Revision, SwapGuard, SwapOutcome};
use crate::run::Run;
use crate::value::{Change, Key, Position};
use crate::{Error, ErrorKind, Result};

#[async_trait]
impl CutOver for MemoryRebuild {
    async fn holders(&self, budget: Duration) -> Result<Vec<Holder>> {
        let job = self.job();
        let holders = |server: Server| async move {
            server.look(|state| {
                let live = state.identity(&job.table.name)?;
                Ok(state.holders(live, budget))
            })
        };
        self.client.call(Kind::Read, "holders".to_owned(), holders).await
    }

    async fn make_ready(&self) -> Result<()> {
        let ready = |server: Server| async move {
            server.pause().await;
            Ok(())
        };
        self.client.call(Kind::Read, "make ready".to_owned(), ready).await
    }

    async fn lock(&self, budget: Duration) -> Result<Box<dyn SwapGuard>> {
        let job = self.job();
        let what = format!("lock for {budget:?} ({:?} under {})", job.direction, job.fence);
        let lock = |server: Server| swap_session::lock(server, job, budget);
        let session = self.client.call(Kind::Swap, what, lock).await?;
        Ok(Box::new(MemoryGuard { client: self.client.clone(), session }))
    }

    async fn owner(&self) -> Result<Owner> {
        let job = self.job();
        let owner = |server: Server| async move {
            server.pause().await;
            server.look(|state| {
                if state.config.mutant == Some(Mutant::OwnerGuesses) {
                    return Ok(state.chance.pick(&[Owner::Original, Owner::Shadow]));
                }
                let live = state.identity(&job.table.name)?;
                Ok(match state.build(&job.run) {
                    Some(build) if live == build.source(job.direction) => Owner::Original,
                    Some(build) if live == build.written(job.direction) => Owner::Shadow,
                    _ => Owner::Unknown,
                })
            })
        };
        self.client.call(Kind::Read, "owner".to_owned(), owner).await
    }
}

struct MemoryGuard {
    client: Client,
    session: mpsc::Sender<Ask>,
}

impl MemoryGuard {
    async fn ask<T: Send + 'static>(
        &self,
        what: String,
        ask: impl FnOnce(oneshot::Sender<Result<T>>) -> Ask + Send + 'static,
    ) -> Result<T> {
        let session = self.session.clone();
        let relay = |_: Server| async move {
            let (answer, answered) = oneshot::channel();
            session.send(ask(answer)).await.map_err(|_| error::lost())?;
            answered.await.map_err(|_| error::lost())?
        };
        self.client.call(Kind::Swap, format!("under lock: {what}"), relay).await
    }
}

#[async_trait]
impl SwapGuard for MemoryGuard {
    async fn head(&mut self) -> Result<Position> {
        self.ask("head".to_owned(), Ask::Head).await
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Applied> {
        let changes = changes.to_vec();
        let keys: Vec<_> = changes.iter().map(|change| change.key.0.as_str()).collect();
        self.ask(format!("apply {keys:?}"), |answer| Ask::Apply(changes, answer)).await
    }

    async fn compare_keys(&mut self, keys: &[Key]) -> Result<Compared> {
        let keys = keys.to_vec();
        self.ask(format!("compare {keys:?}"), |answer| Ask::CompareKeys(keys, answer)).await
    }

    async fn install_reverse(&mut self) -> Result<Position> {
        self.ask("install reverse".to_owned(), Ask::InstallReverse).await
    }

    async fn save(&mut self, run: &Run, expected: Revision) -> Result<Revision> {
        let what = format!("save {} {:?} at {expected:?}", run.state, run.checkpoint.position);
        let run = Box::new(run.clone());
        self.ask(what, move |answer| Ask::Save(run, expected, answer)).await
    }

    async fn commit(&mut self) -> SwapOutcome {
        match self.ask("commit".to_owned(), Ask::Commit).await {
            Ok(()) => SwapOutcome::Done,
            Err(error) if error.kind() == ErrorKind::ConnectionLost => SwapOutcome::Unknown(error),
            Err(error) => SwapOutcome::NotDone(error),
        }
    }

    async fn release(self: Box<Self>) -> Result<()> {
        match self.ask("release".to_owned(), Ask::Release).await {
            // The session is over, and the lock with it: this is what was wanted.
            Err(error) if error.kind() == ErrorKind::ConnectionLost && self.session.is_closed() => Ok(()),
            other => other,
        }
    }
}

/// Not done: the commit of a swap whose session has ended before it.
pub(super) fn too_late() -> Error {
    Error::new(ErrorKind::LockTimeout, "the lock was given back when its time was over")
}
