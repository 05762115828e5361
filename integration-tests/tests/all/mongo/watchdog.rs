//! A runner that dies, or stands still, while writes are refused: they are let in again, and nobody types anything.

use std::time::{Duration, Instant};

use mongodb::bson::doc;

use super::change::{Change, definition};
use super::collection::command;
use super::orders::{COLLECTION, Orders};
use crate::binary::run_beside;

const WATCHED: (&str, &str) = ("REPLANK_WATCHDOG", "on");
/// As long as an attempt may wait and its fence may stand, which a test on a slow server makes long, two seconds of grace, and the
/// looks of the process that watches.
const WITHIN: Duration = Duration::from_secs(15);

/// Writes are let in again; how long after the call that was.
async fn let_in_again(orders: &Orders) -> Duration {
    let since = Instant::now();
    let write = doc! { "insert": COLLECTION, "documents": [{ "_id": "after", "customer": "1" }] };
    loop {
        let reply = command(&orders.connect().await, write.clone()).await.expect("answered");
        if !reply.contains_key("writeErrors") {
            return since.elapsed();
        }
        assert!(since.elapsed() < WITHIN, "writes are still refused: {reply}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_fence_of_a_runner_that_was_killed_goes_by_itself() {
    for boundary in ["lock_held", "swap_sent"] {
        let orders = Orders::with_documents(200).await;
        let before = definition(&orders).await;
        Change::new().begin(&orders, &[], &[WATCHED, ("REPLANK_KILL_AT", boundary)]).await.was_killed();
        assert_ne!(definition(&orders).await.0, before.0, "{boundary}: writes are refused");
        let took = let_in_again(&orders).await;
        println!("{boundary}: let in again after {took:?}");
        assert_eq!(definition(&orders).await, before, "{boundary}");
        let url = orders.url();
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    }
}

/// A runner that stands still says nothing, and is not gone either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_fence_of_a_runner_that_stands_still_goes_by_itself() {
    let orders = Orders::with_documents(200).await;
    let before = definition(&orders).await;
    let change = Change::new();
    let runner = change.stopped_at("lock_held", &orders, &[WATCHED]).await;
    assert_ne!(definition(&orders).await.0, before.0, "writes are refused");
    let took = let_in_again(&orders).await;
    println!("let in again after {took:?}");
    assert_eq!(definition(&orders).await, before);
    runner.go_on().await.exits(6);
    let url = orders.url();
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
}
