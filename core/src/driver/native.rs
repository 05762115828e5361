//! Steps that the server does itself.

use async_trait::async_trait;

use crate::Result;
use crate::ident::RunId;
use crate::plan::Step;
use crate::value::{Bounds, Key};

/// Runs and probes the steps of a plan whose strategy is the server's own.
#[async_trait]
pub trait NativeDdl: Send + Sync {
    /// Runs one step, with every lock wait limited to the step's budget. What is left of an earlier try of it, or of its
    /// inverse, is taken away first.
    ///
    /// A lost reply is [`ConnectionLost`](crate::ErrorKind::ConnectionLost); the caller then probes, and
    /// never repeats blindly.
    async fn run(&self, step: &Step, lock_budget: std::time::Duration) -> Result<()>;

    /// Ends the step's statement where it is still running, whoever sent it. Harmless when it is not, and when
    /// called twice; whether the statement was faster says [`NativeDdl::probe`] afterwards.
    async fn cancel(&self, step: &Step) -> Result<()>;

    /// How a step stands, from the catalogue. Of a step that is carried out [by ranges](NativeDdl::by_ranges) the run's record
    /// says how far it is, and this only whether it has left something that its inverse takes away.
    async fn probe(&self, step: &Step) -> Result<Probe>;

    /// How a step is carried out that writes many rows, where this is one; it is then never run as a whole.
    fn by_ranges(&self, _step: &Step) -> Option<&dyn ByRanges> {
        None
    }
}

/// Writes of many rows, in ranges of the key. Each range is a write of its own, and writing it again changes nothing: a runner
/// that dies, or hears no answer, begins again where its last checkpoint is.
#[async_trait]
pub trait ByRanges: Send + Sync {
    /// The key of the `rows`th row after `after`, in the server's own order; `None` when there are fewer, and the caller then
    /// takes the open range from `after` as the last one.
    async fn next_bound(&self, step: &Step, after: Option<&Key>, rows: u64) -> Result<Option<Key>>;

    /// Writes the rows of a range that the step is about, acknowledged so that no failover undoes them. A row that cannot be
    /// written is noted with the reason, and left as it is, as long as the run has no more than `quarantine_max` of them.
    ///
    /// # Errors
    /// [`Unfit`](crate::ErrorKind::Unfit) for the first one above that, with its key; what was written stays.
    async fn write(&self, run: &RunId, step: &Step, bounds: &Bounds, quarantine_max: u64) -> Result<Written>;

    /// Every range was written. Answers what a person should know of it; calling it again is harmless.
    async fn finish(&self, run: &RunId, step: &Step) -> Result<Option<String>>;
}

/// What writing a range did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows that were looked at.
    pub rows: u64,
    /// Rows that were changed.
    pub changed: u64,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Nothing of it is there.
    Absent,
    /// The server is at it.
    Running,
    /// It is half done: what a statement that was ended has left, and [`NativeDdl::run`] of the step or of its inverse
    /// takes away.
    Broken,
    /// It is done.
    Done,
}
