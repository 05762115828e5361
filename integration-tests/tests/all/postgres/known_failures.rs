//! What other tools have failed at, each with its name in `docs/failures.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Row as _;
use tokio::task::JoinSet;

use super::Table;
use super::application::{Application, Orders, text};
use super::oracle::RETYPE;
use super::table::{query, run};
use crate::binary::run_beside;
use crate::kills::BETWEEN;
use crate::random::{Random, seed};
use crate::server::postgres_own_server;
use crate::stopped::Stopped;

/// How often each hash was counted up, less what was there of it when it was deleted.
type Counts = BTreeMap<i32, i64>;

/// UNIQ-09: rows that come again under the same unique value, and go, all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_counters_kept_by_on_conflict_count_exactly_through_a_rebuild() {
    let test = "on_postgres_counters_kept_by_on_conflict_count_exactly_through_a_rebuild";
    let (table, seed) = (Table::with_rows(1).await, seed(test));
    let url = table.url();
    table.execute("CREATE TABLE t (id bigserial PRIMARY KEY, hash int UNIQUE, n int NOT NULL)").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (mut connection, is_over) = (table.connect().await, Arc::clone(&is_over));
        writers.spawn(async move {
            let (mut random, mut counts) = (Random::new(seed, writer), Counts::new());
            while !is_over.load(Ordering::Relaxed) {
                let hash = i32::try_from(random.below(31)).expect("small");
                let sql = match random.one_in(5) {
                    true => format!("DELETE FROM t WHERE hash = {hash} RETURNING -n::bigint"),
                    false => format!(
                        "INSERT INTO t (hash, n) VALUES ({hash}, 1) ON CONFLICT (hash) DO UPDATE SET n = t.n + 1 RETURNING 1::bigint"
                    ),
                };
                for row in query(&mut connection, &sql).await {
                    *counts.entry(hash).or_default() += row.get::<i64, _>(0);
                }
            }
            counts
        });
    }
    for args in
        [&["apply", "-e", "ALTER TABLE t ALTER n TYPE bigint"][..], &["revert", "last"], &["rebuild", "t"]]
    {
        run_beside(&[args, &["-t", &url, "--yes"]].concat(), &[]).await.exits(0);
    }
    is_over.store(true, Ordering::Relaxed);
    let mut counts = Counts::new();
    while let Some(writer) = writers.join_next().await {
        for (hash, count) in writer.expect("no write fails") {
            *counts.entry(hash).or_default() += count;
        }
    }
    counts.retain(|_, count| *count != 0);
    let rows = query(&mut table.connect().await, "SELECT hash, n FROM t").await;
    let there: Counts = rows.iter().map(|row| (row.get(0), i64::from(row.get::<i32, _>(1)))).collect();
    assert_eq!(there, counts);
}

/// OBJ-08: nothing of the catalogue is written but by the server's own statements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_server_finds_its_files_sound_after_many_swaps_under_load() {
    let test = "on_postgres_the_server_finds_its_files_sound_after_many_swaps_under_load";
    let orders = Orders::with_rows(1_000).await;
    let url = orders.url();
    let writers = Application::start(&orders, seed(test), 3).await;
    for _ in 0..3 {
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        run_beside(&["rebuild", "orders", "-t", &url, "--yes", "--no-revert"], &[]).await.exits(0);
    }
    let journal = writers.stop().await;
    orders.check(&journal).await;
    let mut connection = orders.connect().await;
    for sql in ["CREATE EXTENSION amcheck", "VACUUM (FREEZE) orders"] {
        run(&mut connection, sql).await.expect(sql);
    }
    let corrupt = "SELECT string_agg(v::text, '; ') FROM verify_heapam('orders') AS v";
    assert_eq!(text(&mut connection, corrupt).await, "");
    // It fails at the first thing that is not as it should be.
    let indexes = "SELECT count(bt_index_check(indexrelid, true))::text FROM pg_index WHERE indrelid = 'orders'::regclass";
    assert_eq!(text(&mut connection, indexes).await, "5");
    let age = "SELECT (age(relfrozenxid) BETWEEN 0 AND 100000 AND mxid_age(relminmxid) BETWEEN 0 AND 100000)::text FROM pg_class
         WHERE oid = 'orders'::regclass";
    assert_eq!(text(&mut connection, age).await, "true");
}

/// OBJ-10: what is made for a kind of table fits that kind, also after a crash; what cannot be done is said before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_kinds_of_tables_are_kept_or_refused_before_anything_is_copied() {
    let server = postgres_own_server(&[]).await;
    let table = Table::within(server.database().await, 10).await;
    let url = table.url();
    table
        .execute(
            "CREATE UNLOGGED TABLE quick (id int PRIMARY KEY, n int); INSERT INTO quick SELECT g, g FROM generate_series(1, 900) g;
             CREATE TABLE plain (id int PRIMARY KEY, n int, t text); ALTER TABLE plain ALTER t SET STORAGE PLAIN;
             INSERT INTO plain SELECT g, g, 'row ' || g FROM generate_series(1, 900) g;
             CREATE FOREIGN DATA WRAPPER w; CREATE SERVER elsewhere FOREIGN DATA WRAPPER w;
             CREATE FOREIGN TABLE far (id int, n int) SERVER elsewhere;
             CREATE TABLE child (m int) INHERITS (plain); CREATE TABLE lone (id int PRIMARY KEY, n int)",
        )
        .await;
    let before = table.schema().await;
    for (name, says) in [
        ("far", "foreign table"),
        ("child", "inherit"),
        ("plain", "inherit"),
        ("customers_of_old", "no table"),
    ] {
        let change = format!("ALTER TABLE {name} ALTER n TYPE bigint");
        let ended = run_beside(&["apply", "-t", &url, "-e", &change, "--yes"], &[]).await.says(says);
        assert!(matches!(ended.code, Some(2 | 3)), "{name}: {ended:?}");
    }
    assert_eq!(table.schema().await, before);
    for sql in ["DROP TABLE child", "VACUUM FULL plain"] {
        table.execute(sql).await;
    }
    for name in ["quick", "plain"] {
        let change = format!("ALTER TABLE {name} ALTER n TYPE bigint");
        run_beside(&["apply", "-t", &url, "-e", &change, "--yes"], &[]).await.exits(0);
        let kind = format!(
            "SELECT relpersistence::text || (SELECT count(*) FROM {name})::text FROM pg_class WHERE oid = '{name}'::regclass"
        );
        let kept = if name == "quick" { "u900" } else { "p900" };
        assert_eq!(table.text(&kind).await, kept);
    }
    server.kill().await;
    server.start().await;
    // The server itself empties what is not in its log.
    for (name, rows) in [("quick", "0"), ("plain", "900")] {
        let count = format!("SELECT count(*)::text FROM {name}");
        assert_eq!(table.text(&count).await, rows);
        table.execute(&format!("INSERT INTO {name} (id, n) VALUES (1000, 7)")).await;
    }
    for name in ["quick", "plain"] {
        let run = table
            .text(&format!("SELECT id FROM _replank.runs WHERE body LIKE '%ALTER TABLE {name} %' LIMIT 1"))
            .await;
        run_beside(&["revert", &run, "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(&format!("SELECT n::text FROM {name} WHERE id = 1000")).await, "7");
    }
}

/// STALL-03: a statement does not grow with what is applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_fifty_thousand_rows_deleted_at_once_are_applied_on_a_small_stack() {
    let server = postgres_own_server(&["-c", "max_stack_depth=100kB"]).await;
    let table = Table::within(server.database().await, 1).await;
    let url = table.url();
    table
        .execute(
            "CREATE TABLE t (a int, b int, n int, PRIMARY KEY (a, b));
             INSERT INTO t SELECT g % 100, g, g FROM generate_series(1, 55000) g",
        )
        .await;
    let stopped = Stopped::at(
        "verify_chunk_done",
        &["apply", "-t", &url, "-e", "ALTER TABLE t ALTER n TYPE bigint", "--yes"],
    )
    .await;
    table.execute("DELETE FROM t WHERE b <= 50000").await;
    stopped.go_on().await.exits(0);
    assert_eq!(table.text("SELECT count(*) || ' ' || sum(n) FROM t").await, "5000 262502500");
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
}

/// STALL-07: without a key nothing tells rows apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_table_without_a_key_is_refused_with_what_to_add() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table.execute("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 2), (1, 2)").await;
    let before = table.schema().await;
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE t ALTER a TYPE bigint", "--yes"], &[])
        .await
        .exits(3)
        .says("no primary key")
        .says("hint: ");
    assert_eq!(table.schema().await, before);
}

/// VERIFY-07: what a server forbids is not what rows are compared with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_rows_are_compared_where_md5_is_forbidden() {
    let orders = Orders::with_rows(500).await;
    let (url, login) = (orders.url(), format!("w{}", orders.name()));
    orders
        .execute(&format!(
            "CREATE ROLE {login} LOGIN PASSWORD 'secret-word'; GRANT pg_read_all_stats TO {login};
             GRANT CREATE ON DATABASE {} TO {login}; GRANT CREATE ON SCHEMA public TO {login};
             ALTER TABLE orders OWNER TO {login};
             REVOKE EXECUTE ON FUNCTION md5(text), md5(bytea), sha224(bytea), sha256(bytea), sha384(bytea), sha512(bytea) FROM PUBLIC",
            orders.name()
        ))
        .await;
    let theirs = url.replacen("postgres:replank", &format!("{login}:secret-word"), 1);
    run_beside(&["apply", "-t", &theirs, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    // It does compare: a row that nobody has changed is not as it should be.
    let old = orders.text("SELECT name FROM _replank.objects WHERE role = 'retired'").await;
    orders.execute(&format!("UPDATE {old} SET note = 'damaged' WHERE id = 77")).await;
    run_beside(&["verify", "last", "-t", &theirs, "--yes"], &[])
        .await
        .exits(0)
        .says("1 rows differed without a change and were applied again ([\"77\"])");
    orders.execute(&format!("DROP OWNED BY {login} CASCADE; DROP ROLE {login}")).await;
}

/// KEY-17: the end of a table is where its keys end, not where its pages seem to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_gap_in_the_middle_of_the_file_is_not_the_end_of_the_table() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for sql in [
        "CREATE TABLE t (id int PRIMARY KEY, n int, j jsonb) WITH (autovacuum_enabled = false)",
        "INSERT INTO t SELECT g, g, jsonb_build_object('k', repeat('x', 500)) FROM generate_series(1, 20000) g",
        "DELETE FROM t WHERE id BETWEEN 4000 AND 16000",
        "VACUUM t",
        "INSERT INTO t SELECT g, g, jsonb_build_object('k', repeat('y', 500)) FROM generate_series(30001, 46000) g",
    ] {
        table.execute(sql).await;
    }
    let all = "SELECT count(*) || ' ' || sum(id + n) || ' ' || sum(length(j::text)) FROM t";
    let before = table.text(all).await;
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE t ALTER n TYPE bigint", "--yes"], &[])
        .await
        .exits(0);
    assert_eq!(table.text(all).await, before);
}

/// RACE-17: the log's end, as the server tells it, is behind what such writers are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_writers_that_do_not_wait_for_the_disk_lose_nothing_while_the_capture_begins() {
    let test = "on_postgres_writers_that_do_not_wait_for_the_disk_lose_nothing_while_the_capture_begins";
    for _ in 0..3 {
        let orders = Orders::with_rows(300).await;
        let (url, before) = (orders.url(), orders.definition().await);
        let writers = Application::start_with_careless(&orders, seed(test), 2).await;
        writers.write_on(BETWEEN).await;
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
        let journal = writers.stop().await;
        orders.check_there_and_back(&journal, &before, RETYPE).await;
    }
}
