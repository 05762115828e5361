//! What there is at one moment: source, log, shadow, checkpoint, the runner's memory, late statements.

use super::{CHUNKS, CatchUp, LANES, keys_of};
use crate::history::{ABSENT, KEYS, Rows, Snapshot};

/// Statements left behind by crashes and lost connections, in a fixed order.
const ZOMBIES_MAX: usize = CHUNKS + LANES;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub history: u16,
    /// Transactions in the log.
    pub committed: u8,
    pub visible: Snapshot,
    pub shadow: Rows,
    /// A row was copied twice into a shadow without its key.
    pub has_duplicate: bool,
    /// Durable: chunks whose rows are in the shadow.
    pub copied: u8,
    /// Durable: where the feed resumes.
    pub saved: u8,
    /// The deferred unique index has been built, or there is none to build.
    pub is_indexed: bool,
    pub runner: Option<Runner>,
    pub zombies: [Option<Statement>; ZOMBIES_MAX],
    pub crashes_left: u8,
    pub losses_left: u8,
}

/// The memory of the process, gone after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Runner {
    /// Log positions below are in the queue, in a batch, or finished.
    pub delivered: u8,
    /// Chunks that this runner knows to be finished.
    pub copied: u8,
    pub chunks: [Chunk; CHUNKS],
    pub queue: [Option<Item>; KEYS],
    pub lanes: [Option<Batch>; LANES],
    /// Keys that lost a conflict over a unique value and are to be applied again, each with what it owes:
    /// a position that must not be passed by the saved one.
    pub displaced: [Option<u8>; KEYS],
    /// Keys that their chunk left out and that were not applied since.
    pub left_out: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chunk {
    Waiting,
    /// It has a snapshot and no id yet: nobody waits for it. Only where a rule is broken.
    ReadEarly(Snapshot),
    /// It has its id and no snapshot yet.
    Begun,
    /// Its statement has read its rows.
    Read(Snapshot),
    /// Its statement's outcome is unknown.
    Lost,
}

/// A key that waits to be applied. Arriving again while it waits, it stays one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    pub position: u8,
    /// The key's epoch: the chunks in flight at its arrival that are not finished yet.
    pub waits_for: u8,
}

/// Keys that one lane applies in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    pub keys: u8,
    pub position: u8,
    pub snapshot: Snapshot,
    /// The statement's outcome is unknown.
    pub is_lost: bool,
}

/// A statement that was sent: what it has read, and what it will write if it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    Copy { chunk: usize, snapshot: Snapshot },
    Apply { keys: u8, snapshot: Snapshot },
}

impl State {
    pub fn start(model: &CatchUp, history: u16) -> State {
        State {
            history,
            committed: 0,
            visible: 0,
            shadow: [ABSENT; KEYS],
            has_duplicate: false,
            copied: 0,
            saved: 0,
            is_indexed: !model.rules.unique.is_some_and(|unique| unique.deferred),
            runner: Some(Runner::resumed(0, 0)),
            zombies: [None; ZOMBIES_MAX],
            crashes_left: model.crashes,
            losses_left: model.losses,
        }
    }

    /// Keeps a statement that nobody waits for any more. One too many is one that never runs.
    pub fn leave_behind(&mut self, statement: Statement) {
        if let Some(slot) = self.zombies.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(statement);
        }
        // The order says nothing: one representative for all of them.
        self.zombies.sort_unstable();
    }
}

impl Runner {
    pub fn resumed(position: u8, copied: u8) -> Runner {
        Runner {
            delivered: position,
            copied,
            chunks: [Chunk::Waiting; CHUNKS],
            queue: [None; KEYS],
            lanes: [None; LANES],
            displaced: [None; KEYS],
            left_out: 0,
        }
    }

    pub fn lowest_unfinished(&self) -> u8 {
        let queued = self.queue.iter().flatten().map(|item| item.position);
        let applying = self.lanes.iter().flatten().map(|batch| batch.position);
        let displaced = self.displaced.iter().flatten().copied();
        queued.chain(applying).chain(displaced).fold(self.delivered, u8::min)
    }

    /// The finished chunks without those that left rows out.
    pub fn copied_for_good(&self) -> u8 {
        let is_held = |chunk: &usize| keys_of(*chunk).any(|key| self.left_out & 1 << key != 0);
        (0..CHUNKS).filter(is_held).fold(self.copied, |copied, chunk| copied & !(1 << chunk))
    }

    pub fn displace(&mut self, key: usize, position: u8) {
        self.displaced[key] = Some(self.displaced[key].map_or(position, |earlier| earlier.min(position)));
    }

    pub fn is_idle(&self) -> bool {
        self.queue.iter().all(Option::is_none)
            && self.lanes.iter().all(Option::is_none)
            && self.chunks.iter().all(|chunk| *chunk == Chunk::Waiting)
    }

    pub fn chunks_in_flight(&self) -> u8 {
        (0..CHUNKS)
            .filter(|&chunk| !matches!(self.chunks[chunk], Chunk::Waiting | Chunk::ReadEarly(_)))
            .fold(0, |mask, chunk| mask | 1 << chunk)
    }

    pub fn has_lost_statement(&self) -> bool {
        self.chunks.contains(&Chunk::Lost) || self.lanes.iter().flatten().any(|batch| batch.is_lost)
    }

    /// Puts a key into the queue, or merges it with its earlier arrival.
    pub fn enqueue(&mut self, key: usize, arrived: Item) {
        let item = match self.queue[key] {
            None => arrived,
            Some(earlier) => Item {
                position: earlier.position.min(arrived.position),
                waits_for: earlier.waits_for | arrived.waits_for,
            },
        };
        self.queue[key] = Some(item);
    }

    /// Ends the wait of every key that arrived while this chunk was in flight.
    pub fn release_waiters(&mut self, chunk: usize) {
        for item in self.queue.iter_mut().flatten() {
            item.waits_for &= !(1 << chunk);
        }
    }

    pub fn statements(&self) -> impl Iterator<Item = Statement> {
        let copies = self.chunks.iter().enumerate().filter_map(|(chunk, state)| match *state {
            Chunk::Read(snapshot) => Some(Statement::Copy { chunk, snapshot }),
            _ => None,
        });
        let applies = self.lanes.iter().flatten().filter(|batch| !batch.is_lost);
        copies.chain(applies.map(|batch| Statement::Apply { keys: batch.keys, snapshot: batch.snapshot }))
    }
}
