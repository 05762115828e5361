//! What the test server does by itself: a test that finds something lost must know that it was not the server.

use mongodb::bson::{Document, doc};

use super::collection::{command, connect, documents, insert_many, is_secantus};
use super::orders::COLLECTION;
use super::{Load, Orders, Settings};
use crate::random::seed;
use crate::server::{OwnServer, mongo_database, mongo_own_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_two_databases_of_the_shared_server_are_apart() {
    let (one, other) = (mongo_database().await, mongo_database().await);
    assert_ne!(one.name, other.name);
    let (one, other) = (connect(&one.url).await, connect(&other.url).await);
    insert_many(&one, "orders", &[doc! { "_id": 2, "v": "b" }, doc! { "_id": 1, "v": "a" }]).await;
    let found = documents(&one, "orders").await;
    assert_eq!(
        found.iter().map(|document| document.get_i32("_id").expect("a key")).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(documents(&other, "orders").await.is_empty());
    // A client that was given one address finds the set by it, as the driver does with a person's.
    let hello = command(&one, doc! { "hello": 1 }).await.expect("answered");
    assert!(hello.get_str("setName").is_ok(), "{hello}");
    one.drop().await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_server_that_was_killed_or_restarted_has_its_data() {
    let server = mongo_own_server(&[]).await;
    let database = connect(&server.database().await.url).await;
    insert_many(&database, "orders", &[doc! { "_id": 1, "v": "a" }]).await;
    server.kill().await;
    server.start().await;
    assert_eq!(documents(&database, "orders").await.len(), 1);
    insert_many(&database, "orders", &[doc! { "_id": 2, "v": "a" }]).await;
    server.restart().await;
    assert_eq!(documents(&database, "orders").await.len(), 2);
}

/// Writes without any change, and compares. How often the server is struck meanwhile, and how, is the test's.
async fn write_alone(test: &str, server: &OwnServer, strikes: u64, strike: impl AsyncFn(&OwnServer)) {
    let orders = Orders::within(server.database().await, 500).await;
    let load = Load::start(&orders, seed(test), Settings::default()).await;
    load.write_on(300).await;
    for _ in 0..strikes {
        strike(server).await;
        load.write_on(200).await;
    }
    let journal = load.stop().await;
    println!("{test}: {:?}", journal.summary);
    journal.check(&orders, Document::clone).await;
    // Only what was sent while it was struck is in doubt.
    assert_eq!((journal.summary.refused, strikes == 0 && journal.summary.unknown > 0), (0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_server_alone_loses_nothing() {
    let server = mongo_own_server(&[]).await;
    write_alone("on_mongo_the_server_alone_loses_nothing", &server, 0, async |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_server_alone_killed_while_it_is_written_to_loses_nothing() {
    let server = mongo_own_server(&[]).await;
    let kill = async |server: &OwnServer| {
        server.kill_at_once(&server.pid()).await;
        server.start().await;
    };
    write_alone("on_mongo_the_server_alone_killed_while_it_is_written_to_loses_nothing", &server, 4, kill)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_server_alone_restarted_while_it_is_written_to_loses_nothing() {
    let server = mongo_own_server(&[]).await;
    let restart = async |server: &OwnServer| server.restart().await;
    write_alone(
        "on_mongo_the_server_alone_restarted_while_it_is_written_to_loses_nothing",
        &server,
        3,
        restart,
    )
    .await;
}

/// On MongoDB the fence waits for the transaction, and whoever has it knows all that is committed. SecantusDB's does not,
/// and the commit passes it: no test of a swap with transactions can be judged there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_whether_a_fence_waits_for_a_transaction_is_known_of_the_server_alone() {
    let orders = Orders::with_documents(8).await;
    let database = orders.connect().await;
    let mut session = database.client().start_session().await.expect("a session");
    session.start_transaction().await.expect("begun");
    let writes = database.collection::<Document>(COLLECTION);
    let write = doc! { "$set": { "version": 9 } };
    writes.update_one(doc! { "_id": 0_i64 }, write).session(&mut session).await.expect("written");
    let fence = doc! { "collMod": COLLECTION, "validator": { "$expr": false }, "maxTimeMS": 2_000 };
    let fenced = command(&database, fence).await;
    assert_eq!(fenced.is_ok(), is_secantus(&database).await, "{fenced:?}");
    session.commit_transaction().await.expect("committed");
    let all = documents(&database, COLLECTION).await;
    let is_kept = all.iter().any(|one| one.get_i32("version").is_ok_and(|version| version == 9));
    assert!(is_kept, "the transaction was acknowledged");
}

/// On MongoDB `$merge` changes a document as an update does, and what is there by then stays. SecantusDB's reads it, and
/// writes over what came meanwhile: a copy that is made again beside what is applied may lose that there, and the comparison
/// finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_whether_a_merge_writes_over_what_is_written_meanwhile_is_known_of_the_server_alone() {
    const ROUNDS: i32 = 30;
    let database = connect(&mongo_database().await.url).await;
    let all: Vec<Document> = (0..40).map(|id| doc! { "_id": id, "n": 0 }).collect();
    insert_many(&database, "source", &all).await;
    insert_many(&database, "written", &all).await;
    let merge = doc! {
        "into": "written", "on": "_id", "whenMatched": [{ "$replaceWith": "$$ROOT" }], "whenNotMatched": "insert",
    };
    let merge = doc! { "aggregate": "source", "pipeline": [{ "$merge": merge }], "cursor": {} };
    let mut lost = 0;
    for round in 1..=ROUNDS {
        let write = async {
            for id in (0..40).step_by(4) {
                let set = doc! { "q": { "_id": id }, "u": { "$set": { "n": round } } };
                command(&database, doc! { "update": "written", "updates": [set] })
                    .await
                    .expect("acknowledged");
            }
        };
        let (merged, ()) = tokio::join!(command(&database, merge.clone()), write);
        merged.expect("merged");
        let stale = doc! { "_id": { "$mod": [4, 0] }, "n": { "$ne": round } };
        let found = doc! { "count": "written", "query": stale };
        lost += command(&database, found).await.expect("counted").get_i32("n").expect("a number");
    }
    println!("{lost} of {} acknowledged updates were lost to {ROUNDS} merges", ROUNDS * 10);
    assert_eq!(lost > 0, is_secantus(&database).await);
}
