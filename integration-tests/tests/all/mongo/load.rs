//! Writers that run until they are stopped, and journal what they are told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::journal::{Journal, Stored};
use super::orders::{Orders, first};
use super::writer::Writer;
use crate::random::Random;

/// How an application writes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many connections write, each its own documents.
    pub writers: u64,
    /// Whether some of them are transactions over several documents, of which some are taken back.
    pub transactions: bool,
    /// Whether documents are deleted: no validation refuses that.
    pub deletes: bool,
    /// The longest rest after a write.
    pub pause: Duration,
    /// The field that is set without the rest of its document. With `customer` the change may concern no other field:
    /// a document of the old shape with a customer of the new one is in neither.
    pub field: &'static str,
    /// Whether a document that is there may be missed by a write: SecantusDB moves documents one by one when it renames a
    /// collection, and finds nothing meanwhile. Such a document must still be what it was; nobody writes it again.
    pub may_miss: bool,
    /// Whether a document that was deleted in the moment of a swap may be in the way of its own re-insert for a moment, as
    /// `docs/mongodb.md` tells of a rebuild. Such writes are counted apart, and few are allowed.
    pub may_be_seen_again: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            writers: 4,
            transactions: true,
            deletes: true,
            pause: Duration::from_millis(8),
            field: "customer",
            may_miss: false,
            may_be_seen_again: false,
        }
    }
}

/// Writers at work.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<Journal>,
}

/// What the writers and their test tell each other.
#[derive(Default)]
pub struct Shared {
    is_stopped: AtomicBool,
    acknowledged: AtomicU64,
    last_trouble: Mutex<Option<String>>,
}

impl Shared {
    /// Whether the test wants no more.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// A write was acknowledged.
    pub fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// For the report of a test that fails.
    pub fn trouble(&self, why: &str) {
        *self.last_trouble.lock().expect("nobody panics under it") = Some(why.to_owned());
    }
}

impl Load {
    /// Starts writers on all documents of a collection, and on new ones.
    pub async fn start(orders: &Orders, seed: u64, settings: Settings) -> Self {
        let (shared, mut tasks) = (Arc::new(Shared::default()), JoinSet::new());
        let now = Instant::now();
        for number in 0..settings.writers {
            let known = (0..orders.documents)
                .filter(|key| key % settings.writers == number)
                .map(|key| (key, Some(Stored { document: first(key), sent: now, answered: now })))
                .collect();
            let journal = Journal { known, ..Journal::default() };
            // The first one of its own above all that are there.
            let first_fresh = orders.documents.next_multiple_of(settings.writers) + number;
            let random = Random::new(seed, number);
            let writer = Writer::new(orders.connect().await, random, journal, first_fresh, settings.clone());
            tasks.spawn(writer.write(Arc::clone(&shared)));
        }
        Self { shared, tasks }
    }

    /// Until so many more writes are acknowledged.
    ///
    /// # Panics
    /// When they are not within a minute, with what the writers were told last.
    pub async fn write_on(&self, writes: u64) {
        let goal = self.shared.acknowledged.load(Ordering::SeqCst) + writes;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.shared.acknowledged.load(Ordering::SeqCst) < goal {
            if Instant::now() > deadline {
                let trouble = self.shared.last_trouble.lock().expect("nobody panics under it").clone();
                panic!("the writers stand still: {trouble:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops them, after the write that each is at.
    pub async fn stop(mut self) -> Journal {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let mut journal = Journal::default();
        while let Some(ended) = self.tasks.join_next().await {
            journal.merge(ended.expect("a writer ended in a panic"));
        }
        journal
    }
}
