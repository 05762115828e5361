//! Works on a run that it holds, and goes on where the server was away meanwhile.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Runner;
use crate::engine::native;
use crate::engine::record::Record;
use crate::engine::way_out::with_way_out;
use crate::event::Body;
use crate::run::{Run, RunState};
use crate::{Error, ErrorKind, Result};

/// A restart with recovery takes minutes; who is away for longer needs a person. Chosen.
const AWAY_MAX: Duration = Duration::from_secs(300);
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// A server that goes away so often in one run has another trouble. Chosen.
const RETURNS_MAX: u32 = 20;

/// What to do with a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Forward,
    /// Without loss, or also where what was written since is dropped.
    Backward {
        discards: bool,
    },
    Warm,
    Finalize,
    Abort,
}

impl Runner {
    /// Works on a run under its lease, and records how that ended.
    pub(super) async fn finish(&self, mut record: Record, work: Work) -> Result<Run> {
        let mut result = self.work_on(&mut record, work).await;
        if let Err(error) = &result
            && let Some(overtaken) = self.record_failure(&mut record, error).await
        {
            // Whatever went wrong, it is somebody else's run now.
            result = Err(overtaken.with("first", error.message()));
        }
        let released = self.release(&record).await;
        result.map_err(|error| with_way_out(error, &record.run))?;
        released?;
        Ok(record.run)
    }

    /// Works, and goes on where the server was away meanwhile.
    async fn work_on(&self, record: &mut Record, mut work: Work) -> Result<()> {
        for _ in 0..RETURNS_MAX {
            let lost = match self.work(record, work).await {
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Retry) => error,
                ended => return ended,
            };
            let message = format!("the server was lost ({}); waiting for it", lost.message());
            record.say(Body::Warning { message });
            if !self.returned(record).await? {
                return Err(lost);
            }
            match left_to_do(work, &record.run) {
                Some(left) => work = left,
                None => return Ok(()),
            }
        }
        self.work(record, work).await
    }

    /// Waits for a server that is away. Answers false when it stays away, or the person does not want to wait.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when another runner took over meanwhile.
    async fn returned(&self, record: &mut Record) -> Result<bool> {
        let until = Instant::now() + AWAY_MAX;
        while Instant::now() < until && !*self.stop.borrow() {
            match record.take_up_again().await {
                Ok(()) => return Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::NotFound) => {
                    return Err(error);
                }
                // A server that is starting answers in many ways.
                Err(error) => tracing::debug!(%error, "not back yet"),
            }
            tokio::time::sleep(AWAY_PAUSE).await;
        }
        Ok(false)
    }

    async fn work(&self, record: &mut Record, work: Work) -> Result<()> {
        let is_rebuild = record.run.plan.is_rebuild();
        match work {
            Work::Forward if is_rebuild => self.forward(record).await,
            Work::Forward => native::forward(record, &self.stop).await,
            Work::Backward { .. } if is_rebuild => self.backward(record).await,
            Work::Backward { discards } => native::backward(record, &self.stop, discards).await,
            Work::Warm if is_rebuild && record.run.options.revertible => self.keep_warm(record).await,
            Work::Warm => Err(Error::new(ErrorKind::Refused, format!("run {} is applied", record.run.id))
                .hint(format!(
                    "take it back with `replank revert {0}`, or `replank finalize {0}`",
                    record.run.id
                ))),
            Work::Finalize if is_rebuild => self.finalize_rebuild(record).await,
            Work::Finalize => native::finalize(record, &self.stop).await,
            Work::Abort if is_rebuild => self.abort_rebuild(record).await,
            Work::Abort => native::backward(record, &self.stop, true).await,
        }
    }

    /// What the journal says of a run that ended with an error. The error itself is what the caller gets,
    /// so a journal that cannot be written now only goes to the log.
    ///
    /// Answers with the store's own error when it says that another runner took over.
    async fn record_failure(&self, record: &mut Record, error: &Error) -> Option<Error> {
        let (failed, is_ours) = match error.kind() {
            ErrorKind::Fenced | ErrorKind::LeaseHeld => (false, false),
            ErrorKind::Interrupted | ErrorKind::Gate | ErrorKind::Refused | ErrorKind::OutcomeUnknown => {
                (false, true)
            }
            _ => (!record.run.state.is_reversible() && !record.run.state.is_final(), true),
        };
        if !is_ours {
            return None;
        }
        let text = escaped(&error.to_string());
        if failed {
            if record.run.state != RunState::Failed {
                record.run.resume_state = Some(record.run.state);
            }
            record.run.note = Some(text.clone());
            if let Err(unsaved) = record.enter(RunState::Failed, &text).await {
                if unsaved.kind() == ErrorKind::Fenced {
                    return Some(unsaved);
                }
                tracing::warn!(error = %unsaved, "the failure could not be saved");
            }
        }
        if let Err(unsaved) =
            record.note("ended", json!({ "error": text, "exit": error.kind().exit_code() })).await
        {
            tracing::warn!(error = %unsaved, "the end could not be recorded");
        }
        None
    }
}

/// What of the work is left, by what the journal says of the run.
fn left_to_do(work: Work, run: &Run) -> Option<Work> {
    if run.state.is_final() {
        return None;
    }
    match work {
        Work::Forward if run.state.is_reversible() => (!run.options.revertible).then_some(Work::Finalize),
        Work::Abort if run.state.is_reversible() => None,
        work => Some(work),
    }
}

/// A text that every store can hold: no NUL, no control characters, not longer than 4 KiB.
fn escaped(text: &str) -> String {
    let mut escaped: String = text
        .chars()
        .take(4096)
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect();
    if text.chars().count() > 4096 {
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_storable() {
        let long = "x".repeat(1 << 20);
        assert!(escaped(&long).chars().count() <= 4097);
        assert_eq!(escaped("a\0b\u{1b}c"), "a\\u{0}b\\u{1b}c");
    }
}
