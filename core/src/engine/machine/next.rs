//! What may start now.

use std::time::Duration;

use super::{Action, Kind, Machine, SweepKind};
use crate::driver::Effort;
use crate::engine::share::Turn;
use crate::engine::suspects::Goal;
use crate::run::RunState;
use crate::value::{Key, Position};
use crate::{Error, ErrorKind};

/// Most keys of one pull: enough to fill several batches at once. Chosen.
pub const PULL_KEYS: usize = 2_000;
/// A feed that was read to its end rests for so long: what comes meanwhile is applied, compared and committed together,
/// and each commit makes others wait for the disk. As long as nobody waits for the last change. Chosen.
pub const PULL_REST: Duration = Duration::from_millis(100);
/// How long a pull waits where there is nothing to be read. Chosen.
pub const PULL_WAIT: Duration = Duration::from_millis(100);
/// The same at the end of a phase.
const PULL_WAIT_BRIEF: Duration = Duration::from_millis(10);
/// A feed whose newest change is so old is behind. Clocks of some servers count in seconds. Chosen.
pub const NEAR: Duration = Duration::from_millis(1_500);
/// So many do not keep a comparison from its end.
const SUSPECTS_FEW: usize = 50;
/// Keys that a message lists.
const SHOWN_MAX: usize = 10;

impl Machine {
    /// The next thing to start at `now`, counted from any fixed moment; `None` when nothing may start.
    /// Called again until it says `None`, and again after every outcome and every tick.
    pub fn next(&mut self, now: Duration) -> Option<Action> {
        if self.fatal.is_some() {
            return None;
        }
        if self.needs_fence {
            return self.next_fence();
        }
        if self.is_held {
            return None;
        }
        self.return_displaced(now);
        self.next_head(now)
            .or_else(|| self.next_pull(now))
            .or_else(|| self.next_suspects())
            .or_else(|| self.next_collisions(now))
            .or_else(|| self.next_batch_comparison(now))
            .or_else(|| self.next_batch(now))
            .or_else(|| self.next_index(now))
            .or_else(|| self.next_chunk(now))
    }

    fn next_fence(&mut self) -> Option<Action> {
        // What is still in flight may land or be lost too; both are settled by one fence.
        if self.is_fencing || self.in_flight() > usize::from(self.is_pulling) {
            return None;
        }
        self.is_fencing = true;
        Some(Action::Fence)
    }

    fn next_pull(&mut self, now: Duration) -> Option<Action> {
        let has_room = self.queue.waiting() < self.setup.queue_max;
        // Whatever is not applied yet will be under the lock.
        // Rows that differed wait for the feed to pass them, and are not to be changed again meanwhile.
        let may_rest = !matches!(self.state, RunState::WaitingCutover | RunState::CuttingOver)
            && self.suspects.len() < SUSPECTS_FEW
            && !self.hurries;
        let rests = may_rest && now < self.pull_rest_until;
        if self.is_pulling
            || self.catch_up == Goal::Asked
            || rests
            || !has_room
            || self.keeps_changes()
            || !self.backoff.is_over(Kind::Pull, now)
        {
            return None;
        }
        self.is_pulling = true;
        // What is waited for is there already, as a rule. Where it is not, there is no use in asking all the time.
        let ends_soon = match self.state {
            RunState::BuildingIndexes => true,
            RunState::Verifying => self.verify.is_planned(),
            _ => false,
        };
        self.pull_wait = match std::mem::take(&mut self.hurries) {
            true => Duration::ZERO,
            // It would be waited for.
            false if ends_soon => PULL_WAIT_BRIEF,
            false => PULL_WAIT,
        };
        Some(Action::Pull)
    }

    fn next_head(&mut self, now: Duration) -> Option<Action> {
        let wants = self.catch_up == Goal::Wanted
            || self.suspects.wants_goal()
            || self.displaced.iter().any(|displaced| displaced.goal == Goal::Wanted);
        if self.is_reading_head || !wants || !self.backoff.is_over(Kind::Head, now) {
            return None;
        }
        self.is_reading_head = true;
        self.suspects.ask_goal();
        if self.catch_up == Goal::Wanted {
            self.catch_up = Goal::Asked;
        }
        for displaced in self.displaced.iter_mut().filter(|displaced| displaced.goal == Goal::Wanted) {
            displaced.goal = Goal::Asked;
        }
        Some(Action::Head)
    }

    /// Rows that differed and whose time has come.
    fn next_suspects(&mut self) -> Option<Action> {
        if self.suspects.is_empty() {
            return None;
        }
        let (position, reached) = (&self.position, &self.reached);
        let has_passed = |goal: &Position| position.as_ref().is_some_and(|at| reached(at, goal));
        let is_busy = |key: &Key| self.queue.has(key);
        let due = self.suspects.due(has_passed, is_busy);
        for change in due.repair {
            self.repaired += 1;
            self.pass_repaired += 1;
            // One more than is shown, so that it is told that there are more.
            if self.pass_repaired_keys.len() <= SHOWN_MAX {
                self.pass_repaired_keys.push(change.key.clone());
            }
            self.queue.add(change, &self.epochs);
        }
        if !due.mismatched.is_empty() {
            self.fail(mismatch(&due.mismatched));
            return None;
        }
        (!due.compare.is_empty()).then(|| {
            self.comparing += 1;
            Action::CompareAgain(due.compare)
        })
    }

    fn next_collisions(&mut self, now: Duration) -> Option<Action> {
        if !self.is_asking && !self.asking.is_empty() {
            self.is_asking = true;
            return Some(Action::Collisions(std::mem::take(&mut self.asking)));
        }
        let due: Vec<Key> =
            self.colliding.iter().filter(|(_, (_, at))| *at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            if let Some((owed, _)) = self.colliding.remove(&key) {
                self.queue.put_back(owed, &self.epochs);
            }
        }
        None
    }

    fn next_batch_comparison(&mut self, now: Duration) -> Option<Action> {
        if !self.backoff.is_over(Kind::Compare, now) {
            return None;
        }
        let owed = self.compared_next.pop()?;
        self.comparing += 1;
        Some(Action::CompareBatch(owed))
    }

    fn next_batch(&mut self, now: Duration) -> Option<Action> {
        let is_barred = self.is_building && !self.setup.pace.apply_during_build || self.keeps_changes();
        if is_barred || now < self.rest_until || !self.backoff.is_over(Kind::Apply, now) {
            return None;
        }
        let keys_max = if self.solo > 0 { 1 } else { self.setup.pace.batch_keys };
        let batch = self.queue.take(keys_max, &self.epochs)?;
        self.solo = self.solo.saturating_sub(1);
        self.applying += 1;
        Some(Action::Apply(batch))
    }

    /// Nothing is pulled or applied now: chunks and batches would stand in each other's way, and the index by which rows
    /// are found may not be there yet. Once its build was tried, rows of different moments that it found are settled.
    #[must_use]
    pub fn keeps_changes(&self) -> bool {
        let pace = &self.setup.pace;
        !pace.apply_during_copy
            && match self.state {
                RunState::Copying => true,
                RunState::BuildingIndexes => {
                    !self.has_tried_index || self.is_building && !pace.apply_during_build
                }
                _ => false,
            }
    }

    fn next_index(&mut self, now: Duration) -> Option<Action> {
        let is_time = self.state == RunState::BuildingIndexes && !self.is_building && !self.is_paused;
        // A throttle is for what can wait. Until the first index was tried nothing is applied, and the log grows for as long as
        // somebody writes: it would cost more later than it saves now.
        let is_throttled = self.throttle.is_some() && !self.keeps_changes();
        if !is_time || is_throttled || !self.backoff.is_over(Kind::Index, now) {
            return None;
        }
        // Rows that an earlier try found colliding are settled first.
        if !self.displaced.is_empty() || !self.colliding.is_empty() {
            return None;
        }
        if !self.setup.pace.apply_during_build && self.applying > 0 {
            return None;
        }
        // What has waited for the first index is applied before the others are built: it takes less with one than with all,
        // and a unique one would find rows of different moments.
        if !self.setup.pace.apply_during_copy && self.has_tried_index && !self.is_caught_up() {
            return None;
        }
        let action = match &self.indexes {
            None => Action::ListIndexes,
            Some(names) => Action::BuildIndex(names.first()?.clone(), self.effort()),
        };
        self.is_building = true;
        Some(action)
    }

    fn effort(&self) -> Effort {
        let is_shared = self.setup.limits.copy_percent.is_none() && self.share.is_dear();
        if is_shared { Effort::Gentle } else { Effort::Usual }
    }

    fn next_chunk(&mut self, now: Duration) -> Option<Action> {
        if self.is_paused || self.throttle.is_some() || now < self.rest_until.max(self.chunk_rest_until) {
            return None;
        }
        let workers = self
            .setup
            .pace
            .copy_workers
            .min(usize::try_from(self.setup.limits.copy_workers).unwrap_or(usize::MAX));
        let kind = match self.state {
            RunState::Copying => Kind::Copy,
            RunState::Verifying => Kind::Compare,
            _ => return None,
        };
        if workers == 0 || !self.backoff.is_over(kind, now) {
            return None;
        }
        if self.setup.limits.copy_percent.is_none() {
            let in_flight = self.copying.len() + self.comparing_chunks;
            match self.share.turn(now, in_flight) {
                Turn::Go => {}
                Turn::Wait => return None,
                Turn::Count => return Some(Action::Count),
            }
        }
        if kind == Kind::Copy { self.next_copy(workers) } else { self.next_verify(workers) }
    }

    fn next_copy(&mut self, workers: usize) -> Option<Action> {
        if let Some(after) = self.copy.plan(workers) {
            self.bounding += 1;
            return Some(Action::Bound(SweepKind::Copy, after, self.copy_size.rows()));
        }
        if self.copying.len() >= workers {
            return None;
        }
        let (index, bounds) = self.copy.start()?;
        let epoch = self.epochs.start();
        self.copying.insert(epoch, index);
        Some(Action::Copy(epoch, bounds))
    }

    fn next_verify(&mut self, workers: usize) -> Option<Action> {
        // Memory: each held chunk has rows that are looked at again, so a table that differs in every row
        // stops here rather than fill it.
        if self.suspects.len() > self.setup.queue_max {
            return None;
        }
        if let Some(after) = self.verify.plan(workers) {
            self.bounding += 1;
            return Some(Action::Bound(SweepKind::Verify, after, self.verify_size.rows()));
        }
        if self.comparing_chunks >= workers {
            return None;
        }
        let (index, bounds) = self.verify.start()?;
        self.comparing_chunks += 1;
        Some(Action::CompareChunk(index, bounds))
    }
}

fn mismatch(keys: &[Key]) -> Error {
    Error::new(ErrorKind::Mismatch, format!("{} rows differ and no change explains it", keys.len()))
        .with("keys", shown(keys))
        .hint("the live table is untouched; `replank abort` removes the copy; please report this")
}

/// The first of them, for the person.
pub fn shown(keys: &[Key]) -> String {
    let first: Vec<String> = keys.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    let more = if keys.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}
