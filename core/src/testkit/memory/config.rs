//! What kind of server it is, and how it misbehaves.

use std::time::Duration;

use crate::driver::Pace;

/// A server, before it is started. Everything is drawn from `seed`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Decides every delay and every fault.
    pub seed: u64,
    /// Which table has a unique index besides the key.
    pub unique: Unique,
    /// The shadow gets that index after the copy.
    pub is_deferred: bool,
    /// What the driver asks of the engine.
    pub pace: Pace,
    /// The swap is one transaction: without a commit nothing of it stays, and the commit releases the lock.
    pub swap_is_transaction: bool,
    /// While the swap's lock is held, other sessions cannot reach replank's own records.
    pub swap_locks_state: bool,
    /// Statements take time, and commits become visible later than they are logged.
    pub has_delays: bool,
    /// How often calls fail.
    pub faults: Faults,
    /// The rule that this driver breaks.
    pub mutant: Option<Mutant>,
    /// The trace is printed as it is made: a simulation that hangs has no end at which to print it.
    pub is_loud: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            unique: Unique::None,
            is_deferred: false,
            pace: Pace {
                chunk_target: Duration::from_millis(500),
                copy_workers: 2,
                lanes: 2,
                batch_keys: 4,
                apply_during_build: true,
                apply_during_copy: true,
                write_percent: 100,
            },
            swap_is_transaction: false,
            swap_locks_state: false,
            has_delays: false,
            faults: Faults::default(),
            mutant: None,
            is_loud: false,
        }
    }
}

/// Which table has a unique index on [`Row::unique`](super::row::Row::unique).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    /// None.
    None,
    /// Both: rows of one moment never collide, rows of different moments may.
    Both,
    /// Only the new one: rows of one moment may collide.
    New,
}

impl Unique {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Both => "both",
            Self::New => "new",
        }
    }
}

/// How often a driver's call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// One call in this many; 0 is never.
    pub one_in: u64,
    /// Faults of one simulation, so that every run can end.
    pub budget: u32,
}

/// A rule of the contract that a bad driver breaks. A simulator that does not find it is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// R1: the feed hands out what a read does not see yet.
    FeedUnsettled,
    /// R1: the head lies behind transactions that a read does not see yet.
    HeadUnsettled,
    /// R3: apply leaves rows alone that the source no longer has.
    ApplyKeepsDeleted,
    /// R3: apply answers before it has written.
    ApplyAnswersEarly,
    /// R3: copy replaces rows that are there. By itself harmless while R2 holds, as the model shows, so
    /// only conformance can find it.
    CopyOverwrites,
    /// R5: fencing renames nothing, and so waits for nothing.
    FenceKeepsName,
    /// R6: rows that had to make way are not reported.
    ForgetsDisplaced,
    /// The reverse feed begins some time after writers were released.
    ReverseInstalledLate,
    /// The owner of the name is guessed.
    OwnerGuesses,
}
