//! Where the machine stands, what ends a phase, and the hand-over to the cut-over.

use std::time::Duration;

use super::{Machine, chunk_bounds};
use crate::engine::queue::Owed;
use crate::engine::suspects::Goal;
use crate::engine::sweep::Sweep;
use crate::run::{Checkpoint, Progress, RunState};
use crate::throttle::Limits;
use crate::value::{Change, Key, Position};
use crate::{Error, ErrorKind};

// Rows of the comparison under the lock besides the last batch. Chosen: a few ms on every server.
const SUSPECTS_UNDER_LOCK: usize = 200;

/// Something that ends a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// Every chunk is copied.
    Copied,
    /// Every deferred index is built.
    IndexesBuilt,
    /// The feed has passed the head that was read when the phase began.
    CaughtUp,
    /// Every row was compared, without a repair.
    Verified,
    /// Every row was compared, and some had to be repaired: it has to be done again.
    PassUnclean,
    /// Nothing speaks against asking for the lock.
    SwapReady,
}

impl Machine {
    /// What ended, if something did. The caller saves the next state, then calls [`Machine::enter`].
    #[must_use]
    pub fn milestone(&self) -> Option<Milestone> {
        if self.fatal.is_some() || self.needs_fence || self.is_paused {
            return None;
        }
        match self.state {
            RunState::Copying => self.is_copied().then_some(Milestone::Copied),
            RunState::BuildingIndexes => (self.indexes.as_ref().is_some_and(Vec::is_empty)
                && !self.is_building)
                .then_some(Milestone::IndexesBuilt),
            RunState::CatchingUp => self.is_caught_up().then_some(Milestone::CaughtUp),
            RunState::Verifying => self.is_compared().then_some(if self.pass_repaired == 0 {
                Milestone::Verified
            } else {
                Milestone::PassUnclean
            }),
            RunState::WaitingCutover => self.is_swap_ready().then_some(Milestone::SwapReady),
            _ => None,
        }
    }

    /// Every chunk is copied, but for rows that really collide: those are left to the lock.
    fn is_copied(&self) -> bool {
        self.copy.is_worked_off()
            && self.copying.is_empty()
            && self.left_out.keys().all(|key| self.colliding.contains_key(key))
    }

    pub(super) fn is_caught_up(&self) -> bool {
        let has_passed = match (&self.catch_up, &self.position) {
            (Goal::At(goal), Some(position)) => (self.reached)(position, goal),
            _ => false,
        };
        has_passed && self.is_nearly_drained()
    }

    fn is_nearly_drained(&self) -> bool {
        self.queue.unfinished() <= self.setup.pace.batch_keys + self.suspects.len() + self.colliding.len()
            && self.displaced.is_empty()
            && self.asking.is_empty()
            && !self.is_asking
    }

    /// Every chunk is compared. Those that wait for a few rows only are left to the lock; where none follows, only
    /// rows that change all the time are left.
    fn is_compared(&self) -> bool {
        self.bounding == 0
            && self.comparing_chunks == 0
            && self.verify.is_planned()
            && self.verify.open() == self.held.values().filter(|left| **left > 0).count()
            && match self.setup.swaps {
                true => self.suspects.len() <= SUSPECTS_UNDER_LOCK,
                false => self.suspects.are_all_hot(),
            }
    }

    fn is_swap_ready(&self) -> bool {
        self.is_caught_up()
            && self.suspects.len() <= SUSPECTS_UNDER_LOCK
            && self.colliding.len() <= SUSPECTS_UNDER_LOCK
            && self.backlog.unwrap_or(0) <= self.setup.pace.batch_keys as u64
    }

    /// Begins a phase.
    pub fn enter(&mut self, state: RunState) {
        self.state = state;
        self.share.forget_window();
        match state {
            RunState::CatchingUp | RunState::WaitingCutover => self.catch_up = Goal::Wanted,
            RunState::BuildingIndexes => (self.indexes, self.has_tried_index) = (None, false),
            RunState::Verifying if self.passes == 0 || self.verify.is_planned() => {
                self.passes += 1;
                self.pass_repaired = 0;
                self.pass_repaired_keys.clear();
                self.verify = Sweep::resume(Progress::default());
                self.held.clear();
            }
            _ => {}
        }
    }

    /// The phase.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state
    }

    /// Why the copy waits, or that it goes on.
    pub fn set_throttle(&mut self, reason: Option<String>) {
        // It is said again with each look at the load.
        if reason.is_some() != self.throttle.is_some() {
            self.share.forget_window();
        }
        self.throttle = reason;
    }

    /// Why the copy waits, if it does.
    #[must_use]
    pub fn throttle(&self) -> Option<&str> {
        self.throttle.as_deref()
    }

    /// A person stops the copy, or lets it go on. The feed is applied all the time.
    pub fn set_paused(&mut self, paused: bool) {
        if paused != self.is_paused {
            self.share.forget_window();
        }
        self.is_paused = paused;
    }

    /// Nothing new starts while held; what is in flight lands.
    pub fn hold(&mut self, held: bool) {
        self.is_held = held;
    }

    /// Takes new limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.setup.limits = limits;
        // Whoever wants more than before wants it now.
        self.chunk_rest_until = Duration::ZERO;
        self.share.forget_window();
        let (target, rows, bytes) = chunk_bounds(&self.setup);
        self.copy_size.limit(target, rows, bytes);
        self.verify_size.limit(target, rows, bytes);
    }

    /// The part of the time that chunks take for the sake of those who write, in percent, where it is less than all.
    #[must_use]
    pub fn share_percent(&self) -> Option<u32> {
        let is_sweeping = matches!(self.state, RunState::Copying | RunState::Verifying);
        self.share.percent().filter(|_| is_sweeping && self.setup.limits.copy_percent.is_none())
    }

    /// Actions in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.copying.len() - self.lost_chunks.len()
            + self.applying
            + self.comparing
            + self.comparing_chunks
            + self.bounding
            + usize::from(self.is_pulling)
            + usize::from(self.is_reading_head)
            + usize::from(self.is_building)
            + usize::from(self.is_asking)
            + usize::from(self.is_fencing)
    }

    /// A statement may still run that nobody knows of: nothing but a fence may be begun.
    #[must_use]
    pub fn needs_fence(&self) -> bool {
        self.needs_fence
    }

    /// How long the pull that was begun last may wait for a change.
    #[must_use]
    pub fn pull_wait(&self) -> Duration {
        self.pull_wait
    }

    /// The error that ends the run, once.
    pub fn take_fatal(&mut self) -> Option<Error> {
        self.fatal.take()
    }

    /// Values that collide under a new unique key in one snapshot of the source, once.
    pub fn take_collision_note(&mut self) -> Option<String> {
        self.collision_note.take()
    }

    /// What may be saved now (R4): behind the data, never ahead of it.
    pub fn checkpoint(&mut self) -> Checkpoint {
        if let Some(position) = self.queue.finished_position() {
            self.finished_position = Some(position);
        }
        Checkpoint {
            prepared: true,
            position: self.finished_position.clone(),
            copied: self.copy.progress().clone(),
            verified: self.verify.progress().clone(),
            repaired: self.repaired,
            pass_repaired: self.pass_repaired,
            passes: self.passes,
            conflicts: self.conflicts.clone(),
        }
    }

    /// The keys of the rows that this pass repaired, the first of them, as words.
    #[must_use]
    pub fn shown_repaired(&self) -> String {
        super::shown(&self.pass_repaired_keys)
    }

    /// Where the feed was pulled to.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Rows done in the phase's sweep.
    #[must_use]
    pub fn rows_done(&self) -> u64 {
        if self.passes > 0 { self.verify.rows() } else { self.copy.rows() }
    }

    /// How old the newest change is that was pulled.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.lag
    }

    /// Changes that are known and not finished.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.queue.unfinished() as u64 + self.backlog.unwrap_or(0)
    }

    /// How long the drain under the lock would take now, at the speed of the batches so far.
    #[must_use]
    pub fn drain_estimate(&self) -> Duration {
        let (keys, took) = self.apply_cost;
        if keys == 0 {
            // Nothing was measured yet: one batch fits, and of more nobody knows.
            let is_one_batch = self.backlog() <= self.setup.pace.batch_keys as u64;
            return if is_one_batch { Duration::ZERO } else { Duration::MAX };
        }
        took.mul_f64(self.backlog() as f64 / keys as f64)
    }

    /// Rows on the way back that the old shape cannot hold.
    #[must_use]
    pub fn conflicts(&self) -> usize {
        self.conflicts.len()
    }

    /// No row that differs can still be told before a lock: there is none, or each changes all the time.
    #[must_use]
    pub fn are_suspects_hot(&self) -> bool {
        self.suspects.are_all_hot()
    }

    /// Everything that is not applied and compared, to be finished under the lock. Nothing is in flight.
    pub fn take_everything(&mut self) -> Vec<Owed> {
        let mut all = self.queue.take_all();
        all.extend(std::mem::take(&mut self.compared_next).into_iter().flatten());
        all.extend(std::mem::take(&mut self.displaced).into_iter().map(|displaced| displaced.owed));
        all.append(&mut self.asking);
        all.extend(std::mem::take(&mut self.colliding).into_values().map(|(owed, _)| owed));
        all
    }

    /// A row that made room under the lock.
    pub fn owe(&mut self, change: Change) -> Owed {
        self.queue.owe_newest(change)
    }

    /// The lock was released without a swap, and what was done under it may be undone.
    pub fn return_everything(&mut self, all: Vec<Owed>) {
        for owed in all {
            self.queue.put_back(owed, &self.epochs);
        }
        self.catch_up = Goal::Wanted;
    }

    /// Rows that differed when they were last compared.
    #[must_use]
    pub fn suspects(&self) -> Vec<Key> {
        self.suspects.keys()
    }

    /// Rows that the old shape could not hold are tried again: the application may have changed them.
    pub fn retry_conflicts(&mut self) {
        for (key, conflict) in std::mem::take(&mut self.conflicts) {
            let change = Change { key, lane: conflict.lane, removed: false };
            self.queue.add(change, &self.epochs);
        }
    }
}

/// The error of rows that collide under a new unique key.
#[must_use]
pub fn duplicate(values: &[String]) -> Error {
    Error::new(ErrorKind::Duplicate, "rows collide under a unique key of the new shape")
        .with("values", values.join("; "))
        .hint("the live table is untouched; remove the duplicates, then `replank resume`, or `replank abort`")
}
