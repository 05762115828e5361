//! The swap: the one moment in which writers wait.

use std::time::Duration;

use async_trait::async_trait;

use super::facts::Holder;
use super::rebuild::{Applied, Compared};
use super::state::Revision;
use crate::Result;
use crate::run::Run;
use crate::value::{Change, Key, Position};

/// Locks and swaps the two tables of a rebuild.
#[async_trait]
pub trait CutOver: Send + Sync {
    /// Who holds what the lock needs, and would hold it longer than `budget`. The caller does not ask
    /// for the lock while anybody does: an exclusive lock that waits makes everybody else wait.
    async fn holders(&self, budget: Duration) -> Result<Vec<Holder>>;

    /// Does what takes long and has to be done shortly before the lock is asked for, such as gathering statistics. Others go
    /// on reading and writing, and the engine applying, comparing and obeying. It is called before the comparison and after
    /// each attempt that did not swap: an attempt may find that there is something to be done, or may begin it. Calling it again,
    /// with nothing to be done, costs nothing. No swap is wrong without it: [`CutOver::lock`] and what comes after it look by
    /// themselves.
    ///
    /// What the server is at for it ends within seconds when the call is dropped half-way, or where it cannot, with the next
    /// fence; a later call begins again. [`LockTimeout`](crate::ErrorKind::LockTimeout) and [`Retry`](crate::ErrorKind::Retry) say that
    /// somebody was in the way, and count as attempts; any other error that may be tried again has lost what was done, and the third
    /// ends the run.
    async fn make_ready(&self) -> Result<()> {
        Ok(())
    }

    /// Stops writes to the live table, or fails with [`LockTimeout`](crate::ErrorKind::LockTimeout)
    /// after `budget` having changed nothing. With the lock held it reads the fencing token again, and
    /// the source's definition (R7).
    ///
    /// Rust has no asynchronous drop: dropping the guard releases as well as it can at once, and the
    /// server's own time-outs are the guarantee.
    async fn lock(&self, budget: Duration) -> Result<Box<dyn SwapGuard>>;

    /// Who owns the table's name, by identity and not by name, asked on a fresh connection. Answers
    /// [`Owner::Unknown`] rather than guess.
    async fn owner(&self) -> Result<Owner>;
}

/// Holds the lock. What the lock shuts others out of runs on the session that holds it, so everything
/// that must happen before the release goes through here, the journal included.
#[async_trait]
pub trait SwapGuard: Send {
    /// The last position of the source: nothing is committed to the table after it while the lock holds.
    async fn head(&mut self) -> Result<Position>;

    /// As [`Rebuild::apply`](super::Rebuild::apply), under the lock.
    async fn apply(&mut self, changes: &[Change]) -> Result<Applied>;

    /// As [`Rebuild::compare_keys`](super::Rebuild::compare_keys), under the lock.
    async fn compare_keys(&mut self, keys: &[Key]) -> Result<Compared>;

    /// Creates the reverse feed, so that the first write after the release is already in it. Returns
    /// its first position.
    async fn install_reverse(&mut self) -> Result<Position>;

    /// Saves the run as [`StateStore::save`](super::StateStore::save) would, visible at the latest when
    /// the lock is released, and not at all if the driver's swap is one transaction that fails.
    async fn save(&mut self, run: &Run, expected: Revision) -> Result<Revision>;

    /// Swaps the names atomically: the live name resolves at every moment. Everything that must move
    /// with the name moves here.
    async fn commit(&mut self) -> SwapOutcome;

    /// Releases the lock; without a commit everything is as before the lock. Calling it twice is harmless.
    async fn release(self: Box<Self>) -> Result<()>;
}

/// The context of an error with which [`CutOver::lock`] or [`SwapGuard::commit`] gives up within moments, since waiting would only have made
/// others wait: another attempt may go better very soon.
pub const GAVE_WAY: &str = "gave way to";

/// The context of an error with which [`SwapGuard::commit`] takes the exchange back because the exchange itself, with nobody in its
/// way, took longer than it may: others could not get in meanwhile, and the next attempt will hardly be shorter.
pub const HELD_FOR: &str = "held for";

/// How a swap ended, as far as this session knows.
#[derive(Debug)]
pub enum SwapOutcome {
    /// The shadow owns the name.
    Done,
    /// The original owns it still; the error says why.
    NotDone(crate::Error),
    /// The reply was lost. Ask [`CutOver::owner`]; never repeat.
    Unknown(crate::Error),
}

/// Who owns the live name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The table that applications have always used in this direction.
    Original,
    /// The written table: the swap took place.
    Shadow,
    /// Neither could be shown. A person must look.
    Unknown,
}
