//! Carries one action out, as a task of the pump.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::machine::{Action, Outcome, PULL_KEYS};
use crate::driver::{ChangeFeed, FeedBatch, Rebuild};
use crate::value::{Key, Position};
use crate::{Error, ErrorKind, Result};

/// Any call but an index build that takes longer has lost its reply. Far longer than a chunk, far shorter
/// than a person's patience. Chosen.
const DEADLINE: Duration = Duration::from_secs(60);

/// How an action ended, and the feed if the action had it.
pub struct Landed {
    /// For the machine.
    pub outcome: Outcome,
    /// Comes back from a pull that went well.
    pub feed: Option<Box<dyn ChangeFeed>>,
}

/// Runs an action other than a pull or a fence.
pub async fn fly(rebuild: Arc<dyn Rebuild>, action: Action) -> Landed {
    let started = Instant::now();
    let outcome = match action {
        Action::Head => Outcome::Head(limited(rebuild.head()).await),
        Action::Count => Outcome::Count(limited(rebuild.written()).await),
        Action::Bound(kind, after, rows) => {
            Outcome::Bound(kind, limited(rebuild.next_bound(after.as_ref(), rows)).await)
        }
        Action::Copy(epoch, bounds) => {
            let result = limited(rebuild.copy(&bounds)).await;
            Outcome::Copy(epoch, started.elapsed(), result)
        }
        Action::Apply(batch) => {
            let result = limited(rebuild.apply(&batch.changes())).await;
            Outcome::Apply(batch, started.elapsed(), result)
        }
        Action::CompareChunk(index, bounds) => {
            let result = limited(rebuild.compare(&bounds)).await;
            Outcome::CompareChunk(index, started.elapsed(), result)
        }
        Action::CompareBatch(owed) => {
            let keys: Vec<Key> = owed.iter().map(|owed| owed.change.key.clone()).collect();
            let result = limited(rebuild.compare_keys(&keys)).await;
            Outcome::CompareBatch(owed, result)
        }
        Action::CompareAgain(keys) => {
            let result = limited(rebuild.compare_keys(&keys)).await;
            Outcome::CompareAgain(keys, result)
        }
        Action::ListIndexes => Outcome::ListIndexes(limited(rebuild.deferred_indexes()).await),
        // The server works as long as it works; the lease is renewed meanwhile.
        Action::BuildIndex(name, effort) => Outcome::BuildIndex(rebuild.build_index(&name, effort).await),
        Action::Collisions(owed) => {
            let keys: Vec<Key> = owed.iter().map(|owed| owed.change.key.clone()).collect();
            let result = limited(rebuild.collisions(&keys)).await;
            Outcome::Collisions(owed, result)
        }
        Action::Pull | Action::Fence => {
            unreachable!("the pump carries these out itself: they need the feed and the record")
        }
    };
    Landed { outcome, feed: None }
}

/// Pulls the feed, opening it first where the last pull left none.
pub async fn pull(
    rebuild: Arc<dyn Rebuild>,
    feed: Option<Box<dyn ChangeFeed>>,
    position: Option<Position>,
    wait: Duration,
) -> Landed {
    match limited(pull_once(&rebuild, feed, position, wait)).await {
        Ok((batch, feed)) => Landed { outcome: Outcome::Pull(Ok(batch)), feed: Some(feed) },
        Err(error) => Landed { outcome: Outcome::Pull(Err(error)), feed: None },
    }
}

async fn pull_once(
    rebuild: &Arc<dyn Rebuild>,
    feed: Option<Box<dyn ChangeFeed>>,
    position: Option<Position>,
    wait: Duration,
) -> Result<(FeedBatch, Box<dyn ChangeFeed>)> {
    let mut feed = match (feed, position) {
        (Some(feed), _) => feed,
        (None, Some(position)) => rebuild.open_feed(&position).await?,
        (None, None) => return Err(Error::new(ErrorKind::Internal, "the feed has no position to start at")),
    };
    let batch = feed.next(PULL_KEYS, wait).await?;
    Ok((batch, feed))
}

async fn limited<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(DEADLINE, call).await.unwrap_or_else(|_elapsed| {
        Err(Error::new(ErrorKind::ConnectionLost, "the server did not answer")
            .with("within", format!("{} s", DEADLINE.as_secs())))
    })
}
