//! Transactions that a runner leaves open on the server when it dies, or stands still: whoever goes on ends them before anything that
//! would wait for them.

use super::change::{Change, assert_no_helpers, settings};
use super::orders::{COLLECTION, Orders, retyped};
use super::{Load, Settings};
use crate::binary::run_within;
use crate::kills::BETWEEN;
use crate::random::seed;

/// A batch is written, and its transaction open.
const OPEN: &str = "batch_written";
/// Seconds: far more than a run takes, and fewer than the minute for which a server keeps the transaction of a client that is gone.
const PROMPTLY: u64 = 50;
/// The same where the lease of a process that lives has to run out first.
const AFTER_THE_LEASE: u64 = PROMPTLY + 30;

async fn begun(test: &str) -> (Orders, Load) {
    let orders = Orders::with_documents(300).await;
    let settings = Settings { writers: 3, ..settings(&orders).await };
    let load = Load::start(&orders, seed(test), settings).await;
    (orders, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_transaction_that_a_killed_runner_left_open_keeps_nobody_waiting() {
    let change = Change::new();
    for next in ["resume", "abort"] {
        let (orders, load) = begun(next).await;
        let url = orders.url();
        change.begin(&orders, &[], &[("REPLANK_KILL_AT", OPEN)]).await.was_killed();
        run_within(PROMPTLY, &[next, "last", "-t", &url, "--yes"]).await.exits(0);
        load.write_on(BETWEEN).await;
        let journal = load.stop().await;
        if next == "abort" {
            journal.check(&orders, Clone::clone).await;
            assert_no_helpers(&orders).await;
            continue;
        }
        journal.check_swapped(&orders, retyped).await;
        // The same on the way back: the collection that comes in was renamed for it.
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_within(PROMPTLY, &revert).await.exits(0);
        journal.check(&orders, Clone::clone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_runner_that_stood_still_within_a_transaction_commits_nothing_behind_the_next_one() {
    let (orders, load) = begun("stood still").await;
    let change = Change::new();
    let url = orders.url();
    let stopped = change.stopped_at(OPEN, &orders, &[]).await;
    // It lives, so its lease is waited for, and then taken.
    run_within(AFTER_THE_LEASE, &["resume", "last", "-t", &url, "--yes"]).await.exits(0);
    load.write_on(BETWEEN).await;
    let late = stopped.go_on().await;
    // Its commit, and all that it tries after that.
    late.exits(6);
    load.write_on(BETWEEN).await;
    load.stop().await.check_swapped(&orders, retyped).await;
    run_within(PROMPTLY, &["finalize", "last", "-t", &url, "--yes"]).await.exits(0);
    assert_no_helpers(&orders).await;
    let records = orders.connect().await.client().database(&format!("_replank_{}", orders.name()));
    let noted = records.collection::<mongodb::bson::Document>("sessions");
    let left = noted.count_documents(mongodb::bson::doc! {}).await.expect("counted");
    assert_eq!(left, 0, "of {COLLECTION} nothing is noted that is over");
}
