//! The run as this runner holds it: saved before every action, under its revision and token.

use std::sync::Arc;

use serde_json::json;

use super::boundary::{self, Boundary};
use crate::driver::{LeaseHolder, Revision, Session, StateStore};
use crate::event::{Body, Reporter};
use crate::ident::Fence;
use crate::journal::lease;
use crate::journal::patience::{patiently, repeatedly};
use crate::run::{Run, RunState};
use crate::{Error, ErrorKind, Result};

/// Taking a token can be repeated: it is taken from under the one that we hold.
const TOKEN_TRIES: u32 = 5;

/// A run, the lease on its table, and who hears about it.
pub struct Record {
    /// Where it is kept.
    pub session: Arc<dyn Session>,
    /// Who hears about it.
    pub reporter: Arc<dyn Reporter>,
    /// The run.
    pub run: Run,
    revision: Revision,
    token: Fence,
    me: LeaseHolder,
}

impl Record {
    /// A run that was just created or loaded, under a lease that was just taken.
    pub fn new(
        session: Arc<dyn Session>,
        reporter: Arc<dyn Reporter>,
        run: Run,
        revision: Revision,
        token: Fence,
        me: LeaseHolder,
    ) -> Self {
        Self { session, reporter, run, revision, token, me }
    }

    /// The store.
    pub fn store(&self) -> &dyn StateStore {
        self.session.state()
    }

    /// The token of the lease.
    pub fn token(&self) -> Fence {
        self.token
    }

    /// The revision that was saved last.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The run was saved by other means, under the lock.
    pub fn saved(&mut self, revision: Revision) {
        self.revision = revision;
    }

    /// What was saved under the lock may have been undone with it: reads the revision again. Only we can
    /// have written it while the token is ours, and the next save checks that.
    pub async fn read_revision(&mut self) -> Result<()> {
        if let Some((_, revision)) = self.store().load(&self.run.id).await? {
            self.revision = revision;
        }
        Ok(())
    }

    /// Where the reverse feed starts, as it was saved under the lock by a runner that is gone.
    pub async fn read_reverse_position(&mut self) -> Result<()> {
        if let Some((stored, _)) = self.store().load(&self.run.id).await? {
            self.run.reverse_position = stored.reverse_position;
        }
        Ok(())
    }

    /// Goes on from what the journal says, under the next token: after the server was away, what was sent before
    /// may still come.
    pub async fn take_up_again(&mut self) -> Result<()> {
        // The token first: what was sent under the old one is not saved any more, and what is read then stays.
        self.take_token().await?;
        let stored = self.store().load(&self.run.id).await?;
        let (run, revision) = stored.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the record of run `{}` is gone", self.run.id))
        })?;
        (self.run, self.revision) = (run, revision);
        self.run.fence = self.token;
        self.save().await
    }

    /// Saves the run as it is now.
    ///
    /// After a lost reply the store is asked: a save that took effect is as good as one acknowledged.
    pub async fn save(&mut self) -> Result<()> {
        match patiently(|| self.store().save(&self.run, self.revision, self.token)).await {
            Ok(revision) => {
                self.revision = revision;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionLost => self.was_it_saved(error).await,
            Err(error) => Err(error),
        }
    }

    async fn was_it_saved(&mut self, lost: Error) -> Result<()> {
        let Some((_, revision)) = self.store().load(&self.run.id).await? else { return Err(lost) };
        if revision == self.revision {
            match self.store().save(&self.run, revision, self.token).await {
                Ok(revision) => {
                    self.revision = revision;
                    return Ok(());
                }
                // The first one came after the question, and before this: or another runner did.
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                Err(error) => return Err(error),
            }
        }
        let Some((stored, revision)) = self.store().load(&self.run.id).await? else { return Err(lost) };
        if stored == self.run {
            self.revision = revision;
            return Ok(());
        }
        Err(lost)
    }

    /// Enters a state: saved first, then said and recorded.
    pub async fn enter(&mut self, state: RunState, message: &str) -> Result<()> {
        self.run.state = state;
        self.save().await?;
        self.say(Body::Phase { state, message: message.to_owned() });
        self.note("phase", json!({ "state": state, "message": message })).await
    }

    /// Adds to the run's record.
    pub async fn note(&self, kind: &str, body: serde_json::Value) -> Result<()> {
        let append = || patiently(|| self.store().append(&self.run.id, kind, &body));
        match append().await {
            Err(error) if error.kind() == ErrorKind::ConnectionLost => {
                let events = repeatedly(|| self.store().events(Some(&self.run.id))).await?;
                let is_there = events.last().is_some_and(|last| last.kind == kind && last.body == body);
                if is_there { Ok(()) } else { append().await }
            }
            answer => answer,
        }
    }

    /// Says something.
    pub fn say(&self, body: Body) {
        self.reporter.report(Some(&self.run.id), body);
    }

    /// Passes a boundary.
    pub fn pass(&self, boundary: Boundary) {
        self.say(Body::Boundary { name: boundary.name().to_owned() });
        boundary::reached(boundary);
    }

    /// Puts the lease's expiry off.
    pub async fn renew(&self) -> Result<()> {
        self.store().renew_lease(&self.run.table, self.token, lease::TTL).await
    }

    /// Takes the next token of the lease that we hold (R5), and saves it.
    pub async fn next_token(&mut self) -> Result<Fence> {
        self.take_token().await?;
        // A swap whose answer was lost may have saved the run, too: it has done so by now, or never will.
        self.read_revision().await?;
        self.run.fence = self.token;
        self.save().await?;
        Ok(self.token)
    }

    async fn take_token(&mut self) -> Result<()> {
        let mut tries = 0;
        self.token = loop {
            match self.store().take_lease(&self.run.table, Some(self.token), &self.me, lease::TTL).await {
                Ok(Some(token)) => break token,
                // Somebody's token is newer: perhaps ours, when only the reply was lost.
                Err(error) if tries >= TOKEN_TRIES => return Err(error),
                Ok(None) | Err(_) => tries += 1,
            }
            match self.newer_token().await? {
                Some(token) => break token,
                None if tries > TOKEN_TRIES => {
                    return Err(Error::new(
                        ErrorKind::ConnectionLost,
                        "the next fencing token could not be taken",
                    ));
                }
                None => {}
            }
        };
        Ok(())
    }

    /// The token of the lease, if it is newer than ours and we hold it; `None` where ours is the newest still.
    async fn newer_token(&self) -> Result<Option<Fence>> {
        let lease = patiently(|| self.store().lease(&self.run.table)).await?;
        match lease {
            Some(lease) if lease.holder.as_ref() == Some(&self.me) => {
                Ok((lease.token > self.token).then_some(lease.token))
            }
            _ => Err(Error::new(ErrorKind::Fenced, format!("another runner took over `{}`", self.run.table))
                .hint(format!("watch it with `replank status {}`", self.run.id))),
        }
    }

    /// Gives the lease up.
    pub async fn release(&self) -> Result<()> {
        repeatedly(|| self.store().release_lease(&self.run.table, self.token)).await
    }
}
