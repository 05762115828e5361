//! One event of a change stream, as far as it concerns a rebuild.
//!
//! Source: <https://www.mongodb.com/docs/manual/reference/change-events/>.

use bson::{Bson, Document, Timestamp};
use replank_core::{Error, ErrorKind, Result};

use crate::inspect::number;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A document was written or removed.
    Written {
        /// Its `_id`.
        id: Bson,
        /// It was removed.
        removed: bool,
    },
    /// A collection got another name.
    Renamed {
        /// The new one.
        to: String,
    },
    /// A collection was dropped.
    Dropped,
    /// What the stream follows is gone.
    Gone(String),
    /// An index or an option changed, which is looked at by itself.
    Other,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub what: What,
    /// To which collection.
    pub collection: String,
    /// When.
    pub time: Timestamp,
    /// The stream goes on behind it from here.
    pub token: Document,
    /// The transaction that it is part of.
    pub transaction: Option<(Bson, i64)>,
    /// The count of our mark, where the event is of it.
    pub mark: Option<u64>,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// [`ErrorKind::FeedGap`] for one that cannot be understood: it is never passed over.
    pub fn read(event: &Document) -> Result<Self> {
        let strange = |what: &str| {
            Error::new(ErrorKind::FeedGap, format!("the change stream handed out an event without {what}"))
        };
        let word = event.get_str("operationType").map_err(|_| strange("operationType"))?;
        let id = || {
            let key = event.get_document("documentKey").map_err(|_| strange("documentKey"))?;
            key.get("_id").cloned().ok_or_else(|| strange("documentKey._id"))
        };
        let what = match word {
            "insert" | "update" | "replace" => What::Written { id: id()?, removed: false },
            "delete" => What::Written { id: id()?, removed: true },
            "rename" => {
                let to = event.get_document("to").and_then(|to| to.get_str("coll"));
                What::Renamed { to: to.map_err(|_| strange("to.coll"))?.to_owned() }
            }
            "drop" => What::Dropped,
            "dropDatabase" | "invalidate" => What::Gone(word.to_owned()),
            // Those of `showExpandedEvents`, which is not asked for.
            "create" | "createIndexes" | "dropIndexes" | "modify" => What::Other,
            other => {
                return Err(Error::new(
                    ErrorKind::FeedGap,
                    format!("the change stream says `{other}`, which is unknown here"),
                ));
            }
        };
        let collection =
            event.get_document("ns").ok().and_then(|ns| ns.get_str("coll").ok()).unwrap_or_default();
        let transaction = event.get("lsid").cloned().zip(event.get_i64("txnNumber").ok());
        Ok(Self {
            what,
            collection: collection.to_owned(),
            time: event.get_timestamp("clusterTime").map_err(|_| strange("clusterTime"))?,
            token: event.get_document("_id").map_err(|_| strange("a resume token"))?.clone(),
            transaction,
            mark: event.get("mark").map(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn event(more: Document) -> Document {
        let mut event = doc! {
            "_id": { "_data": "82" },
            "clusterTime": Timestamp { time: 1, increment: 2 },
            "ns": { "db": "d", "coll": "t" },
        };
        event.extend(more);
        event
    }

    #[test]
    fn keys_are_read_of_every_kind_of_write() {
        for word in ["insert", "update", "replace", "delete"] {
            let read =
                Event::read(&event(doc! { "operationType": word, "documentKey": { "_id": 7 } })).expect(word);
            assert_eq!(read.what, What::Written { id: Bson::Int32(7), removed: word == "delete" });
        }
    }

    #[test]
    fn what_cannot_be_understood_is_a_gap_and_never_passed_over() {
        let cases = [
            doc! { "operationType": "insert" },
            doc! { "operationType": "refineCollectionShardKey" },
            doc! { "operationType": "rename" },
            doc! {},
        ];
        for case in cases {
            assert_eq!(
                Event::read(&event(case.clone())).expect_err("refused").kind(),
                ErrorKind::FeedGap,
                "{case}"
            );
        }
        let gone = Event::read(&event(doc! { "operationType": "invalidate" })).expect("read");
        assert_eq!(gone.what, What::Gone("invalidate".into()));
    }
}
