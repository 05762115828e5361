//! A collection of any documents, and a writer that reads each back: what a document was last is what must be there in the end,
//! byte for byte, wherever it was written.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::change::besides;
use super::collection::{command, connect, documents, insert_many};
use crate::binary::{Ended, run_beside, run_within};
use crate::server::{self, mongo_database};

/// The collection.
pub const KEPT: &str = "kept";
/// A run that takes longer has come to a stand.
const LIMIT_SECONDS: u64 = 60;
/// Longer than a fence stands.
const PATIENCE: Duration = Duration::from_secs(20);
/// By the fence; or what was deleted just before a swap is there for a moment behind it.
const REFUSED: [i32; 2] = [121, 11_000];

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Of the document with this `_id`, which is there.
    Update(Bson, Document),
    /// The whole document, whether it is there or not.
    Put(Document),
    /// It goes; it is there.
    Delete(Bson),
}

/// By the bytes of an `_id`, the document, or that there is none.
type Known = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A database with one collection.
pub struct Kept {
    target: server::Database,
    known: Known,
}

impl Kept {
    /// A collection with these options, as `create` takes them, and these documents.
    pub async fn with(options: Document, all: &[Document]) -> Self {
        let target = mongo_database().await;
        let database = connect(&target.url).await;
        let mut create = doc! { "create": KEPT };
        create.extend(options);
        command(&database, create).await.expect("created");
        insert_many(&database, KEPT, all).await;
        let known = read(&database).await.into_iter().map(|(id, document)| (id, Some(document))).collect();
        Self { target, known }
    }

    /// The target, as a person types it.
    pub fn url(&self) -> String {
        self.target.url.clone()
    }

    /// Its database's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// The database, as an application opens it.
    pub async fn connect(&self) -> Database {
        connect(&self.url()).await
    }

    /// Rebuilds it by way of an address of the server's.
    pub async fn rebuild(&self, url: &str, more: &[&str]) -> Ended {
        rebuild(url, more).await
    }

    /// A later command on the run.
    pub async fn go_on(&self, command: &str) -> Ended {
        run_beside(&[command, "last", "-t", &self.url(), "--yes"], &[]).await
    }

    /// Writes these again and again, with so long a pause after each.
    pub async fn write(&self, writes: Vec<Write>, pause: Duration) -> Writing {
        let (stop, mut is_stopped) = watch::channel(false);
        let (database, mut known) = (self.connect().await, self.known.clone());
        let task = tokio::spawn(async move {
            let mut count = 0;
            loop {
                for write in &writes {
                    if *is_stopped.borrow_and_update() {
                        return (known, count);
                    }
                    carry_out(&database, write, &mut known).await;
                    count += 1;
                    sleep(pause).await;
                }
            }
        });
        Writing { stop, task }
    }

    /// Writes these once.
    pub async fn write_once(&mut self, writes: &[Write]) {
        let database = self.connect().await;
        for write in writes {
            carry_out(&database, write, &mut self.known).await;
        }
    }

    /// Every document is what it was last.
    pub async fn check(&self) {
        let database = self.connect().await;
        let mut found = read(&database).await;
        let shown = |bytes: Option<&Vec<u8>>| {
            bytes.map(|bytes| format!("{:?}", Document::from_reader(bytes.as_slice())))
        };
        let mut wrong = Vec::new();
        for (id, expected) in &self.known {
            let actual = found.remove(id);
            if actual != *expected {
                wrong.push(format!("{:?} is {:?}", shown(expected.as_ref()), shown(actual.as_ref())));
            }
        }
        wrong.extend(found.values().map(|document| format!("nobody wrote {:?}", shown(Some(document)))));
        wrong.truncate(8);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Rebuilds the collection of a database.
pub async fn rebuild(url: &str, more: &[&str]) -> Ended {
    let mut args = vec!["rebuild", KEPT, "-t", url, "--yes"];
    args.extend(more);
    let besides = besides(&connect(url).await).await;
    args.extend(besides.iter().map(String::as_str));
    run_within(LIMIT_SECONDS, &args).await
}

/// A writer at work.
pub struct Writing {
    stop: watch::Sender<bool>,
    task: JoinHandle<(Known, u64)>,
}

impl Writing {
    /// Stops it after the write that it is at; answers with how many there were.
    pub async fn stop(self, kept: &mut Kept) -> u64 {
        self.stop.send_replace(true);
        let (known, count) = self.task.await.expect("the writer ended in a panic");
        kept.known = known;
        count
    }
}

/// Carries a write out, again where it is refused for now, and notes what the document is afterwards.
async fn carry_out(database: &Database, write: &Write, known: &mut Known) {
    let id = match write {
        Write::Update(id, _) | Write::Delete(id) => id.clone(),
        Write::Put(document) => document.get("_id").expect("it has one").clone(),
    };
    let query = doc! { "_id": id };
    let key = query.to_vec().expect("a document has bytes");
    let mut asked = match write {
        Write::Update(_, update) => {
            doc! { "update": KEPT, "updates": [{ "q": query.clone(), "u": update.clone() }] }
        }
        Write::Put(document) if known.get(&key).is_some_and(Option::is_some) => {
            doc! { "update": KEPT, "updates": [{ "q": query.clone(), "u": document.clone() }] }
        }
        Write::Put(document) => doc! { "insert": KEPT, "documents": [document.clone()] },
        Write::Delete(_) => doc! { "delete": KEPT, "deletes": [{ "q": query.clone(), "limit": 1 }] },
    };
    asked.insert("writeConcern", doc! { "w": "majority" });
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = command(database, asked.clone()).await.expect("answered");
        let refused = answer.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document());
        match refused {
            // A server that moves documents one by one to rename their collection finds none for a moment.
            None if answer.get_i32("n").is_ok_and(|n| n == 1) => break,
            Some(error) if error.get_i32("code").is_ok_and(|code| !REFUSED.contains(&code)) => {
                panic!("{write:?}: {error}")
            }
            _ => assert!(Instant::now() < until, "{write:?}: {answer}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    if let Write::Delete(_) = write {
        known.insert(key, None);
        return;
    }
    let collection = database.collection::<RawDocumentBuf>(KEPT);
    loop {
        if let Some(found) = collection.find_one(query.clone()).await.expect("read") {
            known.insert(key, Some(found.into_bytes()));
            return;
        }
        assert!(Instant::now() < until, "{write:?}: it is not there");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn read(database: &Database) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = documents(database, KEPT).await;
    let count = all.len();
    let read: BTreeMap<Vec<u8>, Vec<u8>> = all
        .into_iter()
        .map(|document| {
            let id = document.get("_id").expect("a document").expect("it has an _id");
            let id = doc! { "_id": Bson::try_from(id).expect("a value") };
            (id.to_vec().expect("bytes"), document.into_bytes())
        })
        .collect();
    assert_eq!(read.len(), count, "an _id is there twice");
    read
}
