//! The change that the tests make: a text becomes a number, and goes back.

use std::io::Write as _;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use tempfile::NamedTempFile;

use super::Settings;
use super::collection::{command, documents, is_secantus};
use super::orders::{COLLECTION, Orders};
use crate::binary::{Ended, run_beside};
use crate::stopped::Stopped;

const FORWARD: &str = r#"[{"$set": {"customer": {"$toInt": "$customer"}}}]"#;
const BACKWARD: &str = r#"[{"$set": {"customer": {"$toString": "$customer"}}}]"#;
/// Whoever tests on a server that lets transactions pass a fence says so, and writes without them.
const WAIVER: &str = r#"waive=D323 reason="the writers of this test have no transactions""#;

/// It writes every document of a collection anew to rename it, while writes are refused.
const SLOW: &str = "3s";
/// Of some tens of documents.
const HURRIED: &str = "1s";

/// `replank rebuild`, with its files.
pub struct Change {
    forward: NamedTempFile,
    backward: NamedTempFile,
    lock_budget: &'static str,
}

impl Change {
    /// The files of the change.
    pub fn new() -> Self {
        Self { forward: file(FORWARD), backward: file(BACKWARD), lock_budget: SLOW }
    }

    /// The same on a collection that is small: its fence is gone in a moment.
    pub fn in_a_hurry() -> Self {
        Self { lock_budget: HURRIED, ..Self::new() }
    }

    /// Begins it, with variables of the environment; `more` are further arguments.
    pub async fn begin(&self, orders: &Orders, more: &[&str], environment: &[(&str, &str)]) -> Ended {
        let args = self.args(&orders.url(), orders, more).await;
        run_beside(&args.iter().map(String::as_str).collect::<Vec<_>>(), environment).await
    }

    /// Begins it, until it stops itself at a boundary.
    pub async fn stopped_at(&self, boundary: &str, orders: &Orders, environment: &[(&str, &str)]) -> Stopped {
        let args = self.args(&orders.url(), orders, &[]).await;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Stopped::within(boundary, &args, environment).await
    }

    /// The command line that begins it by way of an address of the server's.
    pub async fn args(&self, url: &str, orders: &Orders, more: &[&str]) -> Vec<String> {
        let (forward, backward) = (path(&self.forward), path(&self.backward));
        let mut args = vec!["rebuild", COLLECTION, "--pipeline", &forward, "--reverse-pipeline", &backward];
        args.extend(["-t", url, "--yes"]);
        args.extend(more);
        let mut args: Vec<String> = args.into_iter().map(ToOwned::to_owned).collect();
        args.extend(for_server(&orders.connect().await, self.lock_budget).await);
        args
    }
}

/// What a command line says besides on the server that is tested.
pub async fn besides(database: &mongodb::Database) -> Vec<String> {
    for_server(database, SLOW).await
}

async fn for_server(database: &mongodb::Database, budget: &str) -> Vec<String> {
    if !is_secantus(database).await {
        return Vec::new();
    }
    let fence = format!("fence_budget={budget}");
    ["-D", WAIVER, "--lock-budget", budget, "-D", &fence].map(ToOwned::to_owned).to_vec()
}

/// A file with this text, which goes when it is dropped.
pub fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// Where it is.
pub fn path(file: &NamedTempFile) -> String {
    file.path().to_str().expect("a path in UTF-8").to_owned()
}

/// Writers that a server's own weakness does not touch.
pub async fn settings(orders: &Orders) -> Settings {
    // SecantusDB looks at every document for each key that is asked for, in one thread: what is written faster than this is never
    // caught up with.
    let is_secantus = is_secantus(&orders.connect().await).await;
    let pause = Duration::from_millis(if is_secantus { 400 } else { 8 });
    Settings {
        transactions: !is_secantus,
        may_miss: is_secantus,
        may_be_seen_again: true,
        pause,
        ..Settings::default()
    }
}

/// Indexes of every kind that must be there afterwards, a validator among what is kept.
pub async fn adorn(orders: &Orders) {
    let database = orders.connect().await;
    let indexes = doc! {
        "createIndexes": COLLECTION,
        "indexes": [
            { "key": { "version": -1, "customer": 1 }, "name": "z then a" },
            { "key": { "place.city": 1 }, "name": "city", "sparse": true },
            { "key": { "amount": 1 }, "name": "large", "partialFilterExpression": { "amount": { "$gt": 100 } } },
            { "key": { "note": 1 }, "name": "note", "collation": { "locale": "en", "strength": 2 } },
        ],
    };
    command(&database, indexes).await.expect("built");
    let validator = doc! {
        "collMod": COLLECTION, "validator": { "customer": { "$exists": true } }, "validationLevel": "moderate",
    };
    command(&database, validator).await.expect("modified");
}

/// What the server says of the collection: its options, and its indexes.
pub async fn definition(orders: &Orders) -> (Document, Vec<Document>) {
    let database = orders.connect().await;
    let listed = command(&database, doc! { "listCollections": 1, "filter": { "name": COLLECTION } }).await;
    let mut indexes =
        first_batch(&command(&database, doc! { "listIndexes": COLLECTION }).await.expect("listed"));
    indexes.sort_by_key(|index| index.get_str("name").expect("a name").to_owned());
    let entry = first_batch(&listed.expect("listed")).remove(0);
    let mut options = entry.get_document("options").expect("options").clone();
    // What is so anyhow may be said, and a validator that was taken away again may be left empty.
    for (option, usual) in [("validationLevel", "strict"), ("validationAction", "error")] {
        if options.get_str(option).is_ok_and(|said| said == usual) {
            options.remove(option);
        }
    }
    if options.get_document("validator").is_ok_and(Document::is_empty) {
        for option in ["validator", "validationLevel", "validationAction"] {
            options.remove(option);
        }
    }
    (options, indexes)
}

fn first_batch(reply: &Document) -> Vec<Document> {
    let batch =
        reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("a batch");
    batch.iter().map(|item| item.as_document().expect("a document").clone()).collect()
}

/// Nothing of a run is left in the database but what it was for.
pub async fn assert_no_helpers(orders: &Orders) {
    let names = orders.connect().await.list_collection_names().await.expect("listed");
    assert_eq!(names, [COLLECTION]);
    assert!(!documents(&orders.connect().await, COLLECTION).await.is_empty());
}
