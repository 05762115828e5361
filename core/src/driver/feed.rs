//! The change feed: committed row changes of one table, in order, pulled at the engine's pace.

use std::time::Duration;

use async_trait::async_trait;

use crate::Result;
use crate::value::{Change, Position};

/// A stream of the keys that committed transactions touched.
///
/// **R1, settled:** a key is handed out only when a new read on the source would see its change. Logs
/// run ahead of visibility; the driver waits until they agree.
///
/// **R7, no gaps:** what the feed cannot explain in full is an error of kind
/// [`FeedGap`](crate::ErrorKind::FeedGap) or [`ForeignDdl`](crate::ErrorKind::ForeignDdl), never skipped.
/// So is a position that the log no longer reaches back to. After such an error every further call fails
/// the same way.
#[async_trait]
pub trait ChangeFeed: Send {
    /// The next keys, at most `keys_max` of them; an empty batch after `wait` without any.
    ///
    /// A transaction may come in several pieces, so memory stays bounded whatever its size; only the
    /// piece that ends it carries a position. Not cancel-safe: a dropped call leaves the feed unusable,
    /// and a new one must be opened at the last saved position.
    async fn next(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch>;
}

/// A piece of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBatch {
    /// Keys, in the order of their changes.
    pub changes: Vec<Change>,
    /// Set when the piece ends at the end of a transaction: everything up to here was handed out. An
    /// empty batch moves the position too, when the log went on without touching the table.
    pub position: Option<Position>,
    /// How long ago the newest change of the piece was committed, by the server's clock.
    pub lag: Duration,
    /// Changes that are committed and not yet handed out, where the driver can tell.
    pub backlog: Option<u64>,
}
