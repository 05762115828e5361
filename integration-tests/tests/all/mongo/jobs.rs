//! Updates and deletes of many documents, in ranges: what one command of the server's would have left, whatever happens meanwhile.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::change::settings;
use super::collection::{command, copy, documents, insert_many};
use super::orders::{COLLECTION, Orders};
use super::{Load, Settings};
use crate::binary::{Ended, replank, run_beside};
use crate::random::seed;

/// Every document gets a region, made of another field.
const UPDATE: &str = r#"{"update": "orders", "updates": [{"q": {"region": {"$exists": false}},
    "u": [{"$set": {"region": {"$concat": ["of ", "$place.city"]}}}], "multi": true}]}"#;
/// A third of the documents goes.
const DELETE: &str = r#"{"delete": "orders", "deletes": [{"q": {"note": {"$exists": false}}, "limit": 0}]}"#;
/// Many ranges, and a checkpoint can be met between them.
const SMALL: [&str; 2] = ["--throttle", "chunk_rows_max=20"];

async fn go(orders: &Orders, args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let url = orders.url();
    let mut all = args.to_vec();
    all.extend(["-t", &url, "--yes"]);
    run_beside(&all, environment).await
}

async fn apply(orders: &Orders, text: &str, more: &[&str]) -> Ended {
    let mut args = vec!["apply", "-e", text];
    args.extend(more);
    go(orders, &args, &[]).await
}

/// What one command of the server's leaves of the same documents.
async fn by_the_server(orders: &Orders, change: Document) -> Vec<mongodb::bson::RawDocumentBuf> {
    let database = orders.connect().await;
    copy(&database, COLLECTION, "twin").await;
    command(&database, change).await.expect("done");
    let left = documents(&database, "twin").await;
    command(&database, doc! { "drop": "twin" }).await.expect("dropped");
    left
}

fn update() -> Document {
    doc! { "update": "twin", "updates": [{ "q": {}, "multi": true,
    "u": [{ "$set": { "region": { "$concat": ["of ", "$place.city"] } } }] }] }
}

fn delete() -> Document {
    doc! { "delete": "twin", "deletes": [{ "q": { "note": { "$exists": false } }, "limit": 0 }] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_an_update_of_many_leaves_what_one_command_would() {
    let orders = Orders::with_documents(300).await;
    let expected = by_the_server(&orders, update()).await;
    apply(&orders, UPDATE, &SMALL).await.exits(3).says("--no-revert");
    let mut more = SMALL.to_vec();
    more.push("--no-revert");
    apply(&orders, UPDATE, &more).await.exits(0).says("D306");
    assert_eq!(documents(&orders.connect().await, COLLECTION).await, expected);
    go(&orders, &["status", "last"], &[]).await.says("finalized");
}

/// Killed after any range, or with its checkpoint just saved, it goes on: a range that is written twice is written once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_job_that_is_killed_goes_on_where_it_was() {
    for boundary in
        ["lease_taken", "run_saved", "chunk_committed", "chunk_committed:7", "checkpoint_saved", "step_done"]
    {
        for (text, same) in [(UPDATE, update()), (DELETE, delete())] {
            let orders = Orders::with_documents(200).await;
            let expected = by_the_server(&orders, same).await;
            let mut args = vec!["apply", "-e", text, "--no-revert"];
            args.extend(SMALL);
            go(&orders, &args, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
            // The same command again goes on with it.
            go(&orders, &args, &[]).await.exits(0);
            assert_eq!(documents(&orders.connect().await, COLLECTION).await, expected, "{boundary}");
            let names = orders.connect().await.list_collection_names().await.expect("listed");
            assert_eq!(names, [COLLECTION], "{boundary}");
        }
    }
}

/// Writers go on meanwhile: every document is what they wrote, with the region or, where it was written behind the job's back,
/// without it. None of those that nobody wrote is without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_an_update_of_many_under_load_loses_no_write() {
    let test = "on_mongo_an_update_of_many_under_load_loses_no_write";
    let orders = Orders::with_documents(400).await;
    let settings = Settings { field: "note", ..settings(&orders).await };
    let load = Load::start(&orders, seed(test), settings).await;
    load.write_on(20).await;
    apply(&orders, UPDATE, &["--no-revert", "--throttle", "chunk_rows_max=20"]).await.exits(0);
    load.write_on(20).await;
    let journal = load.stop().await;
    println!("{test}: {:?}", journal.summary);
    let with_region = |document: &Document| {
        let mut document = document.clone();
        if let Ok(city) = document.get_document("place").and_then(|place| place.get_str("city")) {
            let region = format!("of {city}");
            document.insert("region", region);
        }
        document
    };
    // An update of a field of a document with a region leaves it where it is: at the end, or before what came later.
    let left = orders.connect().await;
    let mut without = 0;
    for raw in documents(&left, COLLECTION).await {
        let mut document = Document::try_from(raw.as_ref()).expect("a document");
        match document.remove("region") {
            None => without += 1,
            Some(region) => {
                let expected = with_region(&document);
                // A document that a writer has made of one field alone has no city, and null for a region.
                assert_eq!(
                    expected.get("region").cloned().unwrap_or(mongodb::bson::Bson::Null),
                    region,
                    "{document}"
                );
            }
        }
        let this = doc! { "_id": document.get("_id").cloned() };
        left.collection::<Document>(COLLECTION).replace_one(this, document).await.expect("replaced");
    }
    journal.check(&orders, Document::clone).await;
    let summary = &journal.summary;
    assert!(without > 0 && without < 400, "{without} of 400 were written behind the job: {summary:?}");
    assert_eq!(summary.unknown, 0, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_documents_that_cannot_be_written_are_named_or_set_aside() {
    let orders = Orders::with_documents(100).await;
    let database = orders.connect().await;
    let odd: Vec<Document> =
        ["n/a", "?", ""].iter().map(|text| doc! { "_id": format!("odd {text}"), "customer": text }).collect();
    insert_many(&database, COLLECTION, &odd).await;
    let text = r#"{"update": "orders", "updates": [{"q": {"number": {"$exists": false}},
        "u": [{"$set": {"number": {"$toInt": "$customer"}}}], "multi": true}]}"#;
    apply(&orders, text, &["--no-revert"]).await.exits(3).says("D308").says("quarantine_max");
    let waived =
        ["--no-revert", "-D", "waive=D308 reason=\"three are known\"", "--throttle", "chunk_rows_max=20"];
    let mut few = waived.to_vec();
    few.extend(["--throttle", "quarantine_max=2"]);
    apply(&orders, text, &few).await.exits(1).says("cannot be written").says("2 were put aside already");
    go(&orders, &["throttle", "last", "quarantine_max=3"], &[]).await.exits(0);
    let ended = go(&orders, &["resume", "last"], &[]).await.exits(0);
    ended.says("3 documents could not be written").says("odd n/a");
    for raw in documents(&database, COLLECTION).await {
        let document = Document::try_from(raw.as_ref()).expect("a document");
        let customer = document.get_str("customer").expect("a customer");
        let number = document.get("number").and_then(mongodb::bson::Bson::as_i32);
        assert_eq!(number, customer.parse().ok(), "{document}");
    }
    let records = database.client().database(&format!("_replank_{}", orders.name()));
    let noted = documents(&records, "quarantine").await;
    assert_eq!(noted.len(), 3);
    assert!(noted.iter().all(|one| one.get_str("reason").is_ok_and(|reason| !reason.is_empty())));
}

/// A collection that somebody replaces is not the one that the job was for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_job_ends_where_its_collection_was_replaced() {
    let orders = Orders::with_documents(100).await;
    let database = orders.connect().await;
    let args = ["apply", "-e", DELETE, "--no-revert", "--throttle", "chunk_rows_max=20"];
    go(&orders, &args, &[("REPLANK_KILL_AT", "chunk_committed:2")]).await.was_killed();
    command(&database, doc! { "drop": COLLECTION }).await.expect("dropped");
    insert_many(&database, COLLECTION, &[doc! { "_id": 1 }]).await;
    let url = orders.url();
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[])
        .await
        .exits(1)
        .says("is not the collection any more");
    assert_eq!(documents(&database, COLLECTION).await.len(), 1, "what is there now was not written");
    go(&orders, &["abort", "last"], &[]).await.exits(0);
    go(&orders, &["status", "last"], &[]).await.says("aborted");
}

/// It is paused, slowed down and given up from another process, and what was written stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_job_is_paused_and_given_up_from_elsewhere() {
    let orders = Orders::with_documents(400).await;
    let url = orders.url();
    let text = UPDATE;
    let mut command = replank(&[
        "apply",
        "-e",
        text,
        "-t",
        &url,
        "--yes",
        "--no-revert",
        "--throttle",
        "chunk_rows_max=2",
        "--throttle",
        "copy_percent=10",
    ]);
    let mut job = command
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("begun");
    let written = || async {
        let found = orders.connect().await.collection::<Document>(COLLECTION);
        found.count_documents(doc! { "region": { "$exists": true } }).await.expect("counted")
    };
    while written().await < 6 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    go(&orders, &["pause", "last"], &[]).await.exits(0);
    let paused = written().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(written().await, paused, "nothing is written in a pause");
    go(&orders, &["status", "last"], &[]).await.says("paused");
    go(&orders, &["resume", "last"], &[]).await.exits(0);
    while written().await <= paused {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    go(&orders, &["abort", "last"], &[]).await.exits(0);
    job.wait().expect("it ends");
    let given_up = written().await;
    assert!(given_up < 400, "{given_up}");
    go(&orders, &["status", "last"], &[]).await.says("aborted");
    // The rest is a job of its own.
    apply(&orders, text, &["--no-revert"]).await.exits(0);
    assert_eq!(written().await, 400);
}
