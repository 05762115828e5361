//! Steps that the server does itself.

use async_trait::async_trait;

use crate::Result;
use crate::plan::Step;

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

    /// How a step stands, from the catalogue.
    async fn probe(&self, step: &Step) -> Result<Probe>;
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
