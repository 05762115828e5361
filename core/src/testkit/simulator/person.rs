//! The person at the keyboard: what to type next, after a runner has ended.

use super::course::{Course, Ended, Intent};
use super::scenario::Ending;
use crate::run::{CutoverGate, Direction, Run, RunState};
use crate::{Error, ErrorKind};

impl Course {
    /// What the person does next; `None` when all is done.
    pub(super) fn next(&mut self, intent: Intent, ended: Ended) -> Option<Intent> {
        let was_known = self.run.is_some();
        self.wants_revert |= intent == Intent::Revert;
        self.notice_revert();
        self.run = self.run.take().or_else(|| self.server.runs().first().map(|run| run.id.clone()));
        match ended {
            // A run that was created after all, by a call whose reply was lost: it is resumed now.
            Ended::Failed(error)
                if error.kind() == ErrorKind::Refused && !was_known && self.run.is_some() =>
            {
                Some(intent)
            }
            Ended::Killed | Ended::Frozen => self.go_on(intent),
            Ended::Done(run) => self.after(intent, &run),
            Ended::Failed(error) => self.after_failure(intent, &error),
        }
    }

    /// Nobody takes a change back but the person.
    fn notice_revert(&self) {
        let Some(run) = self.record().filter(|_| !self.wants_revert) else { return };
        let goes_back = run.direction == Direction::Reverse
            && matches!(
                run.resume_state.unwrap_or(run.state),
                RunState::CatchingUp
                    | RunState::Verifying
                    | RunState::WaitingCutover
                    | RunState::CuttingOver
                    | RunState::Reverted
            );
        if goes_back {
            self.server.blame(format!("a revert that nobody asked for: the run is {}", run.state));
        }
    }

    /// A person looks at the run before going on with it: somebody may have brought it further.
    fn go_on(&mut self, intent: Intent) -> Option<Intent> {
        let Some(run) = self.record() else { return Some(intent) };
        let is_there = run.state.is_final()
            || run.state.is_reversible() && matches!(intent, Intent::Apply | Intent::Cutover | Intent::Abort);
        if is_there { self.after(intent, &run) } else { Some(self.perhaps_abort(intent)) }
    }

    fn after(&mut self, intent: Intent, run: &Run) -> Option<Intent> {
        match (run.state, intent) {
            (state, _) if state.is_final() => None,
            (RunState::Reversible, Intent::Abort) if self.is_dead_end => Some(Intent::Finalize),
            (RunState::Reversible, Intent::Apply | Intent::Cutover | Intent::Abort) => {
                match self.scenario.ending {
                    _ if !self.scenario.options.revertible => Some(Intent::Finalize),
                    Ending::Stay => None,
                    Ending::Warm => Some(Intent::Warm),
                    Ending::Revert => Some(Intent::Revert),
                    Ending::Finalize => Some(Intent::Finalize),
                }
            }
            (RunState::Reversible, Intent::Warm) => None,
            // A command to abort that was left for an earlier runner gives the revert up.
            (RunState::Reversible, Intent::Revert) if self.scenario.collides => Some(Intent::Revert),
            (state, intent) => {
                self.server.blame(format!("{intent:?} ended well with a run that is {state}"));
                None
            }
        }
    }

    fn after_failure(&mut self, intent: Intent, error: &Error) -> Option<Intent> {
        let trouble = self.scenario.trouble;
        let is_expected = match error.kind() {
            ErrorKind::Duplicate => self.scenario.collides,
            ErrorKind::ForeignDdl => trouble.alter_after.is_some(),
            ErrorKind::FeedGap => trouble.purge_after.is_some(),
            _ => false,
        };
        if is_expected {
            return self.after_dead_end(intent);
        }
        match error.kind() {
            ErrorKind::Gate if self.scenario.options.cutover == CutoverGate::Manual => Some(Intent::Cutover),
            ErrorKind::Interrupted if intent == Intent::Warm => None,
            // Another runner, or the swap, came first.
            ErrorKind::Refused if self.is_overtaken(intent) => self.go_on(intent),
            ErrorKind::ConnectionLost
            | ErrorKind::Retry
            | ErrorKind::LockTimeout
            | ErrorKind::LeaseHeld
            | ErrorKind::Fenced
            | ErrorKind::Interrupted
            | ErrorKind::Gate
            | ErrorKind::NotFound
            | ErrorKind::Server => self.go_on(intent),
            _ => {
                self.server.blame(format!("{intent:?} ended with {error:?}"));
                None
            }
        }
    }

    /// The change cannot be made, or not be taken back. What there is is cleared away.
    fn after_dead_end(&mut self, intent: Intent) -> Option<Intent> {
        self.is_dead_end = true;
        match intent {
            Intent::Apply | Intent::Cutover | Intent::Revert => Some(Intent::Abort),
            Intent::Abort if self.is_reversible() => Some(Intent::Finalize),
            Intent::Warm => Some(Intent::Finalize),
            Intent::Abort | Intent::Finalize => {
                self.server.blame("clearing away fails because of what was to be cleared away");
                None
            }
        }
    }

    fn is_overtaken(&self, intent: Intent) -> bool {
        let Some(run) = self.record() else { return false };
        run.state.is_final() || self.is_reversible() && intent != Intent::Revert
    }

    /// The run as it is recorded.
    fn record(&self) -> Option<Run> {
        self.server.runs().into_iter().find(|run| Some(&run.id) == self.run.as_ref())
    }

    fn is_reversible(&self) -> bool {
        self.record().is_some_and(|run| run.state.is_reversible())
    }

    fn perhaps_abort(&mut self, intent: Intent) -> Intent {
        let may = matches!(intent, Intent::Apply | Intent::Cutover) && self.run.is_some();
        if may && self.chance.one_in(self.scenario.aborts_one_in) { Intent::Abort } else { intent }
    }
}
