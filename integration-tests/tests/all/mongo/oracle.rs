//! A rebuild and its way back beside writers, judged by what these were told.

use std::time::Duration;

use mongodb::bson::Document;

use super::change::{Change, adorn, assert_no_helpers, definition, settings};
use super::orders::{Orders, retyped};
use super::{Load, Settings};
use crate::binary::run_beside;
use crate::random::seed;

/// Writes are refused for no longer than this, forwards or back: half a second, and what a loaded machine adds.
const REFUSED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_retype_and_its_revert_under_load_lose_nothing() {
    let test = "on_mongo_a_retype_and_its_revert_under_load_lose_nothing";
    let orders = Orders::with_documents(500).await;
    adorn(&orders).await;
    let before = definition(&orders).await;
    let settings = settings(&orders).await;
    let load = Load::start(&orders, seed(test), settings.clone()).await;
    load.write_on(50).await;
    Change::new().begin(&orders, &[], &[]).await.exits(0);
    load.write_on(100).await;
    let journal = load.stop().await;
    let (old, new) = journal.check_swapped(&orders, retyped).await;
    assert!(old > 0 && new > 0, "{old} documents of before the swap, {new} of after it");
    assert_eq!(definition(&orders).await, before, "indexes and options are kept");
    assert_eq!(journal.summary.unknown, 0, "{:?}", journal.summary);
    let refused = journal.summary.refused_between.map_or(Duration::ZERO, |(first, last)| last - first);
    assert!(refused < REFUSED, "{:?}", journal.summary);
    println!("{test}: {:?}", journal.summary);
    let url = orders.url();
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    journal.check(&orders, Document::clone).await;
    assert_eq!(definition(&orders).await, before, "and after the way back");
    assert_no_helpers(&orders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_revert_under_load_keeps_what_was_written_since() {
    let test = "on_mongo_a_revert_under_load_keeps_what_was_written_since";
    let orders = Orders::with_documents(400).await;
    let settings = Settings { writers: 3, ..settings(&orders).await };
    let load = Load::start(&orders, seed(test), settings).await;
    Change::new().begin(&orders, &[], &[]).await.exits(0);
    load.write_on(100).await;
    let url = orders.url();
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    load.write_on(50).await;
    let journal = load.stop().await;
    // There and back: every document is what was written, whenever that was.
    journal.check(&orders, Document::clone).await;
    assert_eq!(journal.summary.unknown, 0, "{:?}", journal.summary);
    assert_no_helpers(&orders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_change_made_final_under_load_leaves_only_records() {
    let test = "on_mongo_a_change_made_final_under_load_leaves_only_records";
    let orders = Orders::with_documents(400).await;
    let load = Load::start(&orders, seed(test), settings(&orders).await).await;
    Change::new().begin(&orders, &[], &[]).await.exits(0);
    load.write_on(30).await;
    let url = orders.url();
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    load.write_on(30).await;
    load.stop().await.check_swapped(&orders, retyped).await;
    assert_no_helpers(&orders).await;
}
