//! The change stream of the database as a feed of keys.

mod event;
mod place;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, Timestamp, doc};
use mongodb::ClientSession;
use replank_core::driver::{ChangeFeed, FeedBatch};
use replank_core::value::{Change, Position};
use replank_core::{Error, ErrorKind, Result};

pub use event::{Event, What};
pub use place::Place;

use crate::connect::{Server, answer, millis};
use crate::error::from_mongo;
use crate::key;
use crate::rebuild::Core;

/// Events that one message may bring. Chosen: with their keys alone some 100 KiB.
const BATCH: i32 = 500;
/// What is committed already is there within this; the rest of a transaction is.
const AT_HAND: Duration = Duration::from_millis(50);

/// A cursor on the database's change stream: events in order, and the place behind them.
pub struct Stream {
    session: ClientSession,
    database: mongodb::Database,
    cursor: i64,
    waiting: VecDeque<Document>,
    /// The token behind the last event that was handed out, or behind the last empty answer.
    token: Option<Document>,
}

impl Stream {
    /// Opens the stream behind a place. Only what is needed of an event leaves the server: a large document may not fit into one.
    ///
    /// # Errors
    /// [`ErrorKind::FeedGap`] where the oplog no longer reaches back.
    pub async fn open(server: &Server, collections: &[String], from: &Place) -> Result<Self> {
        // The server refuses a token that it no longer knows; a time it may take for the oldest that it has.
        if from.token.is_none() {
            reaches_back(server, from).await?;
        }
        let mut options = Document::new();
        match &from.token {
            Some(token) => options.insert("startAfter", token.clone()),
            None => options.insert("startAtOperationTime", from.time),
        };
        let names: Vec<&str> = collections.iter().map(String::as_str).collect();
        let of_us = doc! { "$or": [
            { "ns.coll": { "$in": &names } },
            { "to.coll": { "$in": &names } },
            { "operationType": { "$in": ["dropDatabase", "invalidate"] } },
        ] };
        let fields = doc! {
            "operationType": 1, "ns": 1, "to": 1, "documentKey": 1, "clusterTime": 1, "lsid": 1, "txnNumber": 1,
            "mark": { "$cond": [{ "$eq": ["$documentKey._id", crate::rebuild::MARK] }, "$updateDescription.updatedFields.n", "$$REMOVE"] },
        };
        let command = doc! {
            "aggregate": 1,
            "pipeline": [{ "$changeStream": options }, { "$match": of_us }, { "$project": fields }],
            "cursor": { "batchSize": BATCH },
            "readConcern": { "level": "majority" },
        };
        let mut session = server.session().await?;
        let database = server.database();
        let reply = answer(database.run_command(command).session(&mut session).await).map_err(gap)?;
        let mut stream =
            Self { session, database, cursor: 0, waiting: VecDeque::new(), token: from.token.clone() };
        stream.take(&reply, "firstBatch")?;
        Ok(stream)
    }

    fn take(&mut self, reply: &Document, batch: &str) -> Result<()> {
        let broken = |_| Error::new(ErrorKind::FeedGap, "the server's answer is no batch of a change stream");
        let cursor = reply.get_document("cursor").map_err(broken)?;
        self.cursor = cursor.get_i64("id").map_err(broken)?;
        let events = cursor.get_array(batch).map_err(broken)?;
        self.waiting.extend(events.iter().filter_map(Bson::as_document).cloned());
        if self.waiting.is_empty()
            && let Ok(token) = cursor.get_document("postBatchResumeToken")
        {
            self.token = Some(token.clone());
        }
        Ok(())
    }

    /// The next event; `None` where there was none within `wait`.
    ///
    /// # Errors
    /// [`ErrorKind::FeedGap`] where the stream has ended: it never goes on from now.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        if self.waiting.is_empty() {
            if self.cursor == 0 {
                return Err(Error::new(ErrorKind::FeedGap, "the change stream has ended"));
            }
            let wait = millis(wait).max(1);
            let more = doc! {
                "getMore": self.cursor, "collection": "$cmd.aggregate", "batchSize": BATCH, "maxTimeMS": wait,
            };
            let reply =
                answer(self.database.run_command(more).session(&mut self.session).await).map_err(gap)?;
            self.take(&reply, "nextBatch")?;
        }
        let Some(event) = self.waiting.pop_front() else { return Ok(None) };
        let event = Event::read(&event)?;
        self.token = Some(event.token.clone());
        Ok(Some(event))
    }

    /// Whether an event is at hand without asking the server.
    pub fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The token behind what was handed out.
    pub fn token(&self) -> Option<&Document> {
        self.token.as_ref()
    }
}

impl Drop for Stream {
    /// The server ends the cursor by itself after some minutes; it is told when it can be.
    fn drop(&mut self) {
        if self.cursor == 0 {
            return;
        }
        let (database, cursor) = (self.database.clone(), self.cursor);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let killing = doc! { "killCursors": "$cmd.aggregate", "cursors": [cursor] };
                if let Err(error) = database.run_command(killing).await {
                    tracing::debug!(%error, "a cursor is left to its time-out");
                }
            });
        }
    }
}

/// What can be said of a stream that cannot be opened or continued: that the oplog was cut is a gap, whatever the number.
fn gap(error: Error) -> Error {
    let says = error.message().to_ascii_lowercase();
    let is_gap = ["resume point", "resume token was not found", "history", "no longer be in the oplog"];
    if error.kind() == ErrorKind::Server && is_gap.iter().any(|words| says.contains(words)) {
        return Error::new(ErrorKind::FeedGap, error.message().to_owned())
            .hint("the oplog no longer reaches back to where this run stood: abort it and begin again");
    }
    error
}

/// Looks at the oplog itself, where we may read it: not every server refuses a start before its oldest entry.
async fn reaches_back(server: &Server, from: &Place) -> Result<()> {
    let oplog = server.client().database("local").collection::<Document>("oplog.rs");
    let oldest = match oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.map_err(from_mongo) {
        Ok(oldest) => oldest.and_then(|entry| entry.get_timestamp("ts").ok()),
        // Who may not read it has the server's word alone.
        Err(_) => None,
    };
    match oldest {
        Some(oldest) if oldest > from.time => {
            Err(Error::new(ErrorKind::FeedGap, "the oplog no longer reaches back to where this run stood")
                .with("oldest", oldest.time)
                .with("needed", from.time.time)
                .hint("abort the run and begin again; a larger oplog, or a faster run, keeps it"))
        }
        _ => Ok(()),
    }
}

/// The feed of one rebuild.
pub struct Feed {
    core: Arc<Core>,
    stream: Stream,
    place: Place,
    /// A change that did not fit into the last piece.
    held: Option<Event>,
    /// What ended the feed: it says the same for ever.
    over: Option<(ErrorKind, String)>,
    /// A `drop` of the live collection was seen: some servers tell so that a rename comes that replaces it.
    replaced: bool,
}

impl Feed {
    /// Opens the feed behind a position.
    pub async fn open(core: Arc<Core>, from: &Position) -> Result<Self> {
        let place = Place::read(from)?;
        let collections = [core.live().to_owned(), core.log()];
        let stream = Stream::open(core.server(), &collections, &place).await?;
        Ok(Self { core, stream, place, held: None, over: None, replaced: false })
    }

    async fn event(&mut self, wait: Duration) -> Result<Option<Event>> {
        match self.held.take() {
            Some(event) => Ok(Some(event)),
            None => self.stream.next(wait).await,
        }
    }

    /// What an event means here: a change, or nothing.
    fn change(&mut self, event: &Event) -> Result<Option<Change>> {
        if event.collection == self.core.log() {
            if let Some(mark) = event.mark {
                self.place.mark = self.place.mark.max(mark);
            }
            return Ok(None);
        }
        match &event.what {
            What::Written { id, removed } if event.collection == self.core.live() => {
                self.replaced_by_nobody()?;
                key::change(id, *removed, self.core.collation()).map(Some)
            }
            What::Written { .. } | What::Other => Ok(None),
            What::Renamed { to } => {
                if self.core.is_own_swap(&event.collection, to) {
                    self.replaced = false;
                    return Ok(None);
                }
                let says = format!("`{}` was renamed to `{to}` by somebody else", event.collection);
                Err(Error::new(ErrorKind::ForeignDdl, says))
            }
            What::Dropped if event.collection == self.core.live() => {
                self.replaced = true;
                Ok(None)
            }
            What::Dropped => Ok(None),
            What::Gone(word) => Err(Error::new(
                ErrorKind::FeedGap,
                format!("the change stream says `{word}`: what it follows is gone"),
            )),
        }
    }

    /// A live collection that was dropped, and then is written, is another one.
    fn replaced_by_nobody(&self) -> Result<()> {
        if self.replaced {
            let says = format!("`{}` was dropped and made again by somebody else", self.core.live());
            return Err(Error::new(ErrorKind::ForeignDdl, says));
        }
        Ok(())
    }

    async fn pull(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        let mut changes = Vec::new();
        let mut last: Option<Event> = None;
        while changes.len() < keys_max {
            let patience = if last.is_none() { wait } else { AT_HAND };
            let Some(event) = self.event(patience).await? else { break };
            changes.extend(self.change(&event)?);
            self.place.time = event.time;
            self.place.token = Some(event.token.clone());
            let is_alone = event.transaction.is_none();
            last = Some(event);
            if is_alone && !self.stream.has_more() {
                break;
            }
        }
        let is_whole = match &last {
            None => {
                // The oplog went on without us.
                self.place.token = self.stream.token().cloned().or(self.place.token.take());
                true
            }
            Some(Event { transaction: None, .. }) => true,
            Some(last) => {
                let next = self.event(AT_HAND).await?;
                let goes_on = next.as_ref().is_some_and(|next| next.transaction == last.transaction);
                self.held = next;
                !goes_on
            }
        };
        let position = is_whole.then(|| self.place.write());
        let lag = last.map_or(Duration::ZERO, |last| lag(last.time));
        Ok(FeedBatch { changes, position, lag, backlog: None })
    }
}

/// By this host's clock, and no more exact than seconds: the server's own is not asked for each batch.
fn lag(newest: Timestamp) -> Duration {
    let now = jiff::Timestamp::now().as_second();
    Duration::from_secs(u64::try_from(now - i64::from(newest.time)).unwrap_or(0))
}

#[async_trait]
impl ChangeFeed for Feed {
    async fn next(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        if let Some((kind, says)) = &self.over {
            return Err(Error::new(*kind, says.clone()));
        }
        let pulled = self.pull(keys_max, wait).await;
        if let Err(error) = &pulled
            && matches!(error.kind(), ErrorKind::FeedGap | ErrorKind::ForeignDdl)
        {
            self.over = Some((error.kind(), error.message().to_owned()));
        }
        pulled
    }
}
