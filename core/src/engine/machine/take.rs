//! What follows from what ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::next::{NEAR, PULL_KEYS, PULL_REST, shown};
use super::{Displaced, Kind, Machine, Outcome, SweepKind, duplicate};
use crate::driver::{Applied, Compared, Copied, FeedBatch, IndexBuild};
use crate::engine::epoch::Epoch;
use crate::engine::queue::{Batch, Owed};
use crate::engine::suspects::{Goal, Hold};
use crate::engine::sweep::Index;
use crate::error::Retry;
use crate::run::{Conflict, Direction};
use crate::value::{Change, Key, Position};
use crate::{Error, ErrorKind, Result};

// A row displaced this often within one run is asked about; two are usual when two rows swap a value.
const DISPLACED_OFTEN: u32 = 4;
// Doubled each time, so 80 ms at most: what stands in the way is usually in the queue. Chosen.
const DISPLACED_PAUSE: Duration = Duration::from_millis(5);
// Rows that really collide are tried again this often: the application may have mended it. Chosen.
const COLLISION_RETRY: Duration = Duration::from_secs(2);
// An application that makes duplicates for so long will not stop by itself. Chosen.
const COLLISION_PATIENCE: Duration = Duration::from_mins(1);
const COLLISION_FORGOTTEN: Duration = Duration::from_secs(10);
// Builds of one index that may find duplicates before it is told: two are usual under load. Chosen.
const INDEX_TRIES_QUIET: u32 = 4;

impl Machine {
    /// Takes in how an action ended.
    pub fn take(&mut self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Pull(result) => self.pulled(result, now),
            Outcome::Head(result) => self.head_read(result, now),
            Outcome::Count(result) => self.counted(result, now),
            Outcome::Bound(kind, result) => self.bound(kind, result, now),
            Outcome::Copy(epoch, took, result) => self.copied(epoch, took, result, now),
            Outcome::Apply(batch, took, result) => self.applied(batch, took, result, now),
            Outcome::CompareChunk(index, took, result) => self.chunk_compared(index, took, result, now),
            Outcome::CompareBatch(owed, result) => self.batch_compared(owed, result, now),
            Outcome::CompareAgain(keys, result) => self.compared_again(keys, result, now),
            Outcome::ListIndexes(result) => {
                self.is_building = false;
                if let Some(names) = self.settle(Kind::Index, result, now) {
                    self.indexes = Some(names);
                }
            }
            Outcome::BuildIndex(result) => self.index_built(result, now),
            Outcome::Collisions(owed, result) => self.collisions_known(owed, result, now),
            Outcome::Fence(result) => self.fenced(result, now),
        }
    }

    fn pulled(&mut self, result: Result<FeedBatch>, now: Duration) {
        self.is_pulling = false;
        if let Some(batch) = self.settle(Kind::Pull, result, now) {
            self.lag = batch.lag;
            // A piece can be short because the log stuttered on its way here, and the feed be far behind all the same.
            let is_behind = batch.lag > NEAR || batch.backlog.is_some_and(|backlog| backlog > 0);
            if !batch.changes.is_empty() && batch.changes.len() < PULL_KEYS && !is_behind {
                self.pull_rest_until = now + PULL_REST;
            }
            self.arrive(batch);
        }
    }

    /// A piece of the feed, also one that was pulled under the lock.
    pub fn arrive(&mut self, batch: FeedBatch) {
        self.backlog = batch.backlog;
        for change in &batch.changes {
            self.suspects.touch(&change.key);
        }
        if batch.position.is_some() {
            self.position.clone_from(&batch.position);
        }
        self.queue.arrive(batch.changes, batch.position, &self.epochs);
    }

    fn head_read(&mut self, result: Result<Position>, now: Duration) {
        self.is_reading_head = false;
        let head = self.settle(Kind::Head, result, now);
        self.suspects.answer_goal(head.as_ref());
        let goal = head.map_or(Goal::Wanted, Goal::At);
        self.hurries = goal != Goal::Wanted;
        if self.catch_up == Goal::Asked {
            self.catch_up = goal.clone();
        }
        for displaced in self.displaced.iter_mut().filter(|displaced| displaced.goal == Goal::Asked) {
            displaced.goal = goal.clone();
        }
    }

    /// Displaced rows whose goal the feed has passed go back into the queue (R6).
    pub(super) fn return_displaced(&mut self, now: Duration) {
        let (position, reached) = (&self.position, &self.reached);
        let has_passed = |goal: &Goal| match goal {
            Goal::At(goal) => position.as_ref().is_some_and(|at| reached(at, goal)),
            Goal::Wanted | Goal::Asked => false,
        };
        let (ready, waiting) = std::mem::take(&mut self.displaced)
            .into_iter()
            .partition(|displaced| displaced.not_before <= now && has_passed(&displaced.goal));
        self.displaced = waiting;
        let ready: Vec<Displaced> = ready;
        for displaced in ready {
            self.queue.put_back(displaced.owed, &self.epochs);
        }
    }

    /// It is not worth another try, let alone the run: the next window asks again.
    fn counted(&mut self, result: Result<Option<u64>>, now: Duration) {
        match result {
            Ok(count) => self.share.counted(count, now),
            Err(error) => {
                tracing::debug!(%error, "what others write was not counted");
                self.share.count_failed(now);
            }
        }
    }

    fn bound(&mut self, kind: SweepKind, result: Result<Option<Key>>, now: Duration) {
        self.bounding -= 1;
        let bound = self.settle(Kind::Compare, result, now);
        let sweep = match kind {
            SweepKind::Copy => &mut self.copy,
            SweepKind::Verify => &mut self.verify,
        };
        match bound {
            Some(upper) => sweep.bound(upper),
            None => sweep.bound_failed(),
        }
    }

    fn copied(&mut self, epoch: Epoch, took: Duration, result: Result<Copied>, now: Duration) {
        if is_lost(&result) {
            // The statement may still run: its epoch ends with the fence, not before (R5).
            self.lost_chunks.push(epoch);
            self.needs_fence = true;
            return;
        }
        self.epochs.end(epoch);
        let Some(index) = self.copying.remove(&epoch) else { return };
        match self.settle(Kind::Copy, result, now) {
            Some(copied) => {
                self.copy_size.learn(copied.read, copied.bytes, took);
                self.rest(took, now);
                self.rest_from_chunks(took, now);
                self.copy.finish(index, copied.read, !copied.displaced.is_empty());
                for change in copied.displaced {
                    // No change of the row may ever come, so only the chunk can bring it after a crash.
                    self.left_out.entry(change.key.clone()).or_default().push(index);
                    let owed = self.queue.owe_newest(change);
                    self.displace(owed, now);
                }
            }
            None => {
                self.copy_size.shrink();
                self.copy.fail(index);
            }
        }
    }

    fn applied(&mut self, batch: Batch, took: Duration, result: Result<Applied>, now: Duration) {
        self.applying -= 1;
        if is_lost(&result) {
            // The lane stays taken until the fence.
            self.lost_batches.push(batch);
            self.needs_fence = true;
            return;
        }
        self.queue.land(batch.lane);
        if let (Direction::Reverse, Err(error)) = (self.setup.direction, &result)
            && error.kind() == ErrorKind::Unfit
        {
            self.unfit(batch, error.to_string());
            return;
        }
        let Some(applied) = self.settle(Kind::Apply, result, now) else {
            for owed in batch.owed {
                self.queue.put_back(owed, &self.epochs);
            }
            return;
        };
        self.apply_cost.0 += batch.owed.len() as u64;
        self.apply_cost.1 += took;
        self.rest(took, now);
        let owed = self.separate_displaced(batch.owed, applied.displaced, now);
        for owed in &owed {
            self.conflicts.remove(&owed.change.key);
            self.displaced_often.remove(&owed.change.key);
            self.bring_in(&owed.change.key);
        }
        if self.passes > 0 {
            if !owed.is_empty() {
                self.compared_next.push(owed);
            }
        } else {
            for owed in &owed {
                self.queue.finish(owed);
            }
        }
    }

    /// On the way back, a value that the old shape cannot hold. The row is found by applying the batch's
    /// rows one by one.
    fn unfit(&mut self, batch: Batch, reason: String) {
        if batch.owed.len() > 1 {
            self.solo += batch.owed.len();
            for owed in batch.owed {
                self.queue.put_back(owed, &self.epochs);
            }
            return;
        }
        for owed in batch.owed {
            let conflict = Conflict { reason: reason.clone(), lane: owed.change.lane };
            self.conflicts.insert(owed.change.key.clone(), conflict);
            self.queue.finish(&owed);
        }
    }

    /// Splits what a batch displaced from what it finished.
    fn separate_displaced(&mut self, batch: Vec<Owed>, displaced: Vec<Change>, now: Duration) -> Vec<Owed> {
        if displaced.is_empty() {
            return batch;
        }
        // A row that was left out keeps its debt, so a crash brings it back. One that the server spells
        // otherwise than the feed did owes what the oldest of the batch does.
        let oldest = batch.iter().map(|owed| owed.piece).min();
        let mut gone: BTreeMap<Key, Change> =
            displaced.into_iter().map(|change| (change.key.clone(), change)).collect();
        let mut done = Vec::new();
        for owed in batch {
            if gone.remove(&owed.change.key).is_some() {
                self.displace(owed, now);
            } else {
                done.push(owed);
            }
        }
        for change in gone.into_values() {
            let owed = match oldest {
                Some(piece) => self.queue.owe_at(change, piece),
                None => self.queue.owe_newest(change),
            };
            self.displace(owed, now);
        }
        done
    }

    /// A row that chunks had left out is in the written table, or gone from the source.
    fn bring_in(&mut self, key: &Key) {
        for index in self.left_out.remove(key).unwrap_or_default() {
            if !self.left_out.values().any(|chunks| chunks.contains(&index)) {
                self.copy.settle(index);
            }
        }
    }

    fn displace(&mut self, owed: Owed, now: Duration) {
        let count = self.displaced_often.entry(owed.change.key.clone()).or_insert(0);
        *count += 1;
        if *count > DISPLACED_OFTEN {
            *count = 0;
            self.asking.push(owed);
        } else {
            let not_before = now + DISPLACED_PAUSE * (1 << *count);
            self.displaced.push(Displaced { owed, goal: Goal::Wanted, not_before });
        }
    }

    fn collisions_known(&mut self, owed: Vec<Owed>, result: Result<Vec<String>>, now: Duration) {
        self.is_asking = false;
        let found = self.settle(Kind::Head, result, now).unwrap_or_default();
        if found.is_empty() {
            let not_before = now + DISPLACED_PAUSE;
            let back = owed.into_iter().map(|owed| Displaced { owed, goal: Goal::Wanted, not_before });
            self.displaced.extend(back);
            return;
        }
        self.collision_note = Some(found.join("; "));
        let first = match self.colliding_since {
            Some((first, last)) if now.saturating_sub(last) < COLLISION_FORGOTTEN => first,
            _ => now,
        };
        self.colliding_since = Some((first, now));
        if now.saturating_sub(first) > COLLISION_PATIENCE {
            self.fail(duplicate(&found));
        }
        for owed in owed {
            let merged = self.colliding.insert(owed.change.key.clone(), (owed, now + COLLISION_RETRY));
            if let Some((earlier, _)) = merged {
                self.queue.finish(&earlier);
            }
        }
    }

    fn chunk_compared(&mut self, index: Index, took: Duration, result: Result<Compared>, now: Duration) {
        self.comparing_chunks -= 1;
        if self.is_explained_by_a_change_to_come(&result) {
            // Longer than patience no change waits: applying has its own.
            let _waits =
                self.backoff.failed(Kind::Compare, now, Error::new(ErrorKind::Retry, "a change waits"));
            self.verify.fail(index);
            return;
        }
        let Some(compared) = self.settle(Kind::Compare, result, now) else {
            self.verify_size.shrink();
            self.verify.fail(index);
            return;
        };
        self.verify_size.learn(compared.rows, 0, took);
        self.rest_from_chunks(took, now);
        let differing = self.without_conflicts(compared.differing);
        self.held.insert(index, differing.len());
        self.verify.finish(index, compared.rows, !differing.is_empty());
        for change in differing {
            self.suspects.accuse(change, Hold::Chunk(index));
        }
    }

    /// On the way back a comparison may meet a value that the old shape cannot hold before the change that brought it is
    /// tried, which names the row.
    fn is_explained_by_a_change_to_come<T>(&self, result: &Result<T>) -> bool {
        self.setup.direction == Direction::Reverse
            && self.queue.unfinished() > 0
            && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unfit)
    }

    fn batch_compared(&mut self, owed: Vec<Owed>, result: Result<Compared>, now: Duration) {
        self.comparing -= 1;
        let Some(compared) = self.settle(Kind::Compare, result, now) else {
            self.compared_next.push(owed);
            return;
        };
        let mut differing: BTreeMap<Key, Change> = self
            .without_conflicts(compared.differing)
            .into_iter()
            .map(|change| (change.key.clone(), change))
            .collect();
        for owed in owed {
            match differing.remove(&owed.change.key) {
                Some(change) => {
                    self.queue.set_aside(&owed);
                    self.suspects.accuse(change, Hold::Feed(owed));
                }
                None => {
                    let holds = self.suspects.acquit(&owed.change.key);
                    self.free(holds);
                    self.queue.finish(&owed);
                }
            }
        }
        // A key that the server spells otherwise than the feed did.
        for change in differing.into_values() {
            let owed = self.queue.owe_newest(change.clone());
            self.queue.set_aside(&owed);
            self.suspects.accuse(change, Hold::Feed(owed));
        }
    }

    fn compared_again(&mut self, keys: Vec<Key>, result: Result<Compared>, now: Duration) {
        self.comparing -= 1;
        let Some(compared) = self.settle(Kind::Compare, result, now) else {
            for key in &keys {
                self.suspects.not_compared(key);
            }
            return;
        };
        let differing: BTreeSet<Key> =
            self.without_conflicts(compared.differing).into_iter().map(|change| change.key).collect();
        for key in keys {
            if differing.contains(&key) {
                self.suspects.accuse_again(&key);
            } else {
                let holds = self.suspects.acquit(&key);
                self.free(holds);
            }
        }
    }

    fn without_conflicts(&self, differing: Vec<Change>) -> Vec<Change> {
        differing.into_iter().filter(|change| !self.conflicts.contains_key(&change.key)).collect()
    }

    fn free(&mut self, holds: Vec<Hold>) {
        for hold in holds {
            match hold {
                Hold::Feed(owed) => self.queue.finish_aside(&owed),
                Hold::Chunk(index) => {
                    let left = self.held.get_mut(&index).map_or(0, |left| {
                        *left = left.saturating_sub(1);
                        *left
                    });
                    if left == 0 {
                        self.held.remove(&index);
                        self.verify.settle(index);
                    }
                }
            }
        }
    }

    fn index_built(&mut self, result: Result<IndexBuild>, now: Duration) {
        self.is_building = false;
        if result.is_ok() && !self.has_tried_index {
            self.has_tried_index = true;
            self.catch_up = Goal::Wanted;
        }
        if let Ok(IndexBuild::Duplicates(changes)) = result {
            self.index_has_duplicates(changes, now);
            return;
        }
        match self.settle(Kind::Index, result, now) {
            Some(_built) => {
                if let Some(names) = &mut self.indexes {
                    names.remove(0);
                }
            }
            // Whether it was built after all is asked of the catalogue.
            None => self.indexes = None,
        }
    }

    /// Rows of different moments are settled by applying them again. Rows that collide in the source itself
    /// are told, and waited for: the application may mend them, but not for ever.
    fn index_has_duplicates(&mut self, changes: Vec<Change>, now: Duration) {
        let keys: Vec<String> = changes.iter().take(10).map(|change| change.key.to_string()).collect();
        if let Some(given_up) = self.backoff.failed(Kind::Index, now, duplicate(&keys)) {
            self.fail(given_up);
        }
        if self.backoff.failures(Kind::Index) == INDEX_TRIES_QUIET {
            self.collision_note = Some(keys.join(", "));
        }
        // Nothing was taken out: after a crash the build finds them again.
        for change in changes {
            let owed = self.queue.owe_newest(change);
            self.displaced.push(Displaced { owed, goal: Goal::Wanted, not_before: now });
        }
    }

    fn fenced(&mut self, result: Result<()>, now: Duration) {
        self.is_fencing = false;
        if self.settle(Kind::Fence, result, now).is_none() {
            return;
        }
        self.needs_fence = false;
        for epoch in std::mem::take(&mut self.lost_chunks) {
            self.epochs.end(epoch);
            if let Some(index) = self.copying.remove(&epoch) {
                self.copy.fail(index);
            }
        }
        for batch in std::mem::take(&mut self.lost_batches) {
            self.queue.land(batch.lane);
            for owed in batch.owed {
                self.queue.put_back(owed, &self.epochs);
            }
        }
    }

    /// The value of a call, or what follows from its failure.
    fn settle<T>(&mut self, kind: Kind, result: Result<T>, now: Duration) -> Option<T> {
        match result {
            Ok(value) => {
                self.backoff.succeeded(kind);
                Some(value)
            }
            Err(error) => {
                match (kind, error.kind().retry()) {
                    // A read whose reply was lost did nothing; the feed is opened again where it was. A
                    // fence whose reply was lost is followed by one with a greater token.
                    (Kind::Pull | Kind::Head | Kind::Compare | Kind::Fence, Retry::AfterFence)
                    | (_, Retry::Again) => {
                        if let Some(given_up) = self.backoff.failed(kind, now, error) {
                            self.fail(given_up);
                        }
                    }
                    (Kind::Index, Retry::AfterFence) => self.needs_fence = true,
                    (_, Retry::AfterFence | Retry::Never) => {
                        let told = self.with_unfit(error);
                        self.fail(told);
                    }
                }
                None
            }
        }
    }

    /// A comparison may meet what was found to fit nowhere before: those rows are known by their keys.
    fn with_unfit(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Unfit || self.conflicts.is_empty() {
            return error;
        }
        let keys: Vec<Key> = self.conflicts.keys().cloned().collect();
        error.with("keys", shown(&keys))
    }

    /// After writing: others get the database's only writer for the rest of the time.
    fn rest(&mut self, took: Duration, now: Duration) {
        let percent = u32::from(self.setup.pace.write_percent);
        self.rest_until = self.rest_until.max(now + rest_after(took, percent));
    }

    /// After a chunk of either sweep.
    fn rest_from_chunks(&mut self, took: Duration, now: Duration) {
        self.share.chunk_ended();
        if let Some(percent) = self.setup.limits.copy_percent {
            self.chunk_rest_until = self.chunk_rest_until.max(now + rest_after(took, percent));
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.fatal.get_or_insert(error);
    }
}

/// So that what took so long is this much per cent of the time.
fn rest_after(took: Duration, percent: u32) -> Duration {
    let percent = percent.clamp(1, 100);
    took * (100 - percent) / percent
}

fn is_lost<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind().retry() == Retry::AfterFence)
}
