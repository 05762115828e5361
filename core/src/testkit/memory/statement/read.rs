//! Statements that write no rows: bounds, the feed's beginning, the log's end.

use tokio::time::Instant;

use super::super::catalogue::State;
use super::super::config::Mutant;
use super::super::error;
use super::super::log;
use super::super::row::Place;
use super::super::server::Server;
use crate::driver::RebuildJob;
use crate::value::{Key, Position};
use crate::{Error, ErrorKind, Result};

// A commit that nobody sees for longer is reported rather than waited for. Chosen.
const SETTLE_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// The contract leaves open whether fewer than `rows` remaining rows have a bound: either happens here.
pub(in crate::testkit::memory) async fn next_bound(
    server: Server,
    job: RebuildJob,
    after: Option<Key>,
    rows: u64,
) -> Result<Option<Key>> {
    let (source, _reading) = server.share(|state| state.source(&job)).await?;
    server.pause().await;
    let after = after.as_ref().map(Place::of);
    Ok(server.look(|state| {
        let rest = state
            .table(source)
            .rows
            .iter()
            .filter(|(place, _)| after.as_ref().is_none_or(|after| *place > after));
        let next: Vec<&Key> =
            rest.take(usize::try_from(rows).unwrap_or(usize::MAX)).map(|(_, row)| &row.key).collect();
        let is_full = next.len() as u64 == rows;
        let bound = next.last().map(|key| (*key).clone());
        if is_full || state.chance.one_in(2) { bound } else { None }
    }))
}

/// The end of the log, once a new read sees everything before it (R1).
pub(in crate::testkit::memory) async fn head(server: Server, job: RebuildJob) -> Result<Position> {
    server.look(|state| state.source(&job))?;
    let end = server.look(|state| state.log.len());
    if server.look(|state| state.config.mutant) != Some(Mutant::HeadUnsettled) {
        let is_settled = |state: &mut State| (state.settled() >= end).then_some(());
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        server.until(Some(deadline), is_settled).await.ok_or_else(error::rolled_back)?;
    }
    server.pause().await;
    Ok(log::position(end))
}

pub(in crate::testkit::memory) async fn open_feed(
    server: Server,
    job: RebuildJob,
    from: usize,
) -> Result<()> {
    server.pause().await;
    server.look(|state| {
        state.source(&job)?;
        if from < state.capture(&job)?.forgotten { Err(gap()) } else { Ok(()) }
    })
}

pub(in crate::testkit::memory) fn gap() -> Error {
    Error::new(ErrorKind::FeedGap, "the log no longer reaches back to the position")
}

pub(in crate::testkit::memory) async fn forget(
    server: Server,
    job: RebuildJob,
    position: Position,
) -> Result<()> {
    let index = log::index(&position)?;
    server.pause().await;
    server.step(|state| {
        state.records.check_token(&job.table, job.fence)?;
        state.capture(&job)?;
        let mine = state
            .captures
            .iter_mut()
            .filter(|known| known.run == job.run && known.direction == job.direction);
        for capture in mine {
            capture.forgotten = capture.forgotten.max(index);
        }
        Ok(())
    })
}
