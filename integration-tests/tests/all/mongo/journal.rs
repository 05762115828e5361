//! What the writers were told, and what the collection must hold for it.
//!
//! Each document has one writer, which knows what it is after each write that was acknowledged. A write whose answer
//! was lost, or that failed in a way that says nothing, leaves two possibilities, and its writer never touches that
//! document again. Of a transaction all documents are as before, or all as after.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::bson::{Document, RawDocument, doc};
use tokio::time::Instant;

use super::collection::documents;
use super::orders::{COLLECTION, Orders, id};

/// A document that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What it is.
    pub document: Document,
    /// When the write that decided its shape was sent.
    pub sent: Instant,
    /// When that one was answered.
    pub answered: Instant,
}

/// What a document is before and after a write of which nobody knows whether it was done.
pub type Possibilities = (Option<Stored>, Option<Stored>);

/// The journal of one writer, or of all.
#[derive(Debug, Default)]
pub struct Journal {
    /// By key: what is there, or that nothing is.
    pub known: BTreeMap<u64, Option<Stored>>,
    /// Each one write or one transaction, by key.
    pub unknown: Vec<BTreeMap<u64, Possibilities>>,
    /// What the server said that cannot be, such as that a document is not there which is.
    pub contradictions: Vec<String>,
    /// The figures.
    pub summary: Summary,
}

/// What a test prints and judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Writes acknowledged, and transactions.
    pub acknowledged: u64,
    /// Transactions that their writer took back.
    pub taken_back: u64,
    /// Ended by the server because of another write: every application tries again then.
    pub conflicts: u64,
    /// Refused by the validation of documents.
    pub refused: u64,
    /// The first and the last refusal.
    pub refused_between: Option<(Instant, Instant)>,
    /// Refused by a document that had been deleted in the moment of a swap, and was there again until the run noticed.
    pub seen_again: u64,
    /// No server was found to send them to.
    pub not_sent: u64,
    /// Nobody knows whether they were done.
    pub unknown: u64,
    /// Transactions that failed before they were committed.
    pub failed: u64,
    /// The first reason of those three.
    pub trouble: Option<String>,
    /// The longest time of one write or transaction.
    pub longest: Duration,
}

/// As many writes may meet a document that was deleted in the moment of a swap. Seen: one in some 25 swaps.
const SEEN_AGAIN_MOST: u64 = 2;

impl Journal {
    /// A write was refused by the validation.
    pub fn refuse(&mut self) {
        let now = Instant::now();
        self.summary.refused += 1;
        let first = self.summary.refused_between.map_or(now, |(first, _)| first);
        self.summary.refused_between = Some((first, now));
    }

    /// The first trouble is kept.
    pub fn trouble(&mut self, why: &str) {
        self.summary.trouble.get_or_insert_with(|| why.to_owned());
    }

    /// Takes in another writer's journal.
    pub fn merge(&mut self, other: Self) {
        self.known.extend(other.known);
        self.unknown.extend(other.unknown);
        self.contradictions.extend(other.contradictions);
        let (ours, theirs) = (&mut self.summary, other.summary);
        ours.acknowledged += theirs.acknowledged;
        ours.taken_back += theirs.taken_back;
        ours.conflicts += theirs.conflicts;
        ours.refused += theirs.refused;
        ours.refused_between = match (ours.refused_between, theirs.refused_between) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
        ours.seen_again += theirs.seen_again;
        ours.not_sent += theirs.not_sent;
        ours.unknown += theirs.unknown;
        ours.failed += theirs.failed;
        ours.trouble = ours.trouble.take().or(theirs.trouble);
        ours.longest = ours.longest.max(theirs.longest);
    }

    /// Compares the collection with the journal, byte by byte: every document is what `transform` makes of what was
    /// written.
    ///
    /// # Panics
    /// With the first differences.
    pub async fn check(&self, orders: &Orders, transform: impl Fn(&Document) -> Document) {
        let differences = self.differences(orders, |stored| vec![transform(&stored.document)]).await;
        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// The same after a swap, while the writers went on as before: what was written before it is transformed, and what
    /// was written after it is not. There must be one moment of which that is true. Answers how many documents can only
    /// be of before, and how many only of after.
    ///
    /// # Panics
    /// With the first differences, or when there is no such moment.
    pub async fn check_swapped(
        &self,
        orders: &Orders,
        transform: impl Fn(&Document) -> Document,
    ) -> (usize, usize) {
        let differences = self
            .differences(orders, |stored| vec![transform(&stored.document), stored.document.clone()])
            .await;
        assert!(differences.is_empty(), "{differences:#?}");
        let found = found(orders).await;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (key, stored) in self.known.iter().filter_map(|(key, stored)| Some((*key, stored.as_ref()?))) {
            let (old, new) = (bytes(&stored.document), bytes(&transform(&stored.document)));
            match found.get(&bytes(&doc! { "_id": id(key) })) {
                Some(actual) if old != new && *actual == new => before.push(stored.sent),
                Some(actual) if old != new && *actual == old => after.push(stored.answered),
                _ => {}
            }
        }
        if let (Some(last), Some(first)) = (before.iter().max(), after.iter().min()) {
            assert!(
                last <= first,
                "sent {:?} after one was stored as it was written: transformed",
                *last - *first
            );
        }
        (before.len(), after.len())
    }

    /// Where the collection is not what the journal says, at most a few. `accepted` are the documents that may be there
    /// for one that was written.
    pub async fn differences(
        &self,
        orders: &Orders,
        accepted: impl Fn(&Stored) -> Vec<Document>,
    ) -> Vec<String> {
        let mut found = found(orders).await;
        let mut wrong = self.contradictions.clone();
        if self.summary.seen_again > SEEN_AGAIN_MOST {
            wrong.push(format!("{} writes met what had been deleted", self.summary.seen_again));
        }
        let is_so = |actual: Option<&Vec<u8>>, expected: Option<&Stored>| match (actual, expected) {
            (None, None) => true,
            (Some(actual), Some(stored)) => accepted(stored).iter().any(|one| bytes(one) == *actual),
            _ => false,
        };
        let of_group: Vec<&u64> = self.unknown.iter().flat_map(BTreeMap::keys).collect();
        for (key, expected) in self.known.iter().filter(|(key, _)| !of_group.contains(key)) {
            let actual = found.remove(&bytes(&doc! { "_id": id(*key) }));
            if !is_so(actual.as_ref(), expected.as_ref()) {
                let expected = expected.as_ref().map(&accepted);
                wrong.push(format!(
                    "{key}: {expected:?} was acknowledged, and there is {}",
                    shown(actual.as_ref())
                ));
            }
        }
        for group in &self.unknown {
            let actual: BTreeMap<u64, Option<Vec<u8>>> =
                group.keys().map(|key| (*key, found.remove(&bytes(&doc! { "_id": id(*key) })))).collect();
            let all = |choose: fn(&Possibilities) -> Option<&Stored>| {
                group.iter().all(|(key, both)| is_so(actual[key].as_ref(), choose(both)))
            };
            if !all(|both| both.0.as_ref()) && !all(|both| both.1.as_ref()) {
                let actual: Vec<String> = actual.values().map(|actual| shown(actual.as_ref())).collect();
                wrong.push(format!("neither as before nor as after, {group:?}: there is {actual:?}"));
            }
        }
        wrong.extend(found.values().map(|document| format!("nobody wrote {}", shown(Some(document)))));
        wrong.truncate(SHOWN);
        wrong
    }
}

/// Of more differences nobody learns more.
const SHOWN: usize = 8;

/// All documents, by `_id`.
async fn found(orders: &Orders) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = documents(&orders.connect().await, COLLECTION).await;
    let found: BTreeMap<Vec<u8>, Vec<u8>> = all
        .iter()
        .map(|document| {
            let id = document.get("_id").expect("a document").expect("a document has an _id");
            (
                bytes(&doc! { "_id": mongodb::bson::Bson::try_from(id).expect("a value") }),
                document.as_bytes().to_vec(),
            )
        })
        .collect();
    assert_eq!(all.len(), found.len(), "an _id is there twice");
    found
}

fn bytes(document: &Document) -> Vec<u8> {
    document.to_vec().expect("a document has bytes")
}

fn shown(document: Option<&Vec<u8>>) -> String {
    document.map_or("nothing".to_owned(), |bytes| {
        format!("{:?}", RawDocument::from_bytes(bytes).map(Document::try_from))
    })
}
