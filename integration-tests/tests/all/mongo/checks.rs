//! What the comparison with the journal finds: one that finds nothing proves nothing.

use mongodb::bson::{Document, doc};

use super::collection::{command, insert_many};
use super::journal::Journal;
use super::orders::{COLLECTION, retyped};
use super::{Load, Orders, Settings};
use crate::random::seed;

/// Some writes, all of which are known.
async fn written(test: &str) -> (Orders, Journal) {
    let orders = Orders::with_documents(50).await;
    let load = Load::start(&orders, seed(test), Settings { writers: 2, ..Settings::default() }).await;
    load.write_on(60).await;
    let journal = load.stop().await;
    journal.check(&orders, Document::clone).await;
    (orders, journal)
}

/// What the comparison finds after a command.
async fn found_after(orders: &Orders, journal: &Journal, change: Document) -> Vec<String> {
    command(&orders.connect().await, change).await.expect("done");
    journal.differences(orders, |stored| vec![stored.document.clone()]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_comparison_finds_what_is_lost_invented_or_changed_in_its_type_alone() {
    let (orders, journal) = written("on_mongo_the_comparison_finds").await;
    let one = doc! { "_id": { "$exists": true }, "version": { "$type": "int" } };
    let to_long = doc! { "q": one.clone(), "u": [{ "$set": { "version": { "$toLong": "$version" } } }] };
    let found = found_after(&orders, &journal, doc! { "update": COLLECTION, "updates": [to_long] }).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let deleted = doc! { "delete": COLLECTION, "deletes": [{ "q": one, "limit": 1 }] };
    let found = found_after(&orders, &journal, deleted).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().any(|one| one.contains("there is nothing")), "{found:#?}");
    insert_many(&orders.connect().await, COLLECTION, &[doc! { "_id": "nobody's" }]).await;
    let found = journal.differences(&orders, |stored| vec![stored.document.clone()]).await;
    assert!(found.iter().any(|one| one.starts_with("nobody wrote")), "{found:#?}");
}

/// All writes are refused, what is there is copied, and the copy takes its place: as simple as a swap can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_comparison_tells_what_was_written_before_a_swap_from_what_came_after() {
    let test = "on_mongo_the_comparison_tells_what_was_written_before_a_swap_from_what_came_after";
    let orders = Orders::with_documents(300).await;
    let database = orders.connect().await;
    // What is deleted meanwhile would come back, and so would what a transaction had still to commit.
    let settings = Settings { transactions: false, deletes: false, ..Settings::default() };
    let load = Load::start(&orders, seed(test), settings).await;
    load.write_on(100).await;
    let fence = doc! { "collMod": COLLECTION, "validator": { "$expr": false }, "validationAction": "error" };
    command(&database, fence).await.expect("fenced");
    let copy = doc! {
        "aggregate": COLLECTION,
        "pipeline": [{ "$set": { "customer": { "$toInt": "$customer" } } }, { "$out": "copy" }],
        "cursor": {},
    };
    command(&database, copy).await.expect("copied");
    let names = [COLLECTION, "copy"].map(|name| format!("{}.{name}", orders.name()));
    let swap = doc! { "renameCollection": &names[1], "to": &names[0], "dropTarget": true };
    command(&database.client().database("admin"), swap).await.expect("swapped");
    load.write_on(100).await;
    let journal = load.stop().await;
    println!("{test}: {:?}", journal.summary);
    let (before, after) = journal.check_swapped(&orders, retyped).await;
    println!("{test}: {before} from before, {after} from after");
    assert!(before > 0 && after > 0 && journal.summary.refused > 0);
}
