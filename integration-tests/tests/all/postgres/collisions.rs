//! Rows that are in each other's way in the new table: of different moments, or while values are exchanged; and who is in the
//! way of its constraints.

use std::time::Duration;

use super::application::text;
use super::partitioned::File;
use super::table::{connect, run};
use crate::binary::run_beside;
use crate::server::postgres_database;
use crate::stopped::Stopped;

/// The key has more columns in the old shape than in the new one: a row whose further column changes during the copy is
/// there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_row_that_moves_during_the_copy_out_of_partitions_is_there_once() {
    let database = postgres_database().await;
    let url = database.url.as_str();
    let mut connection = connect(url).await;
    let made = "CREATE TABLE t (at int NOT NULL, id int NOT NULL, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
         CREATE TABLE early PARTITION OF t FOR VALUES FROM (0) TO (500); CREATE TABLE late PARTITION OF t DEFAULT;
         INSERT INTO t SELECT n, n, 'v' FROM generate_series(1, 1000) AS n";
    run(&mut connection, made).await.expect(made);
    let file =
        File::of("CREATE TABLE t (at int NOT NULL, id int PRIMARY KEY, v text); CREATE INDEX ON t (at)");
    let rebuild =
        ["rebuild", "t", "--as", &file.path(), "-t", url, "--yes", "--throttle", "chunk_rows_max=100"];
    let stopped = Stopped::at("chunk_committed:2", &rebuild).await;
    let moves = "UPDATE t SET at = at + 900, v = 'moved' WHERE id <= 20; DELETE FROM t WHERE id = 21";
    run(&mut connection, moves).await.expect(moves);
    stopped.go_on().await.exits(0);
    let seen = "SELECT concat_ws(' ', count(*), count(DISTINCT id), count(*) FILTER (WHERE v = 'moved' AND at > 900)) FROM t";
    assert_eq!(text(&mut connection, seen).await, "999 999 20");
    run_beside(&["revert", "last", "-t", url, "--yes"], &[]).await.exits(0);
    assert_eq!(text(&mut connection, seen).await, "999 999 20");
}

/// The row that the old shape cannot hold is named, and not one that exchanges a value in the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_value_that_stands_in_the_way_back_is_named_beside_an_exchange() {
    let database = postgres_database().await;
    let url = database.url.as_str();
    let mut connection = connect(url).await;
    let made = "CREATE TABLE t (id int PRIMARY KEY, v int, place int UNIQUE DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO t SELECT n, n, n FROM generate_series(1, 300) AS n";
    run(&mut connection, made).await.expect(made);
    run_beside(&["apply", "-t", url, "-e", "ALTER TABLE t ALTER v TYPE bigint", "--yes"], &[]).await.exits(0);
    let moves = "BEGIN; UPDATE t SET place = 3 - place WHERE id IN (1, 2); UPDATE t SET v = 5000000000 WHERE id = 3; COMMIT";
    run(&mut connection, moves).await.expect(moves);
    let back = run_beside(&["revert", "last", "-t", url, "--yes"], &[]).await;
    let said = format!("{}{}", back.out, back.err);
    assert!(said.contains("[\"3\"]") && !said.contains("duplicate key"), "{said}");
    run(&mut connection, "UPDATE t SET v = 3 WHERE id = 3").await.expect("mended");
    run_beside(&["revert", "last", "-t", url, "--yes"], &[]).await.exits(0);
    assert_eq!(
        text(&mut connection, "SELECT string_agg(place::text, ' ' ORDER BY id) FROM t WHERE id < 4").await,
        "2 1 3"
    );
}

/// Such a column is written by nobody, so what it will be is asked by what it is computed from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_rows_that_collide_under_a_computed_column_are_named_before_the_copy_and_during_it() {
    let database = postgres_database().await;
    let url = database.url.as_str();
    let mut connection = connect(url).await;
    let made = "CREATE TABLE t (id int PRIMARY KEY, v text, n int, \"Half\" int GENERATED ALWAYS AS (n * 2) STORED UNIQUE, w text);
         INSERT INTO t SELECT n, 'v' || n, n FROM generate_series(1, 300) AS n; INSERT INTO t VALUES (301, 'V7', 301)";
    run(&mut connection, made).await.expect(made);
    let added = "ALTER TABLE t ADD COLUMN \"Low\" varchar(10) GENERATED ALWAYS AS (lower(v)) STORED, ADD CONSTRAINT low UNIQUE (\"Low\")";
    let apply = ["apply", "-t", url, "-e", added, "--yes"];
    run_beside(&apply, &[]).await.exits(3).says("values are not unique under").says("v7: 7; 301");
    run(&mut connection, "DELETE FROM t WHERE id = 301").await.expect("one of both");
    let stopped = Stopped::at("index_built:3", &apply).await;
    run(&mut connection, "UPDATE t SET v = 'V9' WHERE id = 8").await.expect("it is allowed as yet");
    // Under the lock of the swap nobody would be asked.
    let mut reader = connect(url).await;
    run(&mut reader, "BEGIN; SELECT FROM t LIMIT 1").await.expect("read");
    stopped.wake();
    let told = "SELECT count(*)::text FROM _replank.events AS e WHERE e::text LIKE '%low v9: rows id = %'";
    for _ in 0..100 {
        if text(&mut connection, told).await != "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    run(&mut connection, "UPDATE t SET v = 'V8' WHERE id = 8").await.expect("mended");
    run(&mut reader, "COMMIT").await.expect("let go");
    stopped.end().await.exits(0).says("low v9: rows id = ");
    assert_eq!(text(&mut connection, "SELECT \"Low\"::text FROM t WHERE id = 8").await, "v8");
    // Where a value may become another one, those that are computed are asked for as well.
    let other = ["apply", "-t", url, "-e", "ALTER TABLE t ALTER w TYPE varchar(20)", "--yes"];
    run_beside(&["finalize", "last", "-t", url, "--yes"], &[]).await.exits(0);
    run_beside(&other, &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", url, "--yes"], &[]).await.exits(0);
}

/// A backup reads all tables there are for hours, ours too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_somebody_who_reads_the_new_table_delays_its_constraints_and_no_index() {
    let database = postgres_database().await;
    let url = database.url.as_str();
    let mut connection = connect(url).await;
    let made = "CREATE TABLE t (id int PRIMARY KEY, v int, u int UNIQUE);
         INSERT INTO t SELECT n, n, n FROM generate_series(1, 300) AS n";
    run(&mut connection, made).await.expect(made);
    let apply = ["apply", "-t", url, "-e", "ALTER TABLE t ALTER v TYPE bigint", "--yes"];
    let stopped = Stopped::at("chunk_committed", &apply).await;
    let shadow =
        text(&mut connection, "SELECT relname::text FROM pg_class WHERE relname LIKE '\\_rp\\_%\\_shadow'")
            .await;
    let mut reader = connect(url).await;
    run(&mut reader, &format!("BEGIN; SELECT count(*) FROM \"{shadow}\"")).await.expect("read");
    stopped.wake();
    let files = "SELECT coalesce(string_agg(pg_relation_filenode(indexrelid)::text, ' ' ORDER BY 1), '') FROM pg_index
         WHERE indrelid = (SELECT oid FROM pg_class WHERE relname LIKE '\\_rp\\_%\\_shadow')";
    tokio::time::sleep(Duration::from_secs(4)).await;
    let built = text(&mut connection, files).await;
    assert_eq!(built.split(' ').count(), 2, "both are built: {built}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(text(&mut connection, files).await, built, "none is built again");
    run(&mut reader, "COMMIT").await.expect("let go");
    stopped.end().await.exits(0);
    let there = "SELECT string_agg(conname::text || convalidated, ' ' ORDER BY conname) FROM pg_constraint
         WHERE conrelid = 't'::regclass AND contype IN ('p', 'u')";
    assert_eq!(text(&mut connection, there).await, "t_pkeytrue t_u_keytrue");
}
