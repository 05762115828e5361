//! The rename by another session than the lock's: MariaDB has no RENAME TABLE under LOCK TABLES.
//!
//! The rename waits for the live table, in front of all writers: they wait behind it, and find the new table under
//! the old name. It is seen to wait there before the lock is given back, and until then the sentry is in its way.
//! Tables are waited for in the order of their names, and the live one's is the first.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use replank_core::driver::SwapOutcome;
use replank_core::{Error, ErrorKind};
use tokio::time::{Instant, timeout};

use super::cut_over::{RENAME_WAIT, outcome};
use super::{Core, sentry};
use crate::connect::Conn;
use crate::error::{code, codes, from_mysql};
use crate::sessions::{end, waits_for_table};
use crate::sql::run;

/// A rename that does not stand in the queue after this never will. Chosen: it takes a round trip.
const QUEUE_WAIT: Duration = Duration::from_millis(200);
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// What is asked of the session with the lock takes a disk's moment. The server ends that session after a second of
/// silence, and a network may not tell.
const LOCKED_WAIT: Duration = Duration::from_secs(2);
/// One that was told to stop answers at once, or never.
const STOPPED_WAIT: Duration = Duration::from_millis(300);

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
            return ended_with(ended);
        }
        match waits_for_table(aside, id).await {
            Ok(true) => break,
            Ok(false) if Instant::now() < until => {}
            _ => return withdraw(aside, id, renaming).await,
        }
    }
    if !matches!(timeout(LOCKED_WAIT, sentry::dismiss(core, locked, in_the_way)).await, Ok(Ok(()))) {
        return withdraw(aside, id, renaming).await;
    }
    // Without its session the lock is gone just as well.
    let unlocked = timeout(LOCKED_WAIT, run(locked, "UNLOCK TABLES")).await;
    tracing::debug!(?unlocked, "the lock was given back");
    answer(aside, id, renaming, RENAME_WAIT).await
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
    answer(aside, id, renaming, STOPPED_WAIT).await
}

/// How the rename ended. A session that says nothing is ended, and only the catalogue knows.
async fn answer(
    aside: &mut Conn,
    id: u32,
    renaming: impl Future<Output = mysql_async::Result<()>>,
    patience: Duration,
) -> SwapOutcome {
    if let Ok(ended) = timeout(patience, renaming).await {
        return ended_with(ended);
    }
    let ended = end(aside, "KILL", id).await;
    let silent = Error::new(ErrorKind::ConnectionLost, "the session that renames does not answer");
    SwapOutcome::Unknown(match ended {
        Ok(()) => silent,
        Err(error) => silent.caused_by(error),
    })
}

fn ended_with(renamed: mysql_async::Result<()>) -> SwapOutcome {
    outcome(renamed.map_err(|error| {
        match code(&error) {
            // The lock was lost with its session, and the sentry did its duty.
            Some(codes::TABLE_EXISTS) => {
                Error::new(ErrorKind::Retry, "the session that held the lock was lost")
                    .caused_by(from_mysql(error))
            }
            _ => from_mysql(error),
        }
    }))
}
