//! What is to be done before the lock is asked for, and may take hours: the driver is at it beside the loop, which goes on
//! applying changes, keeps the lease, and obeys.

use std::sync::Arc;

use serde_json::json;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Pump;
use super::swap::{LONG_ATTEMPT_PAUSE, pause};
use crate::error::Retry;
use crate::event::Body;
use crate::{Error, ErrorKind, Result};

/// It is begun anew each time: whoever ends it so often will end it again, and a person should know. Chosen.
const FAILURES_MAX: u32 = 3;

/// Whether the driver is ready for an attempt, and what it is at to be so.
#[derive(Default)]
pub(super) struct Readiness {
    /// One at most.
    making: JoinSet<Result<()>>,
    is_ready: bool,
    failures: u32,
}

impl Readiness {
    /// How it ended, once it does; `None` when nothing is done. Cancel-safe.
    pub(super) async fn made(&mut self) -> Option<Result<Result<()>, JoinError>> {
        self.making.join_next().await
    }

    /// Drops what is under way.
    pub(super) async fn give_up(&mut self) {
        self.is_ready = false;
        self.making.shutdown().await;
    }
}

impl Pump<'_> {
    /// Whether an attempt may be made. Otherwise sees to it, unless that is under way.
    pub(super) fn make_ready(&mut self) -> bool {
        if !self.readiness.is_ready && self.readiness.making.is_empty() {
            let rebuild = Arc::clone(&self.rebuild);
            self.readiness.making.spawn(async move { rebuild.cut_over().make_ready().await });
        }
        self.readiness.is_ready
    }

    /// After an attempt, which may have begun something.
    pub(super) fn make_ready_again(&mut self) {
        self.readiness.is_ready = false;
        self.make_ready();
    }

    pub(super) async fn take_readiness(&mut self, made: Result<Result<()>, JoinError>) -> Result<()> {
        let made = made.map_err(|error| {
            Error::new(ErrorKind::Internal, "making ready for the swap ended in a panic").caused_by(error)
        })?;
        let Err(error) = made else {
            // Failures are not forgotten: what failed is begun by an attempt, and this may be the call before it.
            self.readiness.is_ready = true;
            return Ok(());
        };
        match error.kind().retry() {
            Retry::Never => Err(error),
            // Somebody was in the way, as with the lock itself, and nothing is lost by it.
            Retry::Again => {
                self.attempts += 1;
                self.record.say(Body::Warning { message: format!("no swap yet: {error}") });
                let pause = pause(self.attempts, self.record.token());
                self.attempt_again_after(pause, error.to_string())
            }
            Retry::AfterFence => self.not_ready(&error).await,
        }
    }

    /// The person hears of each time, since what was done until then is lost.
    async fn not_ready(&mut self, error: &Error) -> Result<()> {
        self.readiness.failures += 1;
        let (failures, reason) = (self.readiness.failures, error.to_string());
        self.record.note("not_ready", json!({ "number": failures, "reason": reason })).await?;
        if failures >= FAILURES_MAX {
            let id = &self.record.run.id;
            let what = format!("no swap: what is to be done before it failed {failures} times");
            return Err(Error::new(ErrorKind::Gate, what).with("last reason", reason).hint(format!(
                "nothing is swapped, and nothing that was copied is lost; see to it that nobody ends it, then `replank resume {id}`, or \
                 `replank abort {id}`"
            )));
        }
        self.record.say(Body::Warning { message: format!("no swap yet: {reason}; it is begun again") });
        self.due.attempt = Instant::now() + LONG_ATTEMPT_PAUSE;
        Ok(())
    }
}
