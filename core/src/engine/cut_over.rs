//! One attempt to swap: intent, lock, head, drain, compare, reverse feed, swap, release.
//!
//! Invariants, each with a test in the protocol model and the simulator:
//! - The intent is saved before the lock is asked for, so whoever finds the run in `cutting_over` asks the
//!   catalogue who owns the name.
//! - Everything up to a head read under the lock is applied and compared before the swap.
//! - The reverse feed exists before writers are released.
//! - An unknown outcome is asked of the catalogue, and a swap that was not done is fenced before anything
//!   else is written: it could still come (R5).

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::boundary::Boundary;
use super::machine::{Machine, duplicate};
use super::queue::Owed;
use super::record::Record;
use crate::driver::{ChangeFeed, GAVE_WAY, HELD_FOR, Owner, Rebuild, SwapGuard, SwapOutcome};
use crate::error::Retry;
use crate::ident::Fence;
use crate::run::{Direction, RunState};
use crate::value::{Key, Position};
use crate::{Error, ErrorKind, Result};

/// How an attempt ended.
#[derive(Debug)]
pub enum Attempt {
    /// The written table owns the name.
    Swapped,
    /// Not this time: everything is as before, for this reason.
    NotYet {
        /// Why.
        reason: String,
        /// What it was like.
        cost: Cost,
    },
}

/// What an attempt that did not swap has cost others, and so how soon and how often there is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// It was over in a moment, and nobody was found who holds the table for long: it is worth another try soon.
    Moment,
    /// Somebody was in the way.
    Wait,
    /// Nobody was in the way, and all were kept out for longer than may be: it will be so the next time.
    Exchange,
}

/// What an attempt works with. Nothing of the rebuild is in flight.
pub struct CutOver<'a> {
    /// The rebuild.
    pub rebuild: &'a Arc<dyn Rebuild>,
    /// Its feed.
    pub feed: &'a mut Option<Box<dyn ChangeFeed>>,
    /// What is left to apply and compare.
    pub machine: &'a mut Machine,
    /// The run.
    pub record: &'a mut Record,
    /// How long the lock may be waited for and held.
    pub budget: Duration,
}

// Rounds of the drain in which rows that displaced each other find their places; more are collisions.
const DRAIN_ROUNDS: usize = 4;

impl CutOver<'_> {
    /// Tries once.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] and [`ErrorKind::Duplicate`] with the lock released and nothing changed;
    /// [`ErrorKind::OutcomeUnknown`] when the catalogue could not say who owns the name.
    pub async fn attempt(mut self) -> Result<Attempt> {
        let holders = self.rebuild.cut_over().holders(self.budget).await?;
        if !holders.is_empty() {
            let named: Vec<String> =
                holders.iter().map(|holder| format!("{} ({})", holder.id, holder.about)).collect();
            let reason = format!("the table is held by {}", named.join(", "));
            return Ok(Attempt::NotYet { reason, cost: Cost::Wait });
        }
        self.record.enter(RunState::CuttingOver, "asking for the lock").await?;
        self.record.pass(Boundary::SwapIntended);
        let guard = match self.rebuild.cut_over().lock(self.budget).await {
            Ok(guard) => guard,
            Err(error) if error.kind() == ErrorKind::LockTimeout || error.kind() == ErrorKind::Retry => {
                return self.not_yet(error.to_string(), cost(&error)).await;
            }
            Err(error) => return Err(error),
        };
        self.record.pass(Boundary::LockHeld);
        let deadline = Instant::now() + self.budget;
        self.locked(guard, deadline).await
    }

    async fn locked(&mut self, mut guard: Box<dyn SwapGuard>, deadline: Instant) -> Result<Attempt> {
        let mut owed = Vec::new();
        let ready = match tokio::time::timeout_at(deadline, self.before_swap(&mut guard, &mut owed, deadline))
            .await
        {
            Ok(ready) => ready,
            Err(_elapsed) => Err(late("the drain")),
        };
        if let Err(error) = ready {
            self.machine.return_everything(owed);
            // What the guard did is undone with it, or is repeated harmlessly: every write is idempotent.
            self.give_back(guard).await?;
            return match error.kind() {
                ErrorKind::LockTimeout | ErrorKind::Retry => {
                    self.not_yet(error.to_string(), cost(&error)).await
                }
                _ => Err(error),
            };
        }
        self.record.pass(Boundary::SwapSent);
        match guard.commit().await {
            SwapOutcome::Done => {
                self.record.pass(Boundary::SwapAcknowledged);
                guard.release().await?;
                self.record.pass(Boundary::Released);
                Ok(Attempt::Swapped)
            }
            SwapOutcome::NotDone(error) => {
                self.machine.return_everything(owed);
                self.give_back(guard).await?;
                match error.kind() {
                    ErrorKind::LockTimeout | ErrorKind::Retry => {
                        self.not_yet(error.to_string(), cost(&error)).await
                    }
                    _ => Err(error),
                }
            }
            SwapOutcome::Unknown(error) => {
                drop(guard);
                self.ask_the_catalogue(owed, error).await
            }
        }
    }

    /// Everything between the lock and the swap.
    async fn before_swap(
        &mut self,
        guard: &mut Box<dyn SwapGuard>,
        owed: &mut Vec<Owed>,
        deadline: Instant,
    ) -> Result<()> {
        let head = guard.head().await?;
        self.drain(guard, owed, &head, deadline).await?;
        self.record.pass(Boundary::Drained);
        self.compare(guard, owed).await?;
        if self.record.run.direction == Direction::Forward && self.record.run.options.revertible {
            self.record.run.reverse_position = Some(guard.install_reverse().await?);
            self.record.pass(Boundary::ReverseCreated);
        }
        if Instant::now() > deadline {
            return Err(late("the comparison"));
        }
        let revision = guard.save(&self.record.run, self.record.revision()).await?;
        self.record.saved(revision);
        Ok(())
    }

    /// Pulls the feed up to `head` and applies all that is left.
    async fn drain(
        &mut self,
        guard: &mut Box<dyn SwapGuard>,
        owed: &mut Vec<Owed>,
        head: &Position,
        deadline: Instant,
    ) -> Result<()> {
        // Taken out: a call that the deadline drops leaves the feed unusable, and then it is opened again.
        let mut feed = match self.feed.take() {
            Some(feed) => feed,
            None => self.rebuild.open_feed(self.position()?).await?,
        };
        while !self.machine.position().is_some_and(|at| self.rebuild.reached(at, head)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late("the feed"));
            }
            let batch = feed.next(usize::from(u16::MAX), left.min(Duration::from_millis(20))).await?;
            self.machine.arrive(batch);
        }
        *self.feed = Some(feed);
        owed.extend(self.machine.take_everything());
        let mut changes: Vec<_> = owed.iter().map(|owed| owed.change.clone()).collect();
        for _round in 0..DRAIN_ROUNDS {
            let mut displaced = Vec::new();
            for batch in changes.chunks(self.rebuild.pace().batch_keys.max(1)) {
                if Instant::now() > deadline {
                    return Err(late("the drain"));
                }
                displaced.extend(guard.apply(batch).await?.displaced);
            }
            if displaced.is_empty() {
                return Ok(());
            }
            // If there is no swap this time, these are still to be applied.
            owed.extend(displaced.iter().map(|change| self.machine.owe(change.clone())));
            changes = displaced;
        }
        // The source stands still: rows that still displace each other collide in one snapshot of it.
        let keys: Vec<Key> = changes.into_iter().map(|change| change.key).collect();
        let shown: Vec<String> = keys.iter().take(10).map(ToString::to_string).collect();
        Err(duplicate(&shown))
    }

    fn position(&self) -> Result<&Position> {
        self.machine.position().ok_or_else(|| Error::new(ErrorKind::Internal, "the feed has no position"))
    }

    async fn compare(&mut self, guard: &mut Box<dyn SwapGuard>, owed: &[Owed]) -> Result<()> {
        let mut keys: Vec<Key> = owed.iter().map(|owed| owed.change.key.clone()).collect();
        keys.extend(self.machine.suspects());
        keys.sort();
        keys.dedup();
        for part in keys.chunks(self.rebuild.pace().batch_keys.max(1)) {
            let differing = guard.compare_keys(part).await?.differing;
            if !differing.is_empty() {
                let shown: Vec<String> =
                    differing.iter().take(10).map(|change| change.key.to_string()).collect();
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("{} rows differ although nothing could change them", differing.len()),
                )
                .with("keys", shown.join(", "))
                .hint("the live table is untouched; `replank abort` removes the copy; please report this"));
            }
        }
        Ok(())
    }

    /// The reply to the swap was lost. The fence comes before the question: it waits for the swap, or
    /// makes it miss its table, so that the answer cannot change afterwards.
    async fn ask_the_catalogue(&mut self, owed: Vec<Owed>, lost: Error) -> Result<Attempt> {
        let token = self.record.next_token().await?;
        fence(self.rebuild, token).await?;
        self.record.note("swap_outcome_unknown", json!({ "error": lost.to_string() })).await?;
        match owner(self.rebuild).await? {
            Owner::Shadow => Ok(Attempt::Swapped),
            Owner::Original => {
                self.machine.return_everything(owed);
                self.not_yet("the reply to the swap was lost, and it was not done".to_owned(), Cost::Wait)
                    .await
            }
            Owner::Unknown => Err(unknown_owner(&self.record.run.table.to_string()).caused_by(lost)),
        }
    }

    /// Releases a lock under which nothing was swapped. Whatever comes of that, the record that was saved under it is not there:
    /// whoever saved on from it would look as if another runner had the run.
    async fn give_back(&mut self, guard: Box<dyn SwapGuard>) -> Result<()> {
        let released = guard.release().await;
        self.record.read_revision().await?;
        released
    }

    async fn not_yet(&mut self, reason: String, cost: Cost) -> Result<Attempt> {
        self.record.run.reverse_position = None;
        self.record.enter(RunState::WaitingCutover, &reason).await?;
        Ok(Attempt::NotYet { reason, cost })
    }
}

/// What the driver says of its attempt: see [`GAVE_WAY`] and [`HELD_FOR`].
fn cost(error: &Error) -> Cost {
    let says = |what: &str| error.context().iter().any(|(name, _)| *name == what);
    match (says(GAVE_WAY), says(HELD_FOR)) {
        (true, _) => Cost::Moment,
        (false, true) => Cost::Exchange,
        (false, false) => Cost::Wait,
    }
}

// A server that restarts is back within this; asked every second. Chosen.
const OWNER_TRIES: u32 = 60;

/// Who owns the name: asked until the catalogue answers. The caller has fenced.
pub async fn owner(rebuild: &Arc<dyn Rebuild>) -> Result<Owner> {
    stubbornly(|| rebuild.cut_over().owner()).await
}

/// Fences, until the server answers. Where the swap has taken place, this changes nothing.
pub async fn fence(rebuild: &Arc<dyn Rebuild>, token: Fence) -> Result<()> {
    stubbornly(|| rebuild.fence(token)).await
}

/// Asks again while the server does not answer: a swap may have been sent, so giving up leaves a question.
async fn stubbornly<T, F>(call: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut tries = 0;
    loop {
        match call().await {
            Err(error) if error.kind().retry() == Retry::Never => return Err(error),
            Err(error) if tries >= OWNER_TRIES => {
                return Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    "the catalogue could not be asked who owns the table",
                )
                .caused_by(error)
                .hint("when the server answers again, `replank resume` asks it first"));
            }
            Err(_unreachable) => {
                tries += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(answer) => return Ok(answer),
        }
    }
}

/// The error of a name that nobody can be shown to own.
pub fn unknown_owner(table: &str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, format!("it cannot be shown which table owns the name `{table}`"))
        .hint("nothing more was changed; compare the tables named in `replank status`, then `resume` or `abort`")
}

fn late(what: &str) -> Error {
    Error::new(ErrorKind::LockTimeout, format!("{what} took longer than the lock budget"))
}
