//! The swap of a table with partitions: how long others wait, and for whom it waits itself.

use std::time::Duration;

use super::application::{Application, Orders, assert_same};
use super::partitioned::{File, whole};
use super::table::run;
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::postgres_own_server;
use crate::stopped::Stopped;

const COLUMNS: &str = "id bigint PRIMARY KEY, customer_id int NOT NULL, amount numeric(12, 2), note varchar(40) DEFAULT 'none', code varchar(40),
    version int NOT NULL DEFAULT 0, total int GENERATED ALWAYS AS (version * 10) STORED";

/// Divided by its key, which stays as it is.
fn hashed(parts: usize) -> String {
    let parts: Vec<String> = (0..parts)
        .map(|at| format!("CREATE TABLE orders_{at} PARTITION OF orders FOR VALUES WITH (MODULUS {parts}, REMAINDER {at});"))
        .collect();
    format!(
        "CREATE TABLE orders ({COLUMNS}) PARTITION BY HASH (id); {} CREATE INDEX orders_code ON orders (code)",
        parts.concat()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_two_hundred_partitions_are_made_within_the_lock_budget_and_left_again() {
    let test = "on_postgres_two_hundred_partitions_are_made_within_the_lock_budget_and_left_again";
    let orders = Orders::with_rows(2_000).await;
    let url = orders.url();
    let before = whole(&mut orders.connect().await).await;
    let file = File::of(&hashed(200));
    let path = file.path();
    let rebuild = ["rebuild", "orders", "--as", &path, "-t", &url, "--yes"];
    // The server's table of locks is for everybody.
    let many = File::of(&hashed(3_000));
    run_beside(&["rebuild", "orders", "--as", &many.path(), "-t", &url, "--yes"], &[])
        .await
        .exits(3)
        .says("max_locks_per_transaction");
    let brief = [&rebuild[..], &["--lock-budget", "50ms"]].concat();
    run_beside(&brief, &[]).await.exits(3).says("refused P139").says("about 140 ms");
    // Whoever insists is given way to, each time.
    let insisting = [&brief[..], &["-D", "waive=P139 reason=\"a test\""]].concat();
    let given_up = run_beside(&insisting, &[("REPLANK_KILL_AT", "swap_intended:3")]).await.was_killed();
    given_up.says("longer than the lock budget of 50 ms").says("200 partitions");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, given up");
    let writers = Application::start(&orders, seed(test), 2).await;
    let rebuild = [&rebuild[..], &["--lock-budget", "2s"]].concat();
    run_beside(&rebuild, &[]).await.exits(0).says("P137");
    assert_eq!(
        orders.text("SELECT count(*)::text FROM pg_inherits WHERE inhparent = 'orders'::regclass").await,
        "200"
    );
    writers.write_on(30).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(30).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}

/// Nobody is in its way, so that it would be the same for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_exchange_that_is_too_long_by_itself_is_given_up_soon_and_resumed_with_more_time() {
    let orders = Orders::with_rows(300).await;
    let url = orders.url();
    let before = whole(&mut orders.connect().await).await;
    let slow = |seconds: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds}); END $$;
             CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION slow()"
        )
    };
    let change = ["apply", "-t", &url, "-e", "ALTER TABLE orders ALTER amount TYPE numeric(14, 4)", "--yes"];
    let plain = Stopped::within("chunk_committed", &change, &[("REPLANK_KILL_AT", "swap_intended:2")]).await;
    orders.execute(&slow("1.2")).await;
    plain.go_on().await.was_killed().says("the exchange of the names took longer than 1000 ms");
    orders.execute("DROP EVENT TRIGGER slow").await;
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);

    let file = File::of(&hashed(2));
    let stopped =
        Stopped::at("chunk_committed", &["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"])
            .await;
    orders.execute(&slow("0.25")).await;
    let given_up = stopped.go_on().await.exits(5);
    given_up
        .says("the lock budget of 200 ms")
        .says("no swap: 3 attempts were taken back, each of them too long by itself")
        .says("the table is as it was")
        .says("--lock-budget");
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, given up");
    run_beside(&["resume", "last", "-t", &url, "--yes", "--lock-budget", "0ms"], &[]).await.exits(2);
    run_beside(&["resume", "last", "-t", &url, "--yes", "--lock-budget", "6s"], &[]).await.exits(0);
    assert_eq!(orders.text("SELECT count(*)::text FROM orders_0").await.len(), 3);
    orders.execute("DROP EVENT TRIGGER slow").await;
}

/// What waits for the first of two locks while somebody has the second one is gone before the server ends either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_who_writes_two_partitions_is_never_ended_for_the_sake_of_the_swap() {
    let orders = Orders::with_rows(500).await;
    orders
        .execute(&format!("DROP TABLE orders; {}; INSERT INTO orders (id, customer_id) SELECT n, 1 FROM generate_series(1, 500) AS n", hashed(2)))
        .await;
    let url = orders.url();
    let file = File::of(&format!("CREATE TABLE orders ({COLUMNS})"));
    let path = file.path();
    let rebuild = ["rebuild", "orders", "--as", &path, "-t", &url, "--yes", "--lock-budget", "4s"];
    let stopped = Stopped::at("chunk_committed", &rebuild).await;
    let writer = tokio::spawn(two_in_turn(orders.connect().await));
    tokio::time::sleep(Duration::from_millis(50)).await;
    stopped.go_on().await.exits(0);
    if let Some(told) = writer.await.expect("it writes") {
        assert!(told.contains("does not exist"), "{told}");
    }
}

/// Writes one partition, then nothing for longer than it takes the server to look for a deadlock, and then the one that is locked
/// before it; some times, or until there is none. Answers with what it was told then.
async fn two_in_turn(mut connection: sqlx::postgres::PgConnection) -> Option<String> {
    for _ in 0..3 {
        let write = "BEGIN; UPDATE orders_1 SET version = version + 1; SELECT pg_sleep(3); UPDATE orders_0 SET version = version + 1; COMMIT";
        if let Err(error) = run(&mut connection, write).await {
            return Some(error.to_string());
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    None
}

/// A sequence that a transaction has asked for a number is locked to its end, and the swap needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_who_has_a_number_of_the_tables_sequence_is_waited_for_by_name() {
    let orders = Orders::with_rows(200).await;
    orders.execute("CREATE SEQUENCE counted OWNED BY orders.id; ALTER TABLE orders ALTER id SET DEFAULT nextval('counted')").await;
    let url = orders.url();
    let mut holder = orders.connect().await;
    run(&mut holder, "BEGIN; SELECT nextval('counted')").await.expect("a number");
    let change = url.clone();
    let rebuild = tokio::spawn(async move {
        run_beside(
            &["apply", "-t", &change, "-e", "ALTER TABLE orders ALTER customer_id TYPE bigint", "--yes"],
            &[],
        )
        .await
    });
    // It is said in the events as well.
    let told = "SELECT count(*)::text FROM pg_class WHERE oid = to_regclass('_replank.events')";
    let said = "SELECT count(*)::text FROM _replank.events AS e WHERE e::text LIKE '%held by%'";
    for _ in 0..150 {
        if orders.text(told).await == "1" && orders.text(said).await != "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    run(&mut holder, "INSERT INTO orders (id, customer_id) VALUES (1000, 1); COMMIT")
        .await
        .expect("nobody is in its way");
    rebuild.await.expect("it runs").exits(0).says("the table is held by").says("nextval");
    assert_eq!(orders.text("SELECT count(*)::text FROM orders").await, "201");
}

/// On the way there and back, with rows that move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_server_killed_on_the_way_into_partitions_and_out_of_them_loses_nothing() {
    let test = "on_postgres_the_server_killed_on_the_way_into_partitions_and_out_of_them_loses_nothing";
    let server = postgres_own_server(&["-c", "wal_writer_delay=10s"]).await;
    let orders = Orders::within(server.database().await, 1_000).await;
    let url = orders.url();
    let before = whole(&mut orders.connect().await).await;
    let file = File::of(&hashed(4));
    let path = file.path();
    let rebuild = ["rebuild", "orders", "--as", &path, "-t", &url, "--yes"];
    let revert = ["revert", "last", "-t", &url, "--yes"];
    let writers = Application::start_with_careless(&orders, seed(test), 2).await;
    for (boundary, words) in [
        ("chunk_committed", &rebuild[..]),
        ("drained", &revert),
        ("swap_sent", &rebuild),
        ("swap_sent", &revert),
    ] {
        let stopped = Stopped::at(boundary, words).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        let ended = stopped.end().await.exits(0);
        assert!(!ended.err.contains("differed without a change"), "{}", ended.err);
        writers.write_on(20).await;
    }
    let journal = writers.stop().await;
    orders.check(&journal).await;
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}
