//! The record of what happened, each entry chained to the one before.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::Result;
use replank_core::driver::EventRecord;
use replank_core::ident::RunId;
use replank_core::journal::chain::{GENESIS, hash, moment, settled};

use super::{broken, lease, missing, records, unsigned};
use crate::connect::Server;
use crate::error::{from_mongo, is_duplicate};

/// Adds an entry behind the last one. Two that are added at once follow each other: the number is the document's `_id`.
pub async fn append(server: &Server, run: &RunId, kind: &str, body: &serde_json::Value) -> Result<()> {
    let events = records(server, "events");
    let body = settled(body)?;
    loop {
        let last = events.find_one(doc! {}).sort(doc! { "_id": -1 }).await.map_err(from_mongo)?;
        let last = last.as_ref().map(record).transpose()?;
        let (seq, previous, last_ms) = match last {
            Some(last) => (last.seq + 1, last.hash, last.at.as_millisecond()),
            None => (1, GENESIS.to_owned(), i64::MIN),
        };
        // A clock that was set back must not make the record look as if it was shuffled.
        let at_ms = lease::now_ms(server).await?.max(last_ms);
        let hash = hash(&previous, seq, moment(at_ms)?, run, kind, &body);
        let entry = doc! {
            "_id": super::signed(seq),
            "at_ms": at_ms,
            "run": run.as_str(),
            "kind": kind,
            "body": body.to_string(),
            "previous": previous,
            "hash": hash,
        };
        match events.insert_one(entry).await {
            Ok(_) => return Ok(()),
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(from_mongo(error)),
        }
    }
}

/// The entries of one run, or all, oldest first.
pub async fn load(server: &Server, run: Option<&RunId>) -> Result<Vec<EventRecord>> {
    let filter = run.map_or_else(Document::new, |run| doc! { "run": run.as_str() });
    let found = records(server, "events").find(filter).sort(doc! { "_id": 1 }).await.map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    found.iter().map(record).collect()
}

fn record(entry: &Document) -> Result<EventRecord> {
    let missing = missing("an event");
    let text = |field: &str| entry.get_str(field).map(ToOwned::to_owned).map_err(&missing);
    let number = |field: &str| entry.get_i64(field).map_err(&missing);
    Ok(EventRecord {
        seq: unsigned(number("_id")?),
        at: moment(number("at_ms")?)?,
        run: RunId::parse(&text("run")?)?,
        kind: text("kind")?,
        body: serde_json::from_str(&text("body")?).map_err(|error| broken("an event's body", error))?,
        previous: text("previous")?,
        hash: text("hash")?,
    })
}
