//! The rename by another session than the lock's: MariaDB has no RENAME TABLE under LOCK TABLES.
//!
//! The rename waits for the live table, in front of all writers: they wait behind it, and find the new table under
//! the old name. It is seen to wait there before the lock is given back, and until then the sentry is in its way.
//! Tables are waited for in the order of their names, and the live one's is the first.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use replank_core::driver::SwapOutcome;
use replank_core::ErrorKind;
use tokio::time::{Instant, timeout};

use super::{Core, sentry};
use crate::connect::Conn;
use crate::error::from_mysql;
use crate::sessions::{end, waits_for_table};
use crate::sql::run;

/// A rename that does not stand in the queue after this never will. Chosen: it takes a round trip.
const QUEUE_WAIT: Duration = Duration::from_millis(200);
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Runs `rename` on a session of its own, and gives the lock back once it waits for it.
pub async fn swap(
    core: &Core,
    locked: &mut Conn,
    aside: &mut Conn,
    renamer: &mut Conn,
    rename: &str,
    in_the_way: &str,
) -> SwapOutcome {
    let id = renamer.id();
    let renaming = renamer.query_drop(rename);
    tokio::pin!(renaming);
    let until = Instant::now() + QUEUE_WAIT;
    loop {
        // The first poll sends it.
        if let Ok(ended) = timeout(LOOK_PAUSE, &mut renaming).await {
            return outcome(ended);
        }
        match waits_for_table(aside, id).await {
            Ok(true) => break,
            Ok(false) if Instant::now() < until => {}
            _ => return withdraw(aside, id, renaming).await,
        }
    }
    if sentry::dismiss(core, locked, in_the_way).await.is_err() {
        return withdraw(aside, id, renaming).await;
    }
    if let Err(error) = run(locked, "UNLOCK TABLES").await {
        // Without its session the lock is gone just as well.
        tracing::debug!(%error, "the lock was not given back by name");
    }
    outcome(renaming.await)
}

/// Ends the rename; it may have been done in the last moment.
async fn withdraw(
    aside: &mut Conn,
    id: u32,
    renaming: impl Future<Output = mysql_async::Result<()>>,
) -> SwapOutcome {
    if let Err(error) = end(aside, "KILL QUERY", id).await {
        // Its own timeout ends it a second later.
        tracing::debug!(%error, "the rename was not ended");
    }
    outcome(renaming.await)
}

fn outcome(ended: mysql_async::Result<()>) -> SwapOutcome {
    match ended.map_err(from_mysql) {
        Ok(()) => SwapOutcome::Done,
        Err(error) if error.kind() == ErrorKind::ConnectionLost => SwapOutcome::Unknown(error),
        Err(error) => SwapOutcome::NotDone(error),
    }
}
