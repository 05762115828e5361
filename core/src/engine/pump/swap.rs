//! When a swap is asked for, and what follows from an attempt.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::{End, Goal, Pump};
use crate::engine::cut_over::{Attempt, Cost, CutOver};
use crate::event::Body;
use crate::ident::Fence;
use crate::run::{CutoverGate, Direction};
use crate::{Error, ErrorKind, Result};

// 40 tries with a pause that grows to 30 s: a quarter of an hour of asking politely. Chosen.
const ATTEMPTS_MAX: u32 = 40;
// Those that give way at once cost others next to nothing. Chosen: a minute of them.
const BRIEF_ATTEMPTS_MAX: u32 = 400;
const BRIEF_ATTEMPTS_TOLD: u32 = 20;
// Each keeps everybody out for as long as may be, and nothing comes of it. One may have met a bad moment. Chosen.
const LONG_ATTEMPTS_MAX: u32 = 3;
// A bad moment of a busy machine is over by then. Chosen.
pub(super) const LONG_ATTEMPT_PAUSE: Duration = Duration::from_secs(3);
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
const ATTEMPT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Rows that the old shape cannot hold are told together, if the others are found so soon. Chosen.
const CONFLICTS_WAIT: Duration = Duration::from_secs(30);

impl Pump<'_> {
    pub(super) fn ask_for_swap(&mut self) -> Result<Option<End>> {
        if self.goal != Goal::Swap || self.wants_swap || Instant::now() < self.due.attempt {
            return Ok(None);
        }
        // On the way back a row that differs may hold a value that does not fit: it is told before the lock.
        let has_conflicts = self.machine.conflicts() > 0;
        let is_unsure = self.record.run.direction == Direction::Reverse && !self.machine.are_suspects_hot();
        if has_conflicts || is_unsure {
            let since = *self.unsure_since.get_or_insert_with(Instant::now);
            let are_all_found = self.machine.suspects().is_empty() && self.machine.backlog() == 0;
            if !are_all_found && since.elapsed() < CONFLICTS_WAIT {
                return Ok(None);
            }
        }
        if has_conflicts {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} rows hold values that the old shape cannot hold", self.machine.conflicts()),
            )
            .with("first", self.first_conflicts())
            .hint("change those rows, then `replank revert` again; the new table stays live"));
        }
        let run = &self.record.run;
        let is_gated = run.direction == Direction::Forward && !run.cutover_requested;
        let hint = format!("replank cutover {}", run.id);
        match run.options.cutover {
            CutoverGate::Manual if is_gated => {
                self.record.say(Body::Gate { message: "ready to cut over".to_owned(), hint });
                return Ok(Some(End::Gate));
            }
            CutoverGate::At(at) if is_gated && Timestamp::now() < at => {
                if !self.has_told_gate {
                    self.has_told_gate = true;
                    let message = format!("ready to cut over; waiting until {at}, or for `{hint}`");
                    self.record.say(Body::Phase { state: run.state, message });
                }
                return Ok(None);
            }
            _ => {}
        }
        if !self.make_ready() {
            return Ok(None);
        }
        let budget = self.budget();
        if self.machine.drain_estimate() > budget / 2 || self.machine.lag() > Duration::from_secs(1) {
            return Ok(None);
        }
        self.wants_swap = true;
        self.machine.hold(true);
        Ok(None)
    }

    fn first_conflicts(&mut self) -> String {
        let conflicts = self.machine.checkpoint().conflicts;
        let first: Vec<String> =
            conflicts.iter().take(5).map(|(key, conflict)| format!("{key}: {}", conflict.reason)).collect();
        first.join("; ")
    }

    pub(super) async fn swap_if_quiet(&mut self) -> Result<Option<End>> {
        if !self.wants_swap || self.machine.in_flight() > 0 || self.machine.needs_fence() {
            return Ok(None);
        }
        self.wants_swap = false;
        self.save_checkpoint().await?;
        self.renew().await?;
        self.attempts += 1;
        let budget = self.budget();
        let attempt = CutOver {
            rebuild: &self.rebuild,
            feed: &mut self.feed,
            machine: &mut self.machine,
            record: self.record,
            budget,
        };
        match attempt.attempt().await? {
            Attempt::Swapped => Ok(Some(End::Swapped)),
            Attempt::NotYet { reason, cost } => {
                self.machine.hold(false);
                // At once: what the attempt has begun may not wait.
                self.make_ready_again();
                self.long_attempts += u32::from(cost == Cost::Exchange);
                let is_brief = cost == Cost::Moment && self.brief_attempts < BRIEF_ATTEMPTS_MAX;
                if is_brief {
                    self.brief_attempts += 1;
                    self.attempts -= 1;
                }
                let is_told = !is_brief || self.brief_attempts % BRIEF_ATTEMPTS_TOLD == 1;
                let pause = match is_brief {
                    true => pause(0, Fence(self.record.token().0 + u64::from(self.brief_attempts))) / 2,
                    false if cost == Cost::Exchange => {
                        pause(self.attempts, self.record.token()).max(LONG_ATTEMPT_PAUSE)
                    }
                    false => pause(self.attempts, self.record.token()),
                };
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let noted = json!({ "number": self.attempts, "reason": reason, "pause_ms": pause_ms });
                if is_told {
                    self.record.note("attempt", noted).await?;
                    self.record.say(Body::Warning { message: format!("no swap yet: {reason}") });
                }
                if self.long_attempts >= LONG_ATTEMPTS_MAX {
                    let what = format!(
                        "no swap: {} attempts were taken back, each of them too long by itself",
                        self.long_attempts
                    );
                    let id = &self.record.run.id;
                    return Err(Error::new(ErrorKind::Gate, what).with("last reason", reason).hint(format!(
                        "the table is as it was; `replank resume {id}` when less is going on, or with a --lock-budget that is longer, or \
                         `replank abort {id}`"
                    )));
                }
                self.attempt_again_after(pause, reason)?;
                Ok(None)
            }
        }
    }

    /// Not for ever.
    pub(super) fn attempt_again_after(&mut self, pause: Duration, reason: String) -> Result<()> {
        if self.attempts >= ATTEMPTS_MAX {
            return Err(Error::new(ErrorKind::Gate, format!("no swap after {} attempts", self.attempts))
                .with("last reason", reason)
                .hint(format!(
                "end what holds the table, then `replank resume {}`, perhaps with a --lock-budget that is longer",
                self.record.run.id
            )));
        }
        self.due.attempt = Instant::now() + pause;
        Ok(())
    }

    fn budget(&self) -> Duration {
        Duration::from_millis(self.record.run.options.lock_budget_ms)
    }
}

/// Grows by half each time; the jitter keeps two runners apart and comes from the token, so that a run can
/// be replayed.
pub(super) fn pause(attempt: u32, token: Fence) -> Duration {
    let grown = ATTEMPT_PAUSE.mul_f64(1.5_f64.powi(i32::try_from(attempt.min(30)).unwrap_or(30)));
    let jitter = (token.0.wrapping_mul(31).wrapping_add(u64::from(attempt) * 17)) % 50;
    grown.min(ATTEMPT_PAUSE_MAX).mul_f64(0.75 + jitter as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_growing() {
        assert!(pause(1, Fence(1)) < Duration::from_secs(1));
        assert!(pause(39, Fence(1)) <= ATTEMPT_PAUSE_MAX.mul_f64(1.25));
        assert!(pause(10, Fence(1)) > pause(3, Fence(1)));
    }
}
