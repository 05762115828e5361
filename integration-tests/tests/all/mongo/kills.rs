//! kill -9 of the tool at every boundary of a rebuild, under load on a real server, each followed by going on and a full
//! comparison.

use mongodb::bson::Document;
use replank_core::engine::boundary::Boundary;

use super::change::{Change, adorn, assert_no_helpers, definition, settings};
use super::orders::{Orders, retyped};
use super::{Load, Settings};
use crate::binary::run_beside;
use crate::kills::{BACKWARD, BETWEEN, FORWARD, REMOVAL};
use crate::random::seed;

async fn begun(boundary: &str, documents: u64) -> (Orders, Load) {
    let orders = Orders::with_documents(documents).await;
    let settings = Settings { writers: 3, ..settings(&orders).await };
    let load = Load::start(&orders, seed(boundary), settings).await;
    (orders, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_killed_at_every_boundary_on_the_way_forward_it_goes_on_and_loses_nothing() {
    let change = Change::new();
    for boundary in FORWARD.into_iter().chain([Boundary::IndexBuilt]) {
        let (orders, load) = begun(boundary.name(), 400).await;
        adorn(&orders).await;
        let before = definition(&orders).await;
        change.begin(&orders, &[], &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        // A fence that a runner left behind is taken away by the next command of anybody's once its time is over: until then
        // writers are refused.
        let url = orders.url();
        match boundary {
            // There is no record of it yet.
            Boundary::LeaseTaken => change.begin(&orders, &[], &[]).await.exits(0).shows(),
            _ => run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0).shows(),
        };
        load.write_on(BETWEEN).await;
        let journal = load.stop().await;
        journal.check_swapped(&orders, retyped).await;
        assert_eq!(definition(&orders).await, before, "{}", boundary.name());
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        journal.check_swapped(&orders, retyped).await;
        assert_no_helpers(&orders).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_killed_at_every_boundary_on_the_way_back_it_goes_on_and_loses_nothing() {
    let change = Change::new();
    for boundary in BACKWARD {
        let (orders, load) = begun(boundary.name(), 300).await;
        change.begin(&orders, &[], &[]).await.exits(0).shows();
        load.write_on(BETWEEN).await;
        let url = orders.url();
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_beside(&revert, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0).shows();
        load.write_on(BETWEEN).await;
        load.stop().await.check(&orders, Document::clone).await;
        assert_no_helpers(&orders).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_killed_while_removing_what_it_made_it_removes_the_rest() {
    let change = Change::new();
    for boundary in REMOVAL {
        let (orders, load) = begun(boundary.name(), 300).await;
        let url = orders.url();
        change.begin(&orders, &[], &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
        let abort = ["abort", "last", "-t", &url, "--yes"];
        run_beside(&abort, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        load.write_on(BETWEEN).await;
        run_beside(&abort, &[]).await.exits(0);
        assert_no_helpers(&orders).await;
        change.begin(&orders, &[], &[]).await.exits(0);
        let finalize = ["finalize", "last", "-t", &url, "--yes"];
        run_beside(&finalize, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        load.write_on(BETWEEN).await;
        run_beside(&finalize, &[]).await.exits(0);
        load.stop().await.check_swapped(&orders, retyped).await;
        assert_no_helpers(&orders).await;
    }
}

/// The fence of a runner that died stands until its time is over, and no longer than until the next command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_fence_that_a_dead_runner_left_is_taken_away_by_the_next_command() {
    for boundary in [Boundary::LockHeld, Boundary::ReverseCreated] {
        let orders = Orders::with_documents(200).await;
        let before = definition(&orders).await;
        Change::new().begin(&orders, &[], &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        assert_ne!(definition(&orders).await.0, before.0, "writes are refused");
        // As long as the attempt may wait and as its fence may stand, which a test on a slow server makes long, and two seconds.
        tokio::time::sleep(std::time::Duration::from_secs(9)).await;
        let url = orders.url();
        run_beside(&["status", "last", "-t", &url], &[]).await;
        assert_eq!(definition(&orders).await, before, "{}", boundary.name());
        // And the run can still be ended.
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let all = super::collection::documents(&orders.connect().await, "orders").await;
        assert!(all.iter().all(|one| one.get_i32("customer").is_ok()), "the swap took place");
    }
}
