//! How much of the time chunks take beside those who write.

use super::application::{Application, Orders};
use super::oracle::RETYPE;
use crate::binary::run_beside;
use crate::random::seed;
use crate::server::postgres_own_server;

/// The shares that its lines of progress tell of, in percent.
async fn shares(orders: &Orders, more: &[&str]) -> Vec<u64> {
    let url = orders.url();
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--json", "--throttle", "chunk_rows_max=8"];
    let ended = run_beside(&[&apply[..], more].concat(), &[]).await.exits(0);
    let events = ended.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let shares = events.filter_map(|event| event["copy_percent"].as_u64()).collect();
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    shares
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_chunks_rest_for_those_who_write_and_for_nobody_else() {
    let test = "on_postgres_chunks_rest_for_those_who_write_and_for_nobody_else";
    // Whoever writes on the server counts: there is nobody else on this one.
    let server = postgres_own_server(&[]).await;
    let orders = Orders::within(server.database().await, 20_000).await;
    assert_eq!(shares(&orders, &[]).await, [0; 0], "nobody writes");
    let writers = Application::start(&orders, seed(test), 4).await;
    assert_eq!(shares(&orders, &["--throttle", "copy_percent=100"]).await, [0; 0], "it was asked not to");
    // One worker, so that it lasts until progress is told.
    let told = shares(&orders, &["--throttle", "copy_workers=1"]).await;
    println!("{told:?}");
    // Half is what is taken before anything was counted.
    assert!(told.iter().any(|share| *share != 50 && (10..=95).contains(share)), "{told:?}");
    let journal = writers.stop().await;
    orders.check(&journal).await;
}
