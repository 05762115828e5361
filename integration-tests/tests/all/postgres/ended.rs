//! Sessions that an administrator ends: all of them at every boundary, and one after another during a whole run.

use std::time::Duration;

use replank_core::engine::boundary::Boundary;

use super::application::{Application, Orders};
use super::oracle::RETYPE;
use super::table::{query, run};
use crate::binary::run_beside;
use crate::kills::{BETWEEN, FORWARD};
use crate::oracle::judge;
use crate::random::{Random, seed};
use crate::stopped::Stopped;

/// Sessions of the tool in this database, but for whoever asks.
const OURS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'replank'
     AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_sessions_ended_at_every_boundary_lose_nothing() {
    for boundary in FORWARD.into_iter().chain([Boundary::IndexBuilt]) {
        let orders = Orders::with_rows(500).await;
        let url = orders.url();
        let writers = Application::start(&orders, seed(boundary.name()), 2).await;
        let stopped = Stopped::at(boundary.name(), &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
        let ended =
            query(&mut orders.connect().await, &format!("SELECT pg_terminate_backend(pid) {OURS}")).await;
        assert!(!ended.is_empty(), "{}: there was no session", boundary.name());
        writers.write_on(BETWEEN).await;
        stopped.go_on().await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        orders.check(&journal).await;
        orders.check_against_blocking(RETYPE, &[]).await;
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        orders.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_sessions_ended_again_and_again_never_end_the_copy_early() {
    let test = "on_postgres_sessions_ended_again_and_again_never_end_the_copy_early";
    let orders = Orders::with_rows(10_000).await;
    let (url, before) = (orders.url(), orders.definition().await);
    let seed = seed(test);
    let writers = Application::start(&orders, seed, 2).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=20"];
    let (mut connection, mut chance) = (orders.connect().await, Random::new(seed, 0));
    let (mut killed, mut runs) = (0, 0);
    loop {
        runs += 1;
        assert!(runs < 9, "it never ends");
        let stopped = Stopped::at("chunk_committed", &apply).await;
        let going = tokio::spawn(async move { stopped.go_on().await });
        while !going.is_finished() && killed < 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let drawn = format!(
                "SELECT pg_terminate_backend(pid) {OURS} ORDER BY pid OFFSET {} LIMIT 1",
                chance.below(6)
            );
            // It may have ended by itself.
            killed += run(&mut connection, &drawn).await.expect("asked");
        }
        let ended = going.await.expect("joined");
        assert!(!ended.err.contains("differed without a change"), "{}", ended.err);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(orders.definition().await, before, "swapped by halves: {}", ended.err);
        ended.exits(1).says("hint: ");
    }
    println!("{killed} sessions ended in {runs} runs");
    assert!(killed > 5, "next to nothing was ended");
    writers.write_on(20).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check_there_and_back(&journal, &before, RETYPE).await;
}
