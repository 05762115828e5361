//! The fence outlives its runner: one that is killed, or stands still, at each step of raising it, of taking it away, and of a takeover.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::change::{Change, assert_no_helpers, definition, settings};
use super::collection::documents;
use super::orders::{COLLECTION, Orders, id, retyped};
use super::{Load, Settings};
use crate::binary::{Ended, run_beside};
use crate::random::seed;
use crate::stopped::Stopped;

/// As long as an attempt in a hurry may wait and as its fence may stand, and two seconds, and one for this machine.
const OVER: Duration = Duration::from_secs(5);

/// A change in a hurry: few documents, so that a second is enough for a swap.
async fn begun() -> (Change, Orders) {
    (Change::in_a_hurry(), Orders::with_documents(60).await)
}

async fn status(orders: &Orders) {
    run_beside(&["status", "last", "-t", &orders.url()], &[]).await.exits(0);
}

async fn resume(orders: &Orders, environment: &[(&str, &str)]) -> Ended {
    run_beside(&["resume", "last", "-t", &orders.url(), "--yes"], environment).await
}

/// The record of its fence is there, the command that raises it is not sent: it comes when the fence was taken away long ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_fence_that_is_raised_late_is_taken_away_by_its_own_runner_or_by_the_next_command() {
    for is_killed in [false, true] {
        let (change, orders) = begun().await;
        let before = definition(&orders).await;
        let killed: &[(&str, &str)] = if is_killed { &[("REPLANK_KILL_AT", "fencing:2")] } else { &[] };
        let stopped = change.stopped_at("fencing", &orders, killed).await;
        tokio::time::sleep(OVER).await;
        status(&orders).await;
        assert_eq!(definition(&orders).await, before);
        let late = stopped.go_on().await;
        if is_killed {
            late.was_killed();
            assert_ne!(definition(&orders).await.0, before.0, "it came late, and stands");
            status(&orders).await;
        } else {
            late.exits(6);
        }
        assert_eq!(definition(&orders).await, before, "killed: {is_killed}");
        resume(&orders, &[]).await.exits(0);
        let url = orders.url();
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_no_helpers(&orders).await;
    }
}

/// The same while another runner is at it: only that one may take it away, or its own fence might be opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_fence_that_is_raised_late_beside_another_runner_is_taken_away_by_that_one() {
    let (change, orders) = begun().await;
    let before = definition(&orders).await;
    let first = change.stopped_at("fencing", &orders, &[]).await;
    tokio::time::sleep(OVER).await;
    let url = orders.url();
    let second = Stopped::at("swap_intended", &["resume", "last", "-t", &url, "--yes"]).await;
    assert_eq!(definition(&orders).await, before);
    first.go_on().await.exits(6);
    assert_ne!(definition(&orders).await.0, before.0, "it came late, and stands");
    status(&orders).await;
    assert_ne!(definition(&orders).await.0, before.0, "it is the other runner's to take away");
    second.go_on().await.exits(0);
    assert_eq!(definition(&orders).await, before);
    let all = documents(&orders.connect().await, COLLECTION).await;
    assert!(all.iter().all(|one| one.get_i32("customer").is_ok()), "the swap took place");
}

async fn under_load(orders: &Orders, name: &str) -> Load {
    let settings = Settings { writers: 2, ..settings(orders).await };
    Load::start(orders, seed(name), settings).await
}

/// Until a run passes no such step any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_killed_at_each_step_of_fencing_it_goes_on_and_loses_nothing() {
    for step in 1.. {
        let (change, orders) = begun().await;
        let before = definition(&orders).await;
        let at = format!("fencing:{step}");
        let load = under_load(&orders, &at).await;
        let ended = change.begin(&orders, &[], &[("REPLANK_KILL_AT", &at)]).await;
        if ended.code.is_some() {
            ended.exits(0);
            load.stop().await.check_swapped(&orders, retyped).await;
            assert!(
                step > 4,
                "it is raised in two steps, and there is one before the swap and one behind it"
            );
            return;
        }
        resume(&orders, &[]).await.exits(0);
        load.write_on(10).await;
        load.stop().await.check_swapped(&orders, retyped).await;
        assert_eq!(definition(&orders).await, before, "{at}");
    }
}

/// It wakes up when the next command has taken its fence and its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_runner_that_stood_still_at_a_step_of_fencing_changes_nothing_any_more() {
    for step in 1..=4 {
        let (change, orders) = begun().await;
        let before = definition(&orders).await;
        let at = format!("fencing:{step}");
        let load = under_load(&orders, &format!("stood still at {step}")).await;
        let stopped = change.stopped_at(&at, &orders, &[]).await;
        tokio::time::sleep(OVER).await;
        status(&orders).await;
        stopped.go_on().await.exits(6);
        assert_eq!(definition(&orders).await, before, "{at}");
        resume(&orders, &[]).await.exits(0);
        load.write_on(10).await;
        load.stop().await.check_swapped(&orders, retyped).await;
        assert_eq!(definition(&orders).await, before, "{at}");
    }
}

/// The next command finds the fence past its time, holds the collection back that was to come in, and is killed in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_killed_at_each_step_of_a_takeover_it_goes_on_and_loses_nothing() {
    for step in 1.. {
        let (change, orders) = begun().await;
        let before = definition(&orders).await;
        let at = format!("fencing:{step}");
        let load = under_load(&orders, &format!("takeover {step}")).await;
        change.begin(&orders, &[], &[("REPLANK_KILL_AT", "lock_held")]).await.was_killed();
        tokio::time::sleep(OVER).await;
        let ended = resume(&orders, &[("REPLANK_KILL_AT", &at)]).await;
        let is_last = ended.code.is_some();
        if is_last {
            ended.exits(0);
            assert!(step > 11, "four of taking the fence away, five of the takeover, and four of the swap");
        } else {
            resume(&orders, &[]).await.exits(0);
        }
        load.write_on(10).await;
        load.stop().await.check_swapped(&orders, retyped).await;
        assert_eq!(definition(&orders).await, before, "{at}");
        if is_last {
            return;
        }
    }
}

/// The fence lets deletes pass, and what was deleted behind the last look comes back with the new collection. It is removed there
/// unless somebody has written it since, be it just as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_what_is_deleted_in_the_moment_of_the_swap_is_gone_and_what_is_inserted_again_stays() {
    let (change, orders) = (Change::new(), Orders::with_documents(30).await);
    let collection = orders.connect().await.collection::<Document>(COLLECTION);
    let all = documents(&orders.connect().await, COLLECTION).await;
    assert_eq!(all.len(), 30);
    // The third step is behind the intent, before the rename; the fifth before the first document is removed.
    let killed = [("REPLANK_KILL_AT", "fencing:5")];
    let stopped = change.stopped_at("fencing:3", &orders, &killed).await;
    for key in [4, 8] {
        let deleted = collection.delete_one(doc! { "_id": id(key) }).await.expect("it passes the fence");
        assert_eq!(deleted.deleted_count, 1);
    }
    stopped.go_on().await.was_killed();
    let came_back = collection.find_one(doc! { "_id": id(4) }).await.expect("found").expect("it came back");
    let url = orders.url();
    // Three steps of the takeover are before it.
    let resumed = Stopped::at("fencing:4", &["resume", "last", "-t", &url, "--yes"]).await;
    collection.delete_one(doc! { "_id": id(4) }).await.expect("deleted");
    collection.insert_one(&came_back).await.expect("inserted as it was");
    resumed.go_on().await.exits(0);
    let found = collection.find_one(doc! { "_id": id(4) }).await.expect("found");
    assert_eq!(found, Some(came_back), "it was acknowledged");
    assert_eq!(collection.find_one(doc! { "_id": id(8) }).await.expect("found"), None);
    assert_eq!(documents(&orders.connect().await, COLLECTION).await.len(), 29);
}

/// Whoever bypasses validation passes the fence, and the rename destroys what was written so: it cannot be made good, and is told. Removing
/// what the run made does not remove that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_write_that_bypasses_the_fence_is_told_and_stays_in_the_records() {
    let (change, orders) = (Change::new(), Orders::with_documents(30).await);
    let database = orders.connect().await;
    let collection = database.collection::<Document>(COLLECTION);
    let stopped = change.stopped_at("fencing:3", &orders, &[]).await;
    let update = doc! { "$set": { "version": 77 } };
    let bypasses = collection.update_one(doc! { "_id": id(4) }, update).bypass_document_validation(true);
    assert_eq!(bypasses.await.expect("it passes the fence").modified_count, 1);
    let told = "1 documents were written to the old collection although writes were refused";
    stopped.go_on().await.exits(0).says(told);
    let url = orders.url();
    run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says(told);
    // A swap in the other direction has its own to tell, and nothing of it is.
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_no_helpers(&orders).await;
    let objects = database.client().database(&format!("_replank_{}", orders.name()));
    let left = objects.collection::<Document>("objects").find_one(doc! { "role": "left" }).await;
    let left = left.expect("read").expect("it stays in the records");
    assert!(left.to_string().contains(told), "{left}");
}
