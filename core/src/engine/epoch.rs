//! R2, the epochs: a key is applied only after every chunk that was in flight when it arrived.
//!
//! Such a chunk may have read the row before the change and may write it after the apply. No keys are
//! compared and nothing is paused: each copy of a chunk gets the next number when it starts, a key
//! remembers the newest number at its arrival, and waits until no number up to that one is in flight. A
//! chunk that starts later reads later, and sees the change, because the feed is settled (R1).

use std::collections::BTreeSet;

/// The number of one try to copy a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The tries in flight.
#[derive(Debug, Default)]
pub struct Epochs {
    newest: u64,
    flying: BTreeSet<Epoch>,
}

impl Epochs {
    /// A chunk is about to be sent.
    pub fn start(&mut self) -> Epoch {
        self.newest += 1;
        let epoch = Epoch(self.newest);
        self.flying.insert(epoch);
        epoch
    }

    /// The try is over: it wrote, or it is certain that it never will. One whose reply was lost is not
    /// over before the fence (R5).
    pub fn end(&mut self, epoch: Epoch) {
        self.flying.remove(&epoch);
    }

    /// What a key that arrives now has to wait for.
    #[must_use]
    pub fn barrier(&self) -> Epoch {
        Epoch(self.newest)
    }

    /// Whether a key with this barrier may be applied.
    #[must_use]
    pub fn has_passed(&self, barrier: Epoch) -> bool {
        self.flying.first().is_none_or(|oldest| *oldest > barrier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_for_chunks_that_were_in_flight_and_not_for_later_ones() {
        let mut epochs = Epochs::default();
        assert!(epochs.has_passed(epochs.barrier()), "nothing is in flight");
        let (a, b) = (epochs.start(), epochs.start());
        let barrier = epochs.barrier();
        let c = epochs.start();
        epochs.end(b);
        assert!(!epochs.has_passed(barrier), "a is still in flight");
        epochs.end(a);
        assert!(epochs.has_passed(barrier), "only c is, and it started later");
        epochs.end(c);
        assert!(epochs.has_passed(epochs.barrier()));
    }
}
