//! The points of the protocol at which a crash matters. One enum names them; `docs/boundaries.md` is
//! generated from it, and a test fails if one of them has no kill test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;

/// A point just after something took effect and before anything depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Boundary {
    /// The lease is ours, nothing else is done.
    LeaseTaken,
    /// The run is in the journal, nothing is created.
    RunSaved,
    /// The shadow and its capture exist, the journal does not know yet.
    ShadowCreated,
    /// The feed is open, its position not saved.
    FeedOpened,
    /// A chunk is committed, its checkpoint not.
    ChunkCommitted,
    /// A batch is written, its transaction still open.
    BatchWritten,
    /// A batch is committed, its checkpoint not.
    BatchCommitted,
    /// A checkpoint is saved, the log not shortened.
    CheckpointSaved,
    /// A deferred index is built, the journal does not know yet.
    IndexBuilt,
    /// A chunk is compared, the journal does not know yet.
    VerifyChunkDone,
    /// The intent to swap is saved.
    SwapIntended,
    /// A step of keeping others out is done, others are not: of raising or lowering a fence that outlives its runner, or of a takeover.
    Fencing,
    /// The exclusive lock is held.
    LockHeld,
    /// Everything up to the head is applied under the lock.
    Drained,
    /// The reverse feed exists, the lock is held.
    ReverseCreated,
    /// The swap is about to be sent.
    SwapSent,
    /// A step of what follows the name (foreign keys, triggers, materialized views) is done, others are not.
    Moving,
    /// The swap is acknowledged, the lock perhaps still held.
    SwapAcknowledged,
    /// The lock is released, the journal does not know of the swap.
    Released,
    /// A step of the server's own is done, the journal does not know yet.
    StepDone,
    /// The intent to remove an object is saved, or its removal has begun.
    DropBegun,
    /// An object is removed, its record not.
    DropDone,
}

impl Boundary {
    /// Every boundary.
    pub const ALL: [Self; 22] = [
        Self::LeaseTaken,
        Self::RunSaved,
        Self::ShadowCreated,
        Self::FeedOpened,
        Self::ChunkCommitted,
        Self::BatchWritten,
        Self::BatchCommitted,
        Self::CheckpointSaved,
        Self::IndexBuilt,
        Self::VerifyChunkDone,
        Self::SwapIntended,
        Self::Fencing,
        Self::LockHeld,
        Self::Drained,
        Self::ReverseCreated,
        Self::SwapSent,
        Self::Moving,
        Self::SwapAcknowledged,
        Self::Released,
        Self::StepDone,
        Self::DropBegun,
        Self::DropDone,
    ];

    /// The name in `REPLANK_KILL_AT` and in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaseTaken => "lease_taken",
            Self::RunSaved => "run_saved",
            Self::ShadowCreated => "shadow_created",
            Self::FeedOpened => "feed_opened",
            Self::ChunkCommitted => "chunk_committed",
            Self::BatchWritten => "batch_written",
            Self::BatchCommitted => "batch_committed",
            Self::CheckpointSaved => "checkpoint_saved",
            Self::IndexBuilt => "index_built",
            Self::VerifyChunkDone => "verify_chunk_done",
            Self::SwapIntended => "swap_intended",
            Self::Fencing => "fencing",
            Self::LockHeld => "lock_held",
            Self::Drained => "drained",
            Self::ReverseCreated => "reverse_created",
            Self::SwapSent => "swap_sent",
            Self::Moving => "moving",
            Self::SwapAcknowledged => "swap_acknowledged",
            Self::Released => "released",
            Self::StepDone => "step_done",
            Self::DropBegun => "drop_begun",
            Self::DropDone => "drop_done",
        }
    }

    /// What has happened by then, and what has not: the row in `docs/boundaries.md`.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::LeaseTaken => "the lease is ours, nothing else is done",
            Self::RunSaved => "the run is in the journal, nothing is created",
            Self::ShadowCreated => "shadow and capture exist, the journal does not know yet",
            Self::FeedOpened => "the feed is open, its position is not saved",
            Self::ChunkCommitted => "a chunk is committed, its checkpoint is not",
            Self::BatchWritten => "a batch is written, its transaction is open",
            Self::BatchCommitted => "a batch is committed, its checkpoint is not",
            Self::CheckpointSaved => "a checkpoint is saved, the log is not shortened",
            Self::IndexBuilt => "a deferred index is built, the journal does not know yet",
            Self::VerifyChunkDone => "a chunk is compared, the journal does not know yet",
            Self::SwapIntended => "the intent to swap is saved, no lock is asked for",
            Self::Fencing => {
                "a step of raising or lowering a fence that outlives its runner, or of a takeover, is done, others are not"
            }
            Self::LockHeld => "the exclusive lock is held",
            Self::Drained => "everything up to the head is applied, under the lock",
            Self::ReverseCreated => "the reverse feed exists, under the lock",
            Self::SwapSent => "the swap is about to be sent",
            Self::Moving => {
                "a step of moving what follows the name (foreign keys, triggers, materialized views) is done, others are not"
            }
            Self::SwapAcknowledged => "the swap is acknowledged, the lock not yet released",
            Self::Released => "the lock is released, the journal does not know of the swap",
            Self::StepDone => "a step of the server's own is done, the journal does not know yet",
            Self::DropBegun => "the removal of an object has begun",
            Self::DropDone => "an object is removed, its record is not",
        }
    }

    /// A server that dies here is the most dangerous: data and journal are furthest apart, or who owns the
    /// name hangs on what reached the disk. The server is killed at each of these in tests.
    #[must_use]
    pub fn is_dangerous(self) -> bool {
        matches!(
            self,
            Self::ChunkCommitted
                | Self::BatchCommitted
                | Self::CheckpointSaved
                | Self::IndexBuilt
                | Self::SwapIntended
                | Self::LockHeld
                | Self::Drained
                | Self::SwapSent
                | Self::SwapAcknowledged
                | Self::Released
        )
    }

    /// The boundary of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|boundary| boundary.name() == name)
    }
}

/// What `REPLANK_KILL_AT=name[:n]` or `REPLANK_STOP_AT=name[:n]` asks for.
struct Request {
    boundary: Boundary,
    /// Which passage, counted from 1.
    passage: u64,
    passed: AtomicU64,
}

// The process's environment is global, and so is the count of passages in a process.
static KILL_AT: OnceLock<Option<Request>> = OnceLock::new();
static STOP_AT: OnceLock<Option<Request>> = OnceLock::new();

/// Says that a boundary is reached. If the environment asks for it, the process kills itself here with
/// SIGKILL (no destructor, no flush, nothing is told to the server), or stops itself with SIGSTOP until
/// somebody sends SIGCONT: then the server can be killed at just this point. So does any build, since a test
/// of another build than the released one proves nothing.
pub fn reached(boundary: Boundary) {
    for (request, variable, signal) in
        [(&KILL_AT, "REPLANK_KILL_AT", Signal::KILL), (&STOP_AT, "REPLANK_STOP_AT", Signal::STOP)]
    {
        let request = request.get_or_init(|| std::env::var(variable).ok().and_then(|text| parse(&text)));
        if request.as_ref().is_some_and(|request| request.is_due(boundary)) {
            // It cannot fail for our own process; if it did, going on is what an unkilled process does.
            if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), signal) {
                tracing::error!(%error, boundary = boundary.name(), "the signal asked for was not sent");
            }
        }
    }
}

impl Request {
    fn is_due(&self, boundary: Boundary) -> bool {
        self.boundary == boundary && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.passage
    }
}

fn parse(text: &str) -> Option<Request> {
    let (name, passage) = match text.split_once(':') {
        Some((name, passage)) => (name, passage.parse().ok()?),
        None => (text, 1),
    };
    Some(Request { boundary: Boundary::find(name)?, passage, passed: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for boundary in Boundary::ALL {
            assert_eq!(Boundary::find(boundary.name()), Some(boundary));
        }
    }

    #[test]
    fn requests() {
        let parsed = |text| parse(text).map(|request| (request.boundary, request.passage));
        assert_eq!(parsed("lock_held"), Some((Boundary::LockHeld, 1)));
        assert_eq!(parsed("chunk_committed:7"), Some((Boundary::ChunkCommitted, 7)));
        assert_eq!(parsed("nowhere"), None);
        assert_eq!(parsed("lock_held:x"), None);
    }

    #[test]
    fn a_request_is_due_at_its_passage_only() {
        let request = parse("drained:2").expect("a request");
        let due = [Boundary::Drained, Boundary::LockHeld, Boundary::Drained, Boundary::Drained]
            .map(|boundary| request.is_due(boundary));
        assert_eq!(due, [false, false, true, false]);
    }

    #[test]
    fn ten_are_the_most_dangerous() {
        assert_eq!(Boundary::ALL.into_iter().filter(|boundary| boundary.is_dangerous()).count(), 10);
    }
}
