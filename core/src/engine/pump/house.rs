//! What is due every so often: the lease, the checkpoint, a look at the load, a word to the person.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Applied, CHECKPOINT_EVERY, CONTROL_EVERY, End, Goal, JOURNAL_DEADLINE, PROGRESS_EVERY, Pump};
use crate::engine::boundary::Boundary;
use crate::event::{Body, Progress};
use crate::journal::lease;
use crate::run::{Checkpoint, RunState};
use crate::{Error, ErrorKind, Result};

const HEAD_DEADLINE: Duration = Duration::from_secs(2);
// A batch takes milliseconds, and a lock that is in its way is waited for a few seconds. Chosen.
const STALL_AFTER: Duration = Duration::from_secs(10);
const LOAD_EVERY: Duration = Duration::from_secs(1);

impl Pump<'_> {
    /// What is due: lease, checkpoint, commands, load, progress.
    pub(super) async fn keep_house(&mut self) -> Result<Option<End>> {
        let now = Instant::now();
        if now >= self.due.renewal {
            self.renew().await?;
            self.due.renewal = now + lease::RENEW;
        }
        if now >= self.due.checkpoint {
            self.save_checkpoint().await?;
            self.rebuild.check_source().await.or_else(survivable)?;
            self.due.checkpoint = Instant::now() + CHECKPOINT_EVERY;
        }
        if let Some(note) = self.machine.take_collision_note() {
            self.record
                .say(Body::Warning { message: format!("rows collide under a new unique key: {note}") });
            self.record.note("collision", json!({ "values": note })).await?;
        }
        if now >= self.due.load {
            self.look_at_load().await?;
            self.look_for_a_stall().await?;
            self.due.load = Instant::now() + LOAD_EVERY;
        }
        if now >= self.due.progress {
            self.tell_progress();
            self.due.progress = now + PROGRESS_EVERY;
        }
        if now >= self.due.control {
            self.due.control = Instant::now() + CONTROL_EVERY;
            return self.obey().await;
        }
        Ok(None)
    }

    /// A lease that cannot be renewed for most of its time is given up before another may take it.
    pub(super) async fn renew(&mut self) -> Result<()> {
        match timeout(JOURNAL_DEADLINE, self.record.renew()).await {
            Ok(Ok(())) => {
                self.renewed = Instant::now();
                Ok(())
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Fenced => Err(error),
            Ok(Err(_)) | Err(_) if self.renewed.elapsed() < lease::TTL - lease::RENEW => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Error::new(ErrorKind::Fenced, "the lease could not be renewed in time")
                    .with("for", format!("{} s", self.renewed.elapsed().as_secs()))
                    .hint(format!("go on with `replank resume {}`", self.record.run.id)))
            }
        }
    }

    pub(super) async fn save_checkpoint(&mut self) -> Result<()> {
        let mut checkpoint = self.machine.checkpoint();
        if self.goal != Goal::Swap {
            // A look on the side: the comparison before a swap is still to be made.
            checkpoint = Checkpoint {
                position: checkpoint.position,
                conflicts: checkpoint.conflicts,
                ..self.record.run.checkpoint.clone()
            };
        }
        if checkpoint == self.record.run.checkpoint {
            return Ok(());
        }
        self.record.run.checkpoint = checkpoint;
        timeout(JOURNAL_DEADLINE, self.record.save()).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(ErrorKind::Server, "the journal did not answer")
                .hint(format!("go on with `replank resume {}`", self.record.run.id)))
        })?;
        self.record.pass(Boundary::CheckpointSaved);
        let position = self.record.run.checkpoint.position.clone();
        if position != self.log_until
            && let Some(position) = position
        {
            self.rebuild.forget(&position).await.or_else(survivable)?;
            self.log_until = Some(position);
        }
        Ok(())
    }

    async fn look_at_load(&mut self) -> Result<()> {
        let reason = self.load.look(self.record, self.machine.lag()).await?;
        self.machine.set_throttle(reason);
        Ok(())
    }

    /// Tells once when nothing has been applied for a while although the source's head has moved on.
    async fn look_for_a_stall(&mut self) -> Result<()> {
        let now = Instant::now();
        let position = self.machine.checkpoint().position;
        let waits = self.machine.throttle().is_some() || self.machine.keeps_changes();
        if position != self.applied.position || waits {
            self.applied = Applied { position, since: now, is_told: false };
        }
        let stood = now.duration_since(self.applied.since);
        let Some(applied) = self.applied.position.clone() else { return Ok(()) };
        if self.applied.is_told || stood < STALL_AFTER {
            return Ok(());
        }
        // A server that does not answer is noticed elsewhere.
        let Ok(Ok(head)) = timeout(HEAD_DEADLINE, self.rebuild.head()).await else { return Ok(()) };
        if self.rebuild.reached(&applied, &head) {
            // Nobody writes. The next look is due when that much time has passed again.
            self.applied.since = now;
            return Ok(());
        }
        self.applied.is_told = true;
        let (seconds, backlog) = (stood.as_secs(), self.machine.backlog());
        self.record.note("stalled", json!({ "seconds": seconds, "backlog": backlog })).await?;
        let message = format!(
            "nothing has been applied for {seconds} s, and {backlog} changes wait: does a session hold rows of the copy?"
        );
        self.record.say(Body::Warning { message });
        Ok(())
    }

    fn tell_progress(&mut self) {
        let (at, before) = self.last_progress;
        let rows = self.machine.rows_done();
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        let rate = (rows.saturating_sub(before) as f64 / seconds) as u64;
        self.last_progress = (Instant::now(), rows);
        let is_sweeping = matches!(self.machine.state(), RunState::Copying | RunState::Verifying);
        self.record.say(Body::Progress(Progress {
            state: self.record.run.state,
            rows_done: rows,
            rows_total: self.rows_total.max(rows),
            rows_per_second: rate,
            lag_ms: u64::try_from(self.machine.lag().as_millis()).unwrap_or(u64::MAX),
            backlog: self.machine.backlog(),
            eta_s: (is_sweeping && rate > 0).then(|| self.rows_total.saturating_sub(rows) / rate),
            throttle: self.machine.throttle().map(ToOwned::to_owned),
            copy_percent: self.machine.share_percent(),
        }));
    }
}

/// Errors of housekeeping calls that the next round makes good.
fn survivable(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Retry | ErrorKind::ConnectionLost | ErrorKind::LockTimeout => Ok(()),
        _ => Err(error),
    }
}
