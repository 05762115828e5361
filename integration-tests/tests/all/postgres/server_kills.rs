//! kill -9 of the server at the most dangerous boundaries, under load, each followed by going on and a full comparison.

use std::time::{Duration, Instant};

use replank_core::engine::boundary::Boundary;

use super::application::{Application, Orders, assert_same};
use super::oracle::RETYPE;
use crate::binary::{Ended, run_beside};
use crate::kills::{BACKWARD, BETWEEN};
use crate::random::{Random, seed};
use crate::server::{OwnServer, postgres_own_server};
use crate::stopped::Stopped;
use crate::workload::Journal;

/// What did not wait for the disk stays in memory for long, and is lost.
async fn forgetful() -> OwnServer {
    postgres_own_server(&["-c", "wal_writer_delay=10s"]).await
}

/// It went on by itself, and what the server had told it was still so.
#[track_caller]
fn sound(ended: Ended) {
    let ended = ended.exits(0);
    assert!(!ended.err.contains("differed without a change"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_server_killed_at_dangerous_boundaries_loses_nothing() {
    let server = forgetful().await;
    for boundary in Boundary::ALL.into_iter().filter(|boundary| boundary.is_dangerous()) {
        let orders = Orders::within(server.database().await, 1_000).await;
        let before = orders.definition().await;
        let url = orders.url();
        let writers = Application::start_with_careless(&orders, seed(boundary.name()), 2).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        let stopped = Stopped::at(boundary.name(), &apply).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        let began = Instant::now();
        let ended = stopped.end().await;
        println!("{}: the runner ended with {:?} after {:?}", boundary.name(), ended.code, began.elapsed());
        writers.write_on(BETWEEN).await;
        sound(ended);
        let journal = writers.stop().await;
        assert!(journal.summary().acknowledged > 20, "the writers wrote next to nothing");
        orders.check_there_and_back(&journal, &before, RETYPE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_server_killed_on_the_way_back_loses_nothing() {
    let server = forgetful().await;
    for boundary in BACKWARD {
        let orders = Orders::within(server.database().await, 1_000).await;
        let before = orders.definition().await;
        let url = orders.url();
        let writers = Application::start_with_careless(&orders, seed(boundary.name()), 2).await;
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
        writers.write_on(BETWEEN).await;
        let stopped = Stopped::at(boundary.name(), &["revert", "last", "-t", &url, "--yes"]).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        let ended = stopped.end().await;
        writers.write_on(BETWEEN).await;
        sound(ended);
        let journal = writers.stop().await;
        orders.check(&journal).await;
        assert_same(&orders.definition().await, &before, "the definition, before and after");
        orders.assert_no_helpers().await;
    }
}

/// Nobody else's commit takes it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_counts_as_done_is_on_the_disk_of_a_server_on_which_nobody_writes() {
    let server = forgetful().await;
    for boundary in ["chunk_committed:2", "index_built", "released"] {
        let orders = Orders::within(server.database().await, 500).await;
        let (url, before) = (orders.url(), orders.definition().await);
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=50"];
        let stopped = Stopped::at(boundary, &apply).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        sound(stopped.end().await);
        orders.check_there_and_back(&Journal::default(), &before, RETYPE).await;
    }
}

/// Somewhere between the two locks, in the renames, or around their commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_server_killed_within_the_swap_has_swapped_all_or_nothing() {
    let test = "on_postgres_the_server_killed_within_the_swap_has_swapped_all_or_nothing";
    let server = forgetful().await;
    let seed = seed(test);
    let mut random = Random::new(seed, 0);
    let (mut swapped, rounds) = (0, 4);
    for _ in 0..rounds {
        let orders = Orders::within(server.database().await, 500).await;
        let before = orders.definition().await;
        let url = orders.url();
        let writers = Application::start_with_careless(&orders, seed, 2).await;
        let stopped = Stopped::at("swap_sent", &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
        let (pid, delay) = (server.pid(), Duration::from_millis(random.below(40)));
        stopped.wake();
        tokio::time::sleep(delay).await;
        server.kill_at_once(&pid).await;
        server.start().await;
        let kind =
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'orders'::regclass
             AND attname = 'customer_id'";
        swapped += u32::from(orders.text(kind).await == "bigint");
        let ended = stopped.end().await;
        writers.write_on(BETWEEN).await;
        sound(ended);
        let journal = writers.stop().await;
        orders.check_there_and_back(&journal, &before, RETYPE).await;
    }
    println!("{swapped} of {rounds} swaps were on the disk");
}
