//! kill -9 of the tool at every boundary of a rebuild, under load on a real server, each followed by going on and a full
//! comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use replank_core::engine::boundary::Boundary;

use super::application::{Application, Orders, assert_same};
use super::movers::{BY_CUSTOMER, Mover};
use super::oracle::RETYPE;
use super::partitioned::File;
use crate::binary::run_beside;
use crate::kills::{BACKWARD, BETWEEN, FORWARD, REMOVAL, go_on};
use crate::oracle::judge;
use crate::random::seed;
use crate::workload::Writers;

/// What is killed, and what writes beside it.
enum Change {
    /// An ALTER.
    Retype,
    /// A shape with partitions, of which some writes know.
    Divide(File),
}

impl Change {
    /// The command that begins it.
    fn command<'a>(&'a self, url: &'a str, file: &'a str) -> Vec<&'a str> {
        match self {
            Self::Retype => vec!["apply", "-t", url, "-e", RETYPE, "--yes"],
            Self::Divide(_) => vec!["rebuild", "orders", "--as", file, "-t", url, "--yes"],
        }
    }

    fn file(&self) -> String {
        match self {
            Self::Retype => String::new(),
            Self::Divide(file) => file.path(),
        }
    }

    async fn write(&self, orders: &Orders, seed: u64, is_direct: &Arc<AtomicBool>) -> Writers {
        match self {
            Self::Retype => Application::start(orders, seed, 3).await,
            Self::Divide(_) => Mover::start(orders, seed, 3, is_direct).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_at_every_boundary_on_the_way_forward_it_goes_on_and_loses_nothing() {
    killed_on_the_way_forward(Change::Retype, 3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_at_every_boundary_on_the_way_into_partitions_it_goes_on_and_loses_nothing() {
    killed_on_the_way_forward(Change::Divide(File::of(BY_CUSTOMER)), 1_000).await;
}

async fn killed_on_the_way_forward(change: Change, rows: u64) {
    let file = change.file();
    for boundary in FORWARD.into_iter().chain([Boundary::IndexBuilt]) {
        let orders = Orders::with_rows(rows).await;
        let url = orders.url();
        let is_direct = Arc::new(AtomicBool::new(false));
        let writers = change.write(&orders, seed(boundary.name()), &is_direct).await;
        let begin = change.command(&url, &file);
        run_beside(&begin, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        is_direct.store(has_partitions(&orders).await, Ordering::SeqCst);
        writers.write_on(BETWEEN).await;
        is_direct.store(true, Ordering::SeqCst);
        let go_on = match (&change, boundary) {
            (Change::Retype, _) => go_on(&url, RETYPE, boundary),
            // There is no record of it yet.
            (Change::Divide(_), Boundary::LeaseTaken) => begin,
            // The same command would be a new change.
            (Change::Divide(_), _) => vec!["resume", "last", "-t", &url, "--yes"],
        };
        run_beside(&go_on, &[]).await.exits(0);
        writers.write_on(10).await;
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        orders.check(&journal).await;
        if let Change::Retype = change {
            orders.check_against_blocking(RETYPE, &[]).await;
        } else {
            assert_eq!(
                orders.text("SELECT relkind::text FROM pg_class WHERE oid = 'orders_mid'::regclass").await,
                "p"
            );
        }
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        orders.assert_no_helpers().await;
        orders.check(&journal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_at_every_boundary_on_the_way_back_it_goes_on_and_loses_nothing() {
    killed_on_the_way_back(Change::Retype, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_at_every_boundary_on_the_way_back_from_partitions_it_goes_on_and_loses_nothing() {
    killed_on_the_way_back(Change::Divide(File::of(BY_CUSTOMER)), 1_000).await;
}

/// Those to which a mover writes straight.
async fn has_partitions(orders: &Orders) -> bool {
    orders.text("SELECT (to_regclass('orders_mid') IS NOT NULL)::text").await == "true"
}

async fn killed_on_the_way_back(change: Change, rows: u64) {
    let file = change.file();
    for boundary in BACKWARD {
        let orders = Orders::with_rows(rows).await;
        let before = orders.definition().await;
        let url = orders.url();
        let is_direct = Arc::new(AtomicBool::new(false));
        let writers = change.write(&orders, seed(boundary.name()), &is_direct).await;
        run_beside(&change.command(&url, &file), &[]).await.exits(0);
        is_direct.store(true, Ordering::SeqCst);
        writers.write_on(BETWEEN).await;
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_beside(&revert, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        is_direct.store(has_partitions(&orders).await, Ordering::SeqCst);
        writers.write_on(BETWEEN).await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        orders.check(&journal).await;
        assert_same(&orders.definition().await, &before, boundary.name());
        orders.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_while_removing_what_it_made_it_removes_the_rest() {
    for boundary in REMOVAL {
        for passage in 1..=2 {
            let at = format!("{}:{passage}", boundary.name());
            let orders = Orders::with_rows(1_000).await;
            let before = orders.names().await;
            let url = orders.url();
            let writers = Application::start(&orders, seed(&at), 2).await;
            let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
            run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
            writers.write_on(BETWEEN).await;
            let abort = ["abort", "last", "-t", &url, "--yes"];
            run_beside(&abort, &[("REPLANK_KILL_AT", &at)]).await.was_killed();
            writers.write_on(BETWEEN).await;
            run_beside(&abort, &[]).await.exits(0);
            assert_eq!(orders.names().await, before, "nothing is left but the records");
            run_beside(&apply, &[]).await.exits(0);
            let finalize = ["finalize", "last", "-t", &url, "--yes"];
            run_beside(&finalize, &[("REPLANK_KILL_AT", &at)]).await.was_killed();
            writers.write_on(BETWEEN).await;
            run_beside(&finalize, &[]).await.exits(0);
            let journal = writers.stop().await;
            judge(&at, &journal);
            orders.check(&journal).await;
            orders.assert_no_helpers().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_again_and_again_it_still_ends() {
    let orders = Orders::with_rows(3_000).await;
    let url = orders.url();
    let writers = Application::start(&orders, seed("again and again"), 3).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    for boundary in [
        "chunk_committed",
        "batch_committed",
        "index_built",
        "index_built:2",
        "lock_held",
        "drained",
        "swap_sent",
    ] {
        run_beside(&apply, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
        writers.write_on(10).await;
    }
    run_beside(&apply, &[]).await.exits(0);
    let journal = writers.stop().await;
    judge("again and again", &journal);
    orders.check(&journal).await;
    orders.check_against_blocking(RETYPE, &[]).await;
}
