//! Standbys: one that takes the primary's place, and one that is waited for and does not come.

use std::time::Duration;

use tokio::task::JoinSet;

use super::application::{Application, Orders, assert_same};
use super::oracle::RETYPE;
use super::table::{connect, run};
use crate::binary::run_beside;
use crate::kills::BETWEEN;
use crate::oracle::judge;
use crate::proxy::Proxy;
use crate::random::seed;
use crate::server::{postgres_own_server, postgres_standby_of};
use crate::stopped::Stopped;

/// CRASH-18: what is known of one timeline is not true of another. It stops, and goes on when a person says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_promoted_standby_stops_the_run_until_somebody_lets_it_go_on() {
    let test = "on_postgres_a_promoted_standby_stops_the_run_until_somebody_lets_it_go_on";
    let primary = postgres_own_server(&[]).await;
    // One of them goes on, the other one is given up.
    let mut all = Vec::new();
    for _ in 0..2 {
        let orders = Orders::within(primary.database().await, 2_000).await;
        all.push((orders.definition().await, orders));
    }
    let standby = postgres_standby_of(&primary).await;
    // What a writer is told of is on both.
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        all[0].1.execute(statement).await;
    }
    let proxy = Proxy::of(&all[0].1.url()).await;
    let mut begun = JoinSet::new();
    for (before, orders) in all {
        let url = proxy.url(&orders.url());
        // Side by side: one that stands still for long loses its lease.
        begun.spawn(async move {
            let writers = Application::start_as(&orders, &url, seed(test), 2).await;
            let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=100"];
            let stopped = Stopped::at("chunk_committed:3", &apply).await;
            (before, orders, url, writers, stopped)
        });
    }
    let runs = begun.join_all().await;
    primary.kill().await;
    proxy.lead_to(&standby.url_of("postgres"));
    for (.., stopped) in &runs {
        stopped.wake();
    }
    // It answers, and takes no writes yet.
    tokio::time::sleep(Duration::from_secs(3)).await;
    run(&mut connect(&standby.url_of("postgres")).await, "SELECT pg_promote()").await.expect("promoted");
    for (at, (before, orders, url, writers, stopped)) in runs.into_iter().enumerate() {
        let orders = orders.now_at(&standby);
        let ended = stopped.end().await;
        println!("{:?}: {}", ended.code, ended.err);
        ended.exits(6).says("promoted").says("replank resume");
        writers.write_on(BETWEEN).await;
        let further = if at == 0 { "resume" } else { "abort" };
        run_beside(&[further, "last", "-t", &url, "--yes"], &[]).await.exits(0);
        writers.write_on(BETWEEN).await;
        let journal = writers.stop().await;
        assert!(journal.summary().acknowledged > 20, "the writers wrote next to nothing");
        if at == 0 {
            orders.check_there_and_back(&journal, &before, RETYPE).await;
        } else {
            orders.check(&journal).await;
            assert_same(&orders.definition().await, &before, "the definition, before and after");
            orders.assert_no_helpers().await;
        }
    }
}

/// RACE-03: such a commit is in the log long before anybody sees it. Copy, comparison and swap go on meanwhile, or wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_commits_that_wait_for_a_standby_are_followed_once_they_are_seen() {
    let test = "on_postgres_commits_that_wait_for_a_standby_are_followed_once_they_are_seen";
    let server = postgres_own_server(&[]).await;
    for boundary in ["feed_opened", "chunk_committed", "verify_chunk_done", "swap_sent"] {
        let orders = Orders::within(server.database().await, 1_000).await;
        let (url, before) = (orders.url(), orders.definition().await);
        let writers = Application::start(&orders, seed(test), 3).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=100"];
        let stopped = Stopped::at(boundary, &apply).await;
        for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"]
        {
            orders.execute(statement).await;
        }
        // They write, and are not told that it is done.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stopped.wake();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let waiting = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()";
        assert_ne!(orders.text(waiting).await, "0", "nobody waits for the standby");
        for statement in ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"] {
            orders.execute(statement).await;
        }
        stopped.end().await.exits(0);
        writers.write_on(20).await;
        let journal = writers.stop().await;
        judge(boundary, &journal);
        orders.check_there_and_back(&journal, &before, RETYPE).await;
    }
}
