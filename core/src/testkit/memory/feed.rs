//! The feed: the log of one table, from where its capture begins, settled (R1).

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::catalogue::State;
use super::client::{Client, Kind};
use super::config::Mutant;
use super::log;
use super::row::change;
use super::server::Server;
use super::statement::gap;
use crate::driver::{ChangeFeed, FeedBatch, RebuildJob};
use crate::ident::RunId;
use crate::run::Direction;
use crate::{Error, ErrorKind, Result};

pub(super) struct MemoryFeed {
    client: Client,
    job: RebuildJob,
    /// `None` while a call is under way, and after one that failed or was dropped.
    cursor: Option<Cursor>,
    failure: Option<(ErrorKind, String)>,
}

/// The next change to be handed out: the log's entry, and which of its changes.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    entry: usize,
    change: usize,
}

impl MemoryFeed {
    pub fn new(client: Client, job: RebuildJob, entry: usize) -> Self {
        Self { client, job, cursor: Some(Cursor { entry, change: 0 }), failure: None }
    }
}

#[async_trait]
impl ChangeFeed for MemoryFeed {
    async fn next(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        if let Some((kind, message)) = &self.failure {
            return Err(Error::new(*kind, message.clone()));
        }
        let Some(cursor) = self.cursor.take() else {
            self.client
                .server
                .look(|state| state.blame("a feed was used after a call that was dropped or failed"));
            return Err(Error::new(ErrorKind::Internal, "this feed is unusable"));
        };
        let job = self.job.clone();
        let next = |server: Server| next(server, job, cursor, keys_max.max(1), wait);
        let what = format!("feed from {}.{} ({:?})", cursor.entry, cursor.change, self.job.direction);
        match self.client.call(Kind::Feed, what, next).await {
            Ok((batch, cursor)) => {
                self.cursor = Some(cursor);
                Ok(batch)
            }
            Err(error) => {
                self.failure = Some((error.kind(), error.message().to_owned()));
                Err(error)
            }
        }
    }
}

async fn next(
    server: Server,
    job: RebuildJob,
    from: Cursor,
    keys_max: usize,
    wait: Duration,
) -> Result<(FeedBatch, Cursor)> {
    let deadline = Instant::now() + wait;
    // Once there is something, there may be more behind it: how much is handed out at once is open.
    let found = server.until(Some(deadline), |state| {
        let read = state.read_log(&job.run, job.direction, from, keys_max);
        match read {
            Ok((batch, _)) if batch.changes.is_empty() => None,
            ready => Some(ready),
        }
    });
    match found.await {
        Some(found) => found,
        None => server.look(|state| state.read_log(&job.run, job.direction, from, keys_max)),
    }
}

impl State {
    fn read_log(
        &mut self,
        run: &RunId,
        direction: Direction,
        from: Cursor,
        keys_max: usize,
    ) -> Result<(FeedBatch, Cursor)> {
        let settles = self.config.mutant != Some(Mutant::FeedUnsettled);
        let lanes = self.config.pace.lanes;
        let is_greedy = self.chance.one_in(2);
        let capture = self
            .captures
            .iter()
            .find(|capture| capture.run == *run && capture.direction == direction)
            .ok_or_else(gap)?;
        if from.entry < capture.forgotten {
            return Err(gap());
        }
        let mut cursor = from;
        let mut changes = Vec::new();
        let mut newest = None;
        let mut is_at_end = from.change == 0;
        while let Some(entry) = self.log.get(cursor.entry) {
            let is_ours = entry.table == capture.source && cursor.entry >= capture.start;
            if is_ours {
                if settles && !entry.is_visible {
                    break;
                }
                if changes.len() == keys_max || (!is_greedy && !changes.is_empty() && is_at_end) {
                    break;
                }
                let rest = entry.touched.iter().skip(cursor.change).take(keys_max - changes.len());
                let taken =
                    rest.map(|touched| change(&touched.key, lanes, touched.removed)).collect::<Vec<_>>();
                cursor.change += taken.len();
                if !taken.is_empty() {
                    newest = Some(entry.at);
                }
                changes.extend(taken);
                is_at_end = cursor.change == entry.touched.len();
                if !is_at_end {
                    break;
                }
            }
            cursor = Cursor { entry: cursor.entry + 1, change: 0 };
            is_at_end = true;
        }
        let rest = self.log.iter().skip(cursor.entry).filter(|entry| entry.table == capture.source);
        let backlog = rest.map(|entry| entry.touched.len() as u64).sum();
        let position = is_at_end.then(|| log::position(cursor.entry));
        let lag = newest.map_or(Duration::ZERO, |at| at.elapsed());
        Ok((FeedBatch { changes, position, lag, backlog: Some(backlog) }, cursor))
    }
}
