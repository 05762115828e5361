//! Changes that wait to be applied: deduplicated by key, held by epoch (R2), one batch a lane (R2), and
//! the position up to which everything is finished (R4).

use std::collections::{BTreeMap, VecDeque};

use super::epoch::{Epoch, Epochs};
use crate::value::{Change, Key, Lane, Position};

/// Numbers the pieces of the feed in the order of their arrival.
pub type Piece = u64;

/// A change with what it still owes: the checkpoint must not pass the piece that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The change.
    pub change: Change,
    /// The oldest piece that it stands for.
    pub piece: Piece,
}

/// Changes of one lane, taken out to be applied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where they came from; nothing else of the lane is taken meanwhile.
    pub lane: Lane,
    /// The changes.
    pub owed: Vec<Owed>,
}

impl Batch {
    /// The bare changes, as a driver takes them.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.owed.iter().map(|owed| owed.change.clone()).collect()
    }
}

#[derive(Debug)]
struct Waiting {
    owed: Owed,
    barrier: Epoch,
    turn: u64,
}

#[derive(Debug, Default)]
struct LaneQueue {
    by_key: BTreeMap<Key, Waiting>,
    by_turn: BTreeMap<u64, Key>,
    is_flying: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    lanes: BTreeMap<Lane, LaneQueue>,
    turn: u64,
    piece: Piece,
    /// Unfinished changes by the piece that they owe to.
    owed: BTreeMap<Piece, usize>,
    /// Changes by key that are out of the queue and not finished: in flight, displaced, asked about.
    out: BTreeMap<Key, usize>,
    /// Where pieces ended at the end of a transaction.
    ends: VecDeque<(Piece, Position)>,
    waiting: usize,
}

// Each end is a position of some ten bytes; thinning only makes checkpoints coarser. Chosen.
const ENDS_MAX: usize = 1024;

impl Queue {
    /// A piece of the feed has arrived.
    pub fn arrive(&mut self, changes: Vec<Change>, position: Option<Position>, epochs: &Epochs) {
        self.piece += 1;
        let piece = self.piece;
        for change in changes {
            self.owe(piece);
            self.enqueue(Owed { change, piece }, epochs.barrier());
        }
        if let Some(position) = position {
            self.ends.push_back((piece, position));
            if self.ends.len() > ENDS_MAX {
                let newest = self.ends.back().cloned();
                let mut index = 0;
                self.ends.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                if self.ends.back() != newest.as_ref() {
                    self.ends.extend(newest);
                }
            }
        }
    }

    /// A change that was not finished comes back: not applied, displaced, or to be repaired. It owes what
    /// it owed before.
    pub fn put_back(&mut self, owed: Owed, epochs: &Epochs) {
        self.come_in(&owed);
        self.enqueue(owed, epochs.barrier());
    }

    /// A change that no piece brought, such as a repair, to be applied.
    pub fn add(&mut self, change: Change, epochs: &Epochs) {
        let owed = self.owe_newest(change);
        self.put_back(owed, epochs);
    }

    /// The same, not to be applied yet: it owes to the newest piece.
    pub fn owe_newest(&mut self, change: Change) -> Owed {
        self.owe_at(change, self.piece)
    }

    /// The same, owing to a given piece that is not finished.
    pub fn owe_at(&mut self, change: Change, piece: Piece) -> Owed {
        self.owe(piece);
        *self.out.entry(change.key.clone()).or_insert(0) += 1;
        Owed { change, piece }
    }

    /// Takes a batch of a lane that has none in flight, of changes whose epoch has passed.
    pub fn take(&mut self, keys_max: usize, epochs: &Epochs) -> Option<Batch> {
        let lane = *self
            .lanes
            .iter()
            .filter(|(_, queue)| !queue.is_flying)
            .filter_map(|(lane, queue)| Some((lane, queue.by_key.get(queue.by_turn.first_key_value()?.1)?)))
            .filter(|(_, first)| epochs.has_passed(first.barrier))
            .min_by_key(|(_, first)| first.turn)?
            .0;
        let queue = self.lanes.get_mut(&lane)?;
        let mut owed = Vec::new();
        while owed.len() < keys_max
            && let Some(entry) = queue.by_turn.first_entry()
        {
            // Turns are given in the order of arrival, so barriers grow with them.
            let is_ready =
                queue.by_key.get(entry.get()).is_some_and(|waiting| epochs.has_passed(waiting.barrier));
            if !is_ready {
                break;
            }
            let key = entry.remove();
            owed.extend(queue.by_key.remove(&key).map(|waiting| waiting.owed));
        }
        queue.is_flying = true;
        self.waiting -= owed.len();
        for owed in &owed {
            *self.out.entry(owed.change.key.clone()).or_insert(0) += 1;
        }
        Some(Batch { lane, owed })
    }

    /// The batch is no longer in flight. Its changes are finished or put back one by one.
    pub fn land(&mut self, lane: Lane) {
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.is_flying = false;
        }
    }

    /// Takes everything that waits, whatever its epoch: nothing is in flight, and the source is locked.
    pub fn take_all(&mut self) -> Vec<Owed> {
        let mut all = Vec::new();
        for queue in self.lanes.values_mut() {
            queue.by_turn.clear();
            all.extend(std::mem::take(&mut queue.by_key).into_values().map(|waiting| waiting.owed));
        }
        self.waiting = 0;
        for owed in &all {
            *self.out.entry(owed.change.key.clone()).or_insert(0) += 1;
        }
        all
    }

    /// A change is finished: nothing is owed for it any more.
    pub fn finish(&mut self, owed: &Owed) {
        self.come_in(owed);
        self.finish_aside(owed);
    }

    /// A change that was applied is only owed because its row is suspect: it is not on its way any more.
    pub fn set_aside(&mut self, owed: &Owed) {
        self.come_in(owed);
    }

    /// A change that was set aside is finished.
    pub fn finish_aside(&mut self, owed: &Owed) {
        if let Some(count) = self.owed.get_mut(&owed.piece) {
            *count -= 1;
            if *count == 0 {
                self.owed.remove(&owed.piece);
            }
        }
    }

    /// The newest position at or before which every change is finished, if it is newer than the one
    /// given out before.
    pub fn finished_position(&mut self) -> Option<Position> {
        let oldest = self.owed.first_key_value().map(|(piece, _)| *piece);
        let mut newest = None;
        while let Some((piece, _)) = self.ends.front()
            && oldest.is_none_or(|oldest| *piece < oldest)
        {
            newest = self.ends.pop_front().map(|(_, position)| position);
        }
        newest
    }

    /// Whether a change of this key is on its way: it waits, or is out and not finished.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.out.contains_key(key) || self.lanes.values().any(|queue| queue.by_key.contains_key(key))
    }

    /// Changes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Changes that are not finished, those in flight included.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.owed.values().sum()
    }

    fn owe(&mut self, piece: Piece) {
        *self.owed.entry(piece).or_insert(0) += 1;
    }

    fn come_in(&mut self, owed: &Owed) {
        if let Some(count) = self.out.get_mut(&owed.change.key) {
            *count -= 1;
            if *count == 0 {
                self.out.remove(&owed.change.key);
            }
        }
    }

    fn enqueue(&mut self, mut owed: Owed, barrier: Epoch) {
        let queue = self.lanes.entry(owed.change.lane).or_default();
        if let Some(earlier) = queue.by_key.remove(&owed.change.key) {
            queue.by_turn.remove(&earlier.turn);
            self.waiting -= 1;
            // One entry stands for both, and owes what the older owed.
            let (older, newer) = if earlier.owed.piece <= owed.piece {
                (earlier.owed.piece, owed.piece)
            } else {
                (owed.piece, earlier.owed.piece)
            };
            owed.piece = older;
            owed.change.removed |= earlier.owed.change.removed;
            let count = self.owed.get_mut(&newer).map(|count| {
                *count -= 1;
                *count
            });
            if count == Some(0) {
                self.owed.remove(&newer);
            }
        }
        self.turn += 1;
        self.waiting += 1;
        queue.by_turn.insert(self.turn, owed.change.key.clone());
        queue.by_key.insert(owed.change.key.clone(), Waiting { owed, barrier, turn: self.turn });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, lane: u16) -> Change {
        Change { key: Key(key.to_owned()), lane: Lane(lane), removed: false }
    }

    fn at(n: u32) -> Option<Position> {
        Some(Position(n.to_string()))
    }

    fn finish_all(queue: &mut Queue, batch: &Batch) {
        queue.land(batch.lane);
        for owed in &batch.owed {
            queue.finish(owed);
        }
    }

    #[test]
    fn the_position_stays_behind_the_lowest_unfinished_change() {
        let (mut queue, epochs) = (Queue::default(), Epochs::default());
        queue.arrive(vec![change("a", 0)], at(1), &epochs);
        queue.arrive(vec![change("b", 1)], at(2), &epochs);
        let a = queue.take(9, &epochs).expect("lane 0");
        let b = queue.take(9, &epochs).expect("lane 1");
        finish_all(&mut queue, &b);
        assert_eq!(queue.finished_position(), None, "a came first and is not finished");
        finish_all(&mut queue, &a);
        assert_eq!(queue.finished_position(), at(2));
        assert_eq!(queue.finished_position(), None, "given out once");
    }

    #[test]
    fn a_key_that_changes_again_keeps_the_debt_of_its_first_change() {
        let (mut queue, epochs) = (Queue::default(), Epochs::default());
        queue.arrive(vec![change("hot", 0)], at(1), &epochs);
        queue.arrive(vec![Change { removed: true, ..change("hot", 0) }], at(2), &epochs);
        queue.arrive(vec![change("hot", 0)], at(3), &epochs);
        assert_eq!((queue.waiting(), queue.unfinished()), (1, 1));
        assert_eq!(queue.finished_position(), None);
        let batch = queue.take(9, &epochs).expect("one");
        assert_eq!(batch.owed.len(), 1);
        assert!(batch.owed[0].change.removed, "that it was gone in between is not forgotten");
        finish_all(&mut queue, &batch);
        assert_eq!(queue.finished_position(), at(3));
    }

    #[test]
    fn a_piece_without_an_end_gives_no_position() {
        let (mut queue, epochs) = (Queue::default(), Epochs::default());
        queue.arrive(vec![change("a", 0)], None, &epochs);
        let batch = queue.take(9, &epochs).expect("one");
        finish_all(&mut queue, &batch);
        assert_eq!(queue.finished_position(), None, "the transaction is not over");
        queue.arrive(vec![change("b", 0)], at(1), &epochs);
        assert_eq!(queue.finished_position(), None);
        let batch = queue.take(9, &epochs).expect("one");
        finish_all(&mut queue, &batch);
        assert_eq!(queue.finished_position(), at(1));
    }

    #[test]
    fn a_lane_has_one_batch_in_flight() {
        let (mut queue, epochs) = (Queue::default(), Epochs::default());
        queue.arrive(vec![change("a", 0), change("b", 0)], at(1), &epochs);
        let first = queue.take(1, &epochs).expect("a");
        assert_eq!(queue.take(1, &epochs), None, "the lane is taken");
        queue.arrive(vec![change("a", 0)], at(2), &epochs);
        finish_all(&mut queue, &first);
        assert_eq!(queue.take(9, &epochs).expect("b, a").owed.len(), 2);
    }

    #[test]
    fn a_change_waits_for_the_chunks_that_were_in_flight() {
        let (mut queue, mut epochs) = (Queue::default(), Epochs::default());
        let chunk = epochs.start();
        queue.arrive(vec![change("a", 0)], at(1), &epochs);
        assert_eq!(queue.take(9, &epochs), None);
        let later = epochs.start();
        epochs.end(chunk);
        assert!(queue.take(9, &epochs).is_some(), "the later chunk reads later");
        epochs.end(later);
    }

    #[test]
    fn a_change_put_back_still_owes() {
        let (mut queue, epochs) = (Queue::default(), Epochs::default());
        queue.arrive(vec![change("a", 0)], at(1), &epochs);
        let batch = queue.take(9, &epochs).expect("one");
        queue.arrive(vec![change("a", 0)], at(2), &epochs);
        queue.land(batch.lane);
        for owed in batch.owed {
            queue.put_back(owed, &epochs);
        }
        assert_eq!((queue.waiting(), queue.unfinished()), (1, 1), "the newer change merged with it");
        assert_eq!(queue.finished_position(), None);
    }

    #[test]
    fn thinned_ends_keep_the_newest() {
        let (mut queue, epochs) = (Queue::default(), Epochs::default());
        queue.arrive(vec![change("a", 0)], at(0), &epochs);
        let batch = queue.take(9, &epochs).expect("one");
        for n in 1..3_000 {
            queue.arrive(Vec::new(), at(n), &epochs);
        }
        assert!(queue.ends.len() <= ENDS_MAX + 1);
        finish_all(&mut queue, &batch);
        assert_eq!(queue.finished_position(), at(2_999));
    }
}
