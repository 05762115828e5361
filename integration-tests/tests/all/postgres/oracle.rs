//! The whole way there and back on a real server under load: against the journal, and against the server's own blocking
//! ALTER.

use std::process::Stdio;
use std::time::Duration;

use super::application::{Application, Orders, assert_same, text};
use super::table::run;
use crate::binary::{Ended, replank, run_beside};
use crate::oracle::judge;
use crate::random::seed;

/// The change that most tests make: a retype, for which the server writes every row anew under a lock, and an index.
pub const RETYPE: &str = "ALTER TABLE orders ALTER COLUMN customer_id TYPE bigint, ADD CONSTRAINT orders_pair UNIQUE (customer_id, id)";

const KIND: &str = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute
     WHERE attrelid = 'orders'::regclass AND attname = 'customer_id'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_retype_and_its_revert_under_load_lose_nothing() {
    let test = "on_postgres_a_retype_and_its_revert_under_load_lose_nothing";
    let orders = Orders::with_rows(60_000).await;
    let before = orders.definition().await;
    let writers = Application::start(&orders, seed(test), 4).await;
    let url = orders.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.text(KIND).await, "bigint");
    writers.write_on(200).await;
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.text(KIND).await, "integer");
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}

/// A statement, more arguments, and columns whose values nobody can foresee.
const STATEMENTS: &[(&str, &[&str], &[&str])] = &[
    (RETYPE, &[], &[]),
    ("ALTER TABLE orders ALTER COLUMN customer_id TYPE bigint", &[], &[]),
    (
        "ALTER TABLE orders ALTER COLUMN customer_id TYPE text USING 'c' || customer_id::text",
        &["-D", "reverse=customer_id=ltrim(customer_id,'c')::int"],
        &[],
    ),
    ("ALTER TABLE orders ALTER COLUMN amount TYPE numeric(14, 4)", &[], &[]),
    ("ALTER TABLE orders ADD COLUMN u uuid DEFAULT gen_random_uuid()", &[], &["u"]),
    ("ALTER TABLE orders ALTER COLUMN customer_id TYPE bigint, DROP COLUMN memo", &[], &[]),
    ("ALTER TABLE orders ADD COLUMN g bigint GENERATED ALWAYS AS (id * 2) STORED", &[], &[]),
    (
        "ALTER TABLE orders ALTER customer_id TYPE bigint, ALTER customer_id SET DEFAULT 0, DROP COLUMN total,
         ADD COLUMN total bigint GENERATED ALWAYS AS (version * 10) STORED, ADD CHECK (version >= 0)",
        &[],
        &[],
    ),
    (
        "ALTER TABLE orders ALTER COLUMN note TYPE varchar(30), ALTER code TYPE text COLLATE \"C\", ADD extra int NOT NULL DEFAULT 3",
        &[],
        &[],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_result_is_what_the_servers_own_alter_makes() {
    let test = "on_postgres_the_result_is_what_the_servers_own_alter_makes";
    let mut broken = Vec::new();
    for (statement, more, random) in STATEMENTS {
        let compared = tokio::spawn(async move {
            println!("{statement}");
            let mut orders = Orders::with_rows(4_000).await;
            orders.alter("ALTER TABLE orders ADD COLUMN memo text").await;
            let writers = Application::start(&orders, seed(statement), 3).await;
            let url = orders.url();
            let mut apply = vec!["apply", "-t", &url, "-e", statement, "--yes"];
            apply.extend(*more);
            run_beside(&apply, &[]).await.exits(0);
            writers.write_on(30).await;
            let journal = writers.stop().await;
            judge(test, &journal);
            orders.check(&journal).await;
            orders.check_against_blocking(statement, random).await;
            run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
            orders.check(&journal).await;
            orders.assert_no_helpers().await;
        });
        // Each statement is told of, not only the first that fails.
        if let Err(error) = compared.await {
            broken.push(format!("{statement}: {error}"));
        }
    }
    assert!(broken.is_empty(), "broken: {broken:#?}");
}

/// Values that the new shape does not tell apart come back as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_values_that_were_changed_on_the_way_come_back_as_they_were() {
    let test = "on_postgres_values_that_were_changed_on_the_way_come_back_as_they_were";
    let mut orders = Orders::with_rows(4_000).await;
    orders.alter("ALTER TABLE orders ADD COLUMN memo text").await;
    orders.execute("UPDATE orders SET memo = '00' || id").await;
    let before = orders.definition().await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 3).await;
    let retype = "ALTER TABLE orders ALTER memo TYPE bigint USING memo::bigint";
    run_beside(&["apply", "-t", &url, "-e", retype, "--yes"], &[]).await.exits(0);
    writers.write_on(200).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    assert_eq!(of_untouched(&orders, "memo IS DISTINCT FROM '00' || o.id").await, "0");
    orders.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_dropped_column_comes_back_with_its_values() {
    let test = "on_postgres_a_dropped_column_comes_back_with_its_values";
    let mut orders = Orders::with_rows(5_000).await;
    orders.alter("ALTER TABLE orders ADD COLUMN memo varchar(40)").await;
    orders.execute("UPDATE orders SET memo = 'memo ' || id").await;
    let before = orders.definition().await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 3).await;
    let drop = ["apply", "-t", &url, "-e", "ALTER TABLE orders DROP COLUMN memo", "--yes"];
    run_beside(&drop, &[]).await.exits(0);
    let columns =
        "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'memo'";
    assert_eq!(orders.text(columns).await, "0");
    writers.write_on(300).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_eq!(of_untouched(&orders, "memo IS NULL").await, "0", "lost");
    assert_eq!(of_untouched(&orders, "memo <> 'memo ' || o.id").await, "0", "foreign");
    // A row that was only updated keeps its own, and one whose key was taken by another row has no foreign one: codes
    // of rows that never changed keys are still their own.
    let kept = "SELECT count(*)::text FROM orders WHERE memo = 'memo ' || id AND version > 0 AND version < 4";
    assert_ne!(orders.text(kept).await, "0", "rows that were updated know what they knew");
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}

/// How many rows that no writer ever touched are so.
async fn of_untouched(orders: &Orders, condition: &str) -> String {
    orders
        .text(&format!(
            "SELECT count(*)::text FROM orders AS o WHERE ({condition})
             AND NOT EXISTS (SELECT FROM audit WHERE audit.id = o.id AND tx <> 'start')"
        ))
        .await
}

/// Runs a command line that goes on while the test does.
fn started(args: &[&str]) -> std::process::Child {
    let mut command = replank(args);
    command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs")
}

async fn ended(child: std::process::Child) -> Ended {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joins");
    Ended::of(output.expect("ends"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_transaction_that_holds_the_table_delays_the_swap_and_no_writer() {
    let test = "on_postgres_a_transaction_that_holds_the_table_delays_the_swap_and_no_writer";
    let orders = Orders::with_rows(2_000).await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 3).await;
    let mut holder = orders.connect().await;
    run(&mut holder, "BEGIN; SELECT count(*) FROM orders").await.expect("held");
    let child = started(&["apply", "-t", &url, "-e", RETYPE, "--yes"]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(orders.text(KIND).await, "integer", "the swap waits for the transaction");
    run(&mut holder, "COMMIT").await.expect("let go");
    ended(child).await.exits(0).says("held by").says("SELECT count(*) FROM orders");
    assert_eq!(orders.text(KIND).await, "bigint");
    let journal = writers.stop().await;
    judge(test, &journal);
    // Two lock budgets and the noise of a small machine; the transaction held the table for seconds.
    assert!(journal.summary().longest < Duration::from_millis(1_500), "{:?}", journal.summary().longest);
    orders.check(&journal).await;
}

/// It holds no lock, only a snapshot: of a table that was swapped in later it would see too little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_old_snapshot_delays_the_swap_and_reads_what_it_saw() {
    let test = "on_postgres_an_old_snapshot_delays_the_swap_and_reads_what_it_saw";
    let orders = Orders::with_rows(2_000).await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 3).await;
    writers.write_on(20).await;
    let mut old = orders.connect().await;
    run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("begun");
    let snapshot = text(&mut old, "SELECT pg_export_snapshot()").await;
    let all = "SELECT count(*) || ' ' || md5(string_agg(o::text, ';' ORDER BY id)) FROM orders AS o";
    let mut other = orders.connect().await;
    let same = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'");
    run(&mut other, &same).await.expect("the same snapshot");
    let seen = text(&mut other, all).await;
    run(&mut other, "COMMIT").await.expect("ended");
    run(&mut old, "SELECT 1").await.expect("asked");
    let child = started(&["apply", "-t", &url, "-e", RETYPE, "--yes"]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(orders.text(KIND).await, "integer", "the swap waits for the snapshot");
    assert_eq!(text(&mut old, all).await, seen);
    run(&mut old, "COMMIT").await.expect("let go");
    ended(child).await.exits(0).says("held by");
    assert_eq!(orders.text(KIND).await, "bigint");
    let journal = writers.stop().await;
    judge(test, &journal);
    assert!(journal.summary().longest < Duration::from_millis(1_500), "{:?}", journal.summary().longest);
    orders.check(&journal).await;
}

/// Readers with snapshots of their own come and go all the time: each sees whole transactions, before and after the swap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_transactions_with_snapshots_of_their_own_never_miss_a_row() {
    let test = "on_postgres_transactions_with_snapshots_of_their_own_never_miss_a_row";
    let orders = Orders::with_rows(2_000).await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 2).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = orders.connect().await;
        let stop = tokio::spawn(async move {
            let mut reads = 0;
            let until = tokio::time::Instant::now() + Duration::from_secs(12);
            while tokio::time::Instant::now() < until {
                run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.expect("begun");
                // In one snapshot, the last record of each key is what the table holds.
                let missing = "SELECT count(*)::text FROM (SELECT DISTINCT ON (id) id, \"row\" FROM audit ORDER BY id, seq DESC) AS a
                     FULL JOIN orders AS o USING (id) WHERE (a.\"row\" IS NULL) <> (o.version IS NULL)";
                assert_eq!(text(&mut reader, missing).await, "0");
                run(&mut reader, "COMMIT").await.expect("ended");
                reads += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            reads
        });
        readers.push(stop);
    }
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    for reader in readers {
        assert!(reader.await.expect("nothing is missed") > 20);
    }
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    orders.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_rebuild_under_load_gives_the_space_back_and_changes_nothing() {
    let test = "on_postgres_a_rebuild_under_load_gives_the_space_back_and_changes_nothing";
    let orders = Orders::with_rows(20_000).await;
    orders.execute("ALTER TABLE orders SET (autovacuum_enabled = false)").await;
    for _ in 0..3 {
        orders.execute("UPDATE orders SET version = version").await;
    }
    let before = orders.definition().await;
    let size = "SELECT pg_total_relation_size('orders')::text";
    let large: u64 = orders.text(size).await.parse().expect("bytes");
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 4).await;
    run_beside(&["rebuild", "-t", &url, "orders", "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    let small: u64 = orders.text(size).await.parse().expect("bytes");
    assert!(small < large / 2, "{large} bytes, and {small} now");
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["rebuild", "-t", &url, "orders", "--yes", "--no-revert"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_change_made_final_under_load_leaves_only_records() {
    let test = "on_postgres_a_change_made_final_under_load_leaves_only_records";
    let orders = Orders::with_rows(20_000).await;
    let before = orders.names().await;
    let writers = Application::start(&orders, seed(test), 4).await;
    let url = orders.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    orders.check_against_blocking(RETYPE, &[]).await;
    let mut now = orders.names().await;
    now.retain(|name| !name.contains("orders_pair"));
    assert_eq!(now, before);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(3).says("finalized");
}

/// TRUNCATE takes the table alone: it is in the audit between what came before it and what came after.
async fn truncate(orders: &Orders) {
    orders
        .execute(
            "BEGIN; TRUNCATE orders;
             INSERT INTO audit (tx, id, \"row\") SELECT DISTINCT 'truncate', id, NULL FROM audit; COMMIT",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_truncate_is_followed_during_the_copy_and_after_the_swap() {
    let test = "on_postgres_truncate_is_followed_during_the_copy_and_after_the_swap";
    let orders = Orders::with_rows(8_000).await;
    let before = orders.definition().await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 3).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    writers.write_on(20).await;
    truncate(&orders).await;
    writers.write_on(20).await;
    run_beside(&apply, &[]).await.exits(0);
    writers.write_on(20).await;
    truncate(&orders).await;
    writers.write_on(20).await;
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}

/// One with an old snapshot may remove rows that it does not see: that is noticed, and the run does not go on as if
/// nothing had happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_truncate_with_a_snapshot_of_its_own_ends_the_run() {
    let orders = Orders::with_rows(3_000).await;
    let url = orders.url();
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    orders
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; TRUNCATE orders; INSERT INTO orders (id, customer_id) VALUES (1, 1); COMMIT")
        .await;
    let ended = run_beside(&apply, &[]).await;
    assert_ne!(ended.code, Some(0), "{ended:?}");
    ended.says("TRUNCATE");
    assert_eq!(orders.text(KIND).await, "integer");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    orders.assert_no_helpers().await;
    run_beside(&apply, &[]).await.exits(0);
    assert_eq!(orders.text("SELECT string_agg(id || ' ' || customer_id, ',') FROM orders").await, "1 1");
}

/// It has rights on the application's tables and on nothing of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_writer_with_rights_on_the_table_alone_goes_on_writing() {
    let test = "on_postgres_a_writer_with_rights_on_the_table_alone_goes_on_writing";
    let orders = Orders::with_rows(4_000).await;
    let login = format!("w{}", orders.name());
    orders
        .execute(&format!(
            "CREATE ROLE {login} LOGIN PASSWORD 'secret-word';
             GRANT SELECT, INSERT, UPDATE, DELETE ON orders, audit, committed, turns TO {login};
             REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {login};
             REVOKE ALL ON DATABASE {} FROM PUBLIC; GRANT CONNECT ON DATABASE {0} TO {login}",
            orders.name()
        ))
        .await;
    let before = orders.definition().await;
    let url = orders.url();
    let theirs = url.replacen("postgres:replank", &format!("{login}:secret-word"), 1);
    let writers = Application::start_as(&orders, &theirs, seed(test), 3).await;
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
    orders.execute(&format!("DROP OWNED BY {login}; DROP ROLE {login}")).await;
}

/// Whoever has rights on the table, within its policies, gets none on what lies beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_lies_beside_the_table_is_open_to_nobody() {
    let orders = Orders::with_rows(1_000).await;
    let login = format!("w{}", orders.name());
    orders
        .execute(&format!(
            "CREATE ROLE {login}; GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO {login}; GRANT SELECT (id) ON orders TO {login};
             ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id <= 10);
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {login}, PUBLIC;
             ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {login}, PUBLIC"
        ))
        .await;
    let url = orders.url();
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    let open = format!(
        "SELECT string_agg(c.oid::regclass || ' ' || p, ', ') FROM pg_class c,
         unnest('{{SELECT, INSERT, UPDATE, DELETE, TRUNCATE}}'::text[]) AS p
         WHERE c.relkind = 'r' AND (c.relname LIKE '\\_rp\\_%' OR c.relnamespace = '_replank'::regnamespace)
         AND has_schema_privilege('{login}', c.relnamespace, 'USAGE') AND has_table_privilege('{login}', c.oid, p)"
    );
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    let meanwhile = orders.text(&open).await;
    run_beside(&apply, &[]).await.exits(0);
    let after = orders.text(&open).await;
    assert_eq!((meanwhile.as_str(), after.as_str()), ("", ""), "while rows are copied, and after the swap");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let seen = format!("SET ROLE {login}; SELECT count(*)::text FROM orders");
    assert_eq!(orders.text(&seen).await, "10");
    orders.assert_no_helpers().await;
    orders
        .execute(&format!(
            "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {login}, PUBLIC;
             ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM {login}; DROP OWNED BY {login}; DROP ROLE {login}"
        ))
        .await;
}

/// A session that replays the changes of another server fires no ordinary trigger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_writes_of_a_session_that_replays_are_captured() {
    let test = "on_postgres_writes_of_a_session_that_replays_are_captured";
    let orders = Orders::with_rows(3_000).await;
    let before = orders.definition().await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 2).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    let replay = |from: i64| {
        // Keys that no writer has.
        let (first, last) = (-from - 99, -from);
        let row = "jsonb_build_array(customer_id::text, trim_scale(amount), note, code, version)::text";
        format!(
            "SET session_replication_role = replica; BEGIN;
             INSERT INTO orders (id, customer_id, code) SELECT n, 7, 'r' || n FROM generate_series({first}, {last}) AS n;
             UPDATE orders SET note = 'replayed' WHERE id BETWEEN {first} AND {last} AND id % 2 = 0;
             DELETE FROM orders WHERE id = {first};
             UPDATE orders SET id = id - 1000000 WHERE id = {last};
             INSERT INTO audit (tx, id, \"row\") SELECT 'replay', id, {row} FROM orders
             WHERE id BETWEEN {first} AND {last} OR id = {last} - 1000000;
             COMMIT; RESET session_replication_role"
        )
    };
    orders.execute(&replay(0)).await;
    run_beside(&apply, &[]).await.exits(0);
    orders.execute(&replay(1_000)).await;
    writers.write_on(30).await;
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}
