//! One pass over a table in key order, chunk by chunk: the copy is one, the comparison another.
//!
//! Chunks chain: each begins where the one before ends, so no row can fall between two. Several may be in
//! flight; the watermark only passes a chunk when it and all before it are done.

use std::collections::BTreeMap;

use crate::run::Progress;
use crate::value::{Bounds, Key};

/// Numbers a chunk in the order of the keys.
pub type Index = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Flying,
    /// Done, but for some rows that are looked at again.
    Held,
    Done,
}

#[derive(Debug)]
struct Chunk {
    bounds: Bounds,
    state: State,
    rows: u64,
}

/// A pass in the making.
#[derive(Debug)]
pub struct Sweep {
    /// Where the newest chunk ends; the next begins there.
    frontier: Option<Key>,
    /// The open range at the end of the table is planned.
    is_planned: bool,
    is_planning: bool,
    next: Index,
    chunks: BTreeMap<Index, Chunk>,
    progress: Progress,
    rows_above: u64,
}

impl Sweep {
    /// Goes on where the saved progress ends.
    #[must_use]
    pub fn resume(progress: Progress) -> Self {
        Self {
            frontier: progress.watermark.clone(),
            is_planned: progress.done,
            is_planning: false,
            next: 0,
            chunks: BTreeMap::new(),
            progress,
            rows_above: 0,
        }
    }

    /// What may be saved: everything up to the watermark is done.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Rows in finished chunks, those above the watermark included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.progress.rows + self.rows_above
    }

    /// Every chunk is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.progress.done
    }

    /// The open range at the end of the table is among the chunks.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.is_planned
    }

    /// Every chunk is done, or held by some rows only.
    #[must_use]
    pub fn is_worked_off(&self) -> bool {
        self.is_planned && self.chunks.values().all(|chunk| matches!(chunk.state, State::Held | State::Done))
    }

    /// Where to look for the next bound, if one should be looked for: at most `ahead` chunks wait.
    /// The caller answers with [`Sweep::bound`] or [`Sweep::bound_failed`].
    pub fn plan(&mut self, ahead: usize) -> Option<Option<Key>> {
        let ready = self.chunks.values().filter(|chunk| chunk.state == State::Ready).count();
        if self.is_planned || self.is_planning || ready >= ahead {
            return None;
        }
        self.is_planning = true;
        Some(self.frontier.clone())
    }

    /// The next bound is this key, or the table ends.
    pub fn bound(&mut self, upper: Option<Key>) {
        self.is_planning = false;
        self.is_planned = upper.is_none();
        let bounds = Bounds { lower: self.frontier.clone(), upper: upper.clone() };
        self.chunks.insert(self.next, Chunk { bounds, state: State::Ready, rows: 0 });
        self.next += 1;
        self.frontier = upper;
    }

    /// The bound could not be read; it is asked for again.
    pub fn bound_failed(&mut self) {
        self.is_planning = false;
    }

    /// Takes a chunk to work on.
    pub fn start(&mut self) -> Option<(Index, Bounds)> {
        let (index, chunk) = self.chunks.iter_mut().find(|(_, chunk)| chunk.state == State::Ready)?;
        chunk.state = State::Flying;
        Some((*index, chunk.bounds.clone()))
    }

    /// A chunk is done, or, with `held`, done but for some rows.
    pub fn finish(&mut self, index: Index, rows: u64, held: bool) {
        if let Some(chunk) = self.chunks.get_mut(&index) {
            chunk.state = if held { State::Held } else { State::Done };
            chunk.rows = rows;
            self.rows_above += rows;
        }
        self.advance();
    }

    /// The last of a held chunk's rows is settled.
    pub fn settle(&mut self, index: Index) {
        if let Some(chunk) = self.chunks.get_mut(&index)
            && chunk.state == State::Held
        {
            chunk.state = State::Done;
        }
        self.advance();
    }

    /// A chunk has to be done again.
    pub fn fail(&mut self, index: Index) {
        if let Some(chunk) = self.chunks.get_mut(&index) {
            chunk.state = State::Ready;
        }
    }

    /// Chunks that have not been settled, flying or not.
    #[must_use]
    pub fn open(&self) -> usize {
        self.chunks.len()
    }

    fn advance(&mut self) {
        while let Some(entry) = self.chunks.first_entry()
            && entry.get().state == State::Done
        {
            let chunk = entry.remove();
            self.progress.rows += chunk.rows;
            self.rows_above -= chunk.rows;
            match chunk.bounds.upper {
                Some(upper) => self.progress.watermark = Some(upper),
                None => self.progress.done = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key(n.to_string())
    }

    fn planned(uppers: &[Option<Key>]) -> Sweep {
        let mut sweep = Sweep::resume(Progress::default());
        for upper in uppers {
            assert!(sweep.plan(usize::MAX).is_some());
            sweep.bound(upper.clone());
        }
        sweep
    }

    #[test]
    fn the_watermark_waits_for_the_chunk_that_is_behind() {
        let mut sweep = planned(&[Some(key(10)), Some(key(20)), None]);
        let (first, _) = sweep.start().expect("a chunk");
        let (second, bounds) = sweep.start().expect("a chunk");
        assert_eq!(bounds, Bounds { lower: Some(key(10)), upper: Some(key(20)) });
        sweep.finish(second, 10, false);
        assert_eq!(sweep.progress().watermark, None);
        assert_eq!((sweep.progress().rows, sweep.rows()), (0, 10));
        sweep.finish(first, 7, false);
        assert_eq!(sweep.progress().watermark, Some(key(20)));
        assert_eq!(sweep.progress().rows, 17);
        assert!(!sweep.is_done());
        let (last, bounds) = sweep.start().expect("the open range");
        assert_eq!(bounds, Bounds { lower: Some(key(20)), upper: None });
        sweep.finish(last, 0, false);
        assert!(sweep.is_done());
        assert_eq!(sweep.plan(9), None);
    }

    #[test]
    fn a_failed_chunk_is_started_again_with_the_same_bounds() {
        let mut sweep = planned(&[Some(key(10)), None]);
        let (index, bounds) = sweep.start().expect("a chunk");
        sweep.fail(index);
        assert_eq!(sweep.start(), Some((index, bounds)));
    }

    #[test]
    fn a_held_chunk_holds_the_watermark_until_it_is_settled() {
        let mut sweep = planned(&[Some(key(10)), None]);
        let (index, _) = sweep.start().expect("a chunk");
        sweep.finish(index, 3, true);
        assert_eq!(sweep.progress().watermark, None);
        sweep.settle(index);
        assert_eq!(sweep.progress().watermark, Some(key(10)));
    }

    #[test]
    fn a_resumed_sweep_begins_at_the_watermark() {
        let progress = Progress { watermark: Some(key(10)), done: false, rows: 10 };
        let mut sweep = Sweep::resume(progress);
        assert_eq!(sweep.plan(1), Some(Some(key(10))));
        assert_eq!(sweep.plan(1), None, "one bound is looked for at a time");
    }
}
