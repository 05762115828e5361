//! The server's own repack beside those who write, which PostgreSQL has from 19 on: taken when it is asked for, and ended
//! where it would do harm. Before 19 there is none.

use std::process::Stdio;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::application::{Application, Orders, text};
use super::table::{Table, Writers, query, run};
use crate::binary::{Ended, replank, run_beside};
use crate::oracle::judge;
use crate::random::seed;

/// As a person types it who has read what the plan says.
const ASKED: [&str; 6] = [
    "--no-revert",
    "-D",
    "strategy=native-online",
    "-D",
    "waive=P136 reason=\"nobody here keeps a snapshot\"",
    "--yes",
];
const FILE: &str = "SELECT pg_relation_filenode('orders')::text";
/// Two lock budgets, and the noise of a small machine.
const LONGEST: Duration = Duration::from_millis(1_500);

/// A table whose last index takes a second to be built, so that something can happen meanwhile.
async fn slow_orders() -> Orders {
    let mut orders = Orders::with_rows(1_000).await;
    orders
        .alter(
            "CREATE FUNCTION public.slow(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
                 'BEGIN PERFORM pg_sleep(0.001); RETURN n; END';
             CREATE INDEX orders_slow ON orders (public.slow(id))",
        )
        .await;
    orders
}

async fn repack(url: &str) -> Ended {
    let mut args = vec!["rebuild", "orders", "-t", url];
    args.extend(ASKED);
    run_beside(&args, &[]).await
}

/// Under writers, where what counts is that it ends: on a busy machine the exchange takes longer than the usual budget, and
/// the repack gives up.
async fn repack_at_leisure(url: &str) -> Ended {
    let mut args = vec!["rebuild", "orders", "-t", url, "--lock-budget", "2s"];
    args.extend(ASKED);
    run_beside(&args, &[]).await
}

async fn is_there(connection: &mut PgConnection) -> bool {
    text(connection, "SELECT (current_setting('server_version_num')::int >= 190000)::text").await == "true"
}

/// Of servers before 19.
fn says_there_is_none(ended: Ended) {
    ended.exits(3).says("`strategy=native-online` was asked for");
}

/// Every write is there, and nothing but the files is another.
async fn ends_as_it_was(
    test: &str,
    writers: crate::workload::Writers,
    orders: &Orders,
    before: &[String],
    names: &[String],
) {
    writers.write_on(10).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_eq!(orders.definition().await, before);
    assert_eq!(orders.names().await, names, "left behind, or gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_own_repack_is_taken_only_when_it_is_asked_for_and_loses_nothing() {
    let test = "on_postgres_the_servers_own_repack_is_taken_only_when_it_is_asked_for_and_loses_nothing";
    let orders = Orders::with_rows(20_000).await;
    let (url, before, file) = (orders.url(), orders.definition().await, orders.text(FILE).await);
    let planned = run_beside(&["plan", "-t", &url, "-e", "VACUUM FULL orders"], &[]).await;
    // It would leave the rows in the order in which they lie.
    let ordered = ["apply", "-t", &url, "-e", "CLUSTER orders USING orders_pkey"];
    run_beside(&[&ordered[..], &ASKED[..]].concat(), &[]).await.exits(3);
    let names = orders.names().await;
    let writers = Application::start(&orders, seed(test), 3).await;
    writers.write_on(10).await;
    if !is_there(&mut orders.connect().await).await {
        says_there_is_none(repack(&url).await);
        assert_eq!(orders.text(FILE).await, file);
    } else {
        planned
            .exits(0)
            .says("shadow")
            .says("would find an empty table; `-D strategy=native-online` takes it");
        let asked = ["rebuild", "orders", "-t", &url, "--yes", "-D", "strategy=native-online"];
        run_beside(&asked, &[]).await.exits(3).says("there is no way back");
        let mut without = asked.to_vec();
        without.push("--no-revert");
        run_beside(&without, &[]).await.exits(3).says("P136");
        assert_eq!(orders.text(FILE).await, file);
        repack_at_leisure(&url).await.exits(0);
        assert_ne!(orders.text(FILE).await, file, "it was not written anew");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(3);
    }
    ends_as_it_was(test, writers, &orders, &before, &names).await;
}

/// The server itself would keep everybody waiting behind the reader for as long as that reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_own_repack_gives_up_behind_a_reader_and_is_resumed() {
    let table = Table::with_rows(20_000).await;
    let (url, file) = (table.url(), table.text(FILE).await);
    if !is_there(&mut table.connect().await).await {
        says_there_is_none(repack(&url).await);
        return;
    }
    // Between two statements it has no snapshot, and has written nothing.
    let mut reader = table.connect().await;
    run(&mut reader, "BEGIN; SELECT count(*) FROM orders").await.expect("read");
    let writers = Writers::start(&table, 2).await;
    repack(&url).await.exits(5).says("the table is as it was").says("hint: resume it when less is going on");
    assert_eq!(table.text(FILE).await, file);
    assert_eq!(
        table.text("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name ~ 'repack'").await,
        "0"
    );
    run(&mut reader, "COMMIT").await.expect("over");
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_ne!(table.text(FILE).await, file);
    let longest = writers.stop(&table).await;
    assert!(longest < LONGEST, "a writer waited for {longest:?}");
}

/// Measured: without our look it finds no row at all, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_own_repack_does_not_begin_beside_an_older_snapshot() {
    let table = Table::with_rows(2_000).await;
    let (url, file) = (table.url(), table.text(FILE).await);
    if !is_there(&mut table.connect().await).await {
        says_there_is_none(repack(&url).await);
        return;
    }
    let mut report = table.connect().await;
    run(&mut report, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customers")
        .await
        .expect("read");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let repacking = tokio::spawn({
        let url = url.clone();
        async move { repack(&url).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(table.text(FILE).await, file);
    let seen = query(&mut report, "SELECT count(*)::text FROM orders").await;
    assert_eq!(sqlx::Row::get::<String, _>(&seen[0], 0), "2000");
    run(&mut report, "COMMIT").await.expect("over");
    repacking.await.expect("joined").exits(0).says("would find the table empty");
    assert_ne!(table.text(FILE).await, file);
}

/// The server itself would exchange the files, and the report would find none of its rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_own_repack_is_ended_where_a_snapshot_would_find_the_table_empty() {
    let orders = slow_orders().await;
    let (url, file) = (orders.url(), orders.text(FILE).await);
    if !is_there(&mut orders.connect().await).await {
        says_there_is_none(repack(&url).await);
        return;
    }
    let repacking = tokio::spawn({
        let url = url.clone();
        async move { repack(&url).await }
    });
    let mut report = orders.connect().await;
    let copies = "SELECT 1 FROM pg_stat_progress_repack WHERE datname = current_database() AND phase = 'rebuilding index'";
    let began = Instant::now();
    while query(&mut report, copies).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it was never seen to copy");
    }
    run(&mut report, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM turns LIMIT 1")
        .await
        .expect("read");
    repacking
        .await
        .expect("joined")
        .exits(5)
        .says("would find the table empty")
        .says("the table is as it was");
    let seen = query(&mut report, "SELECT count(*)::text FROM orders").await;
    assert_eq!(sqlx::Row::get::<String, _>(&seen[0], 0), "1000");
    run(&mut report, "COMMIT").await.expect("over");
    assert_eq!(orders.text(FILE).await, file);
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_ne!(orders.text(FILE).await, file);
}

/// Nobody is at the gate from then on, and the server would exchange the files within half a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_own_repack_ends_with_a_runner_that_is_killed() {
    let few = Orders::with_rows(1).await;
    if !is_there(&mut few.connect().await).await {
        says_there_is_none(repack(&few.url()).await);
        return;
    }
    let orders = slow_orders().await;
    let (url, file) = (orders.url(), orders.text(FILE).await);
    let mut args = vec!["rebuild", "orders", "-t", &url];
    args.extend(ASKED);
    let mut runner =
        replank(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let mut report = orders.connect().await;
    let builds = "SELECT 1 FROM pg_stat_progress_repack WHERE datname = current_database() AND phase = 'rebuilding index'";
    let began = Instant::now();
    while query(&mut report, builds).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it was never seen to build");
    }
    run(&mut report, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM turns LIMIT 1")
        .await
        .expect("read");
    // A server that asks every second whether the runner is there has asked just now.
    let has_asked = "SELECT 1 FROM pg_stat_progress_repack p JOIN pg_stat_activity a USING (pid)
         WHERE p.datname = current_database() AND clock_timestamp() - a.query_start > interval '1020 milliseconds'";
    let mut looks = orders.connect().await;
    while query(&mut looks, has_asked).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is over already");
    }
    runner.kill().expect("it is our child");
    runner.wait().expect("it ends");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(orders.text(FILE).await, file, "the files were exchanged, with nobody at the gate");
    let seen = query(&mut report, "SELECT count(*)::text FROM orders").await;
    assert_eq!(sqlx::Row::get::<String, _>(&seen[0], 0), "1000");
    run(&mut report, "COMMIT").await.expect("over");
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_ne!(orders.text(FILE).await, file);
}

/// Its session is ended while it copies; what it leaves is nothing, and it is run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_servers_own_repack_leaves_nothing_when_it_is_ended() {
    let test = "on_postgres_the_servers_own_repack_leaves_nothing_when_it_is_ended";
    let orders = slow_orders().await;
    let (url, before, file) = (orders.url(), orders.definition().await, orders.text(FILE).await);
    if !is_there(&mut orders.connect().await).await {
        says_there_is_none(repack(&url).await);
        return;
    }
    let names = orders.names().await;
    let writers = Application::start(&orders, seed(test), 2).await;
    let repacking = tokio::spawn({
        let url = url.clone();
        async move { repack_at_leisure(&url).await }
    });
    let (mut connection, mut is_ended, began) = (orders.connect().await, false, Instant::now());
    let strike = "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_repack
         WHERE datname = current_database() AND phase = 'rebuilding index'";
    while !is_ended {
        assert!(began.elapsed() < Duration::from_secs(60), "it was never seen to copy");
        is_ended = !query(&mut connection, strike).await.is_empty();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    repacking.await.expect("joined").exits(0);
    assert_ne!(orders.text(FILE).await, file);
    ends_as_it_was(test, writers, &orders, &before, &names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_tables_that_the_server_does_not_repack_beside_writers_are_rebuilt() {
    for (change, why) in [
        ("ALTER TABLE orders REPLICA IDENTITY FULL", "no replica identity with an index"),
        ("ALTER TABLE orders SET UNLOGGED", "no UNLOGGED table"),
    ] {
        let table = Table::with_rows(20).await;
        let (url, is_there) = (table.url(), is_there(&mut table.connect().await).await);
        table.execute(change).await;
        match is_there {
            true => repack(&url).await.exits(3).says(why),
            false => repack(&url).await.exits(3).says("`strategy=native-online` was asked for"),
        };
        run_beside(&["rebuild", "orders", "-t", &url, "--yes"], &[]).await.exits(0);
    }
}
