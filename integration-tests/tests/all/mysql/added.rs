//! Columns that the server added itself, and a way back that keeps what was written there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;

use super::Table;
use crate::binary::run_beside;
use crate::server::count_far;

const ROWS: u64 = 3_000;
const ADD: &str = "ALTER TABLE held ADD COLUMN extra INT NOT NULL DEFAULT 5, ADD COLUMN more VARCHAR(9)";

/// Writes the column until it is gone, and knows what was acknowledged.
async fn written(table: &Table, ids: std::ops::Range<u64>, stop: Arc<AtomicBool>) -> Vec<(u64, u64)> {
    let mut connection = table.connect().await;
    let mut acknowledged: Vec<(u64, u64)> = ids.map(|id| (id, 5)).collect();
    for value in 6.. {
        for (id, last) in &mut acknowledged {
            if stop.load(Ordering::Relaxed) {
                return acknowledged;
            }
            let sql = match (*id + value) % 5 {
                0 => format!("REPLACE INTO held (id, v, extra) VALUES ({id}, {value}, {value})"),
                _ => format!("UPDATE held SET extra = {value} WHERE id = {id}"),
            };
            match connection.query_drop(&sql).await {
                Ok(()) if connection.affected_rows() > 0 => *last = value,
                Ok(()) => panic!("row {id} is not there"),
                Err(mysql_async::Error::Server(error)) if error.code == 1054 => return acknowledged,
                Err(error) => panic!("{error}"),
            }
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_what_was_written_to_an_added_column_is_kept_when_it_is_taken_back() {
    let table = Arc::new(Table::with_rows(1).await);
    let url = table.url();
    table.execute("CREATE TABLE held (id INT PRIMARY KEY, v INT, KEY (v))").await;
    let numbers = format!("WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < {ROWS})");
    let mut filling = table.connect().await;
    for statement in [count_far(), &format!("INSERT INTO held {numbers} SELECT n, n FROM i")] {
        filling.query_drop(statement).await.expect(statement);
    }
    let before = table.definition_of("held").await;
    run_beside(&["apply", "-t", &url, "-e", ADD, "--yes"], &[]).await.exits(0).says("instant");
    let added = table.definition_of("held").await;

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = [1..21, 1_401..1_421, 2_981..3_001]
        .into_iter()
        .map(|ids| {
            let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
            tokio::spawn(async move { written(&table, ids, stop).await })
        })
        .collect();
    let record = format!("`_replank_{}`.runs", table.name());
    let first = table.text(&format!("SELECT id FROM {record}")).await;
    // `last` is the run that takes it back, and stands for the one that is taken back until that is over.
    let revert = ["revert", "last", "-t", &url, "--yes"];
    for boundary in ["chunk_committed:2", "swap_intended", "swap_acknowledged", "step_done"] {
        run_beside(&revert, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let finalize = run_beside(&["finalize", &first, "-t", &url, "--yes"], &[]).await.exits(3);
        finalize.says("is being taken back by run");
        let quick = ["revert", &first, "-t", &url, "--yes", "--no-revert"];
        if boundary == "chunk_committed:2" {
            run_beside(&quick, &[]).await.exits(3).says("takes it back already");
        }
    }
    run_beside(&revert, &[]).await.exits(0).says("is as before").says("keeps what was written since");
    assert_eq!(table.definition_of("held").await, before);
    let states = format!(
        "SELECT GROUP_CONCAT(state ORDER BY JSON_VALUE(body, '$.started') SEPARATOR ' ') FROM {record}"
    );
    assert_eq!(table.text(&states).await, "reverted reversible");
    table.execute("UPDATE held SET v = -1 WHERE id = 50").await;

    // The other run brings all of it back.
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("it ends"));
    }
    assert_eq!(table.definition_of("held").await, added);
    let mut connection = table.connect().await;
    let rows = "SELECT id, extra FROM held WHERE extra <> 5 ORDER BY id";
    let rows: Vec<(u64, u64)> = connection.query(rows).await.expect("rows");
    assert_eq!(rows, acknowledged);
    let least = acknowledged.iter().map(|(_, value)| value).min().expect("some");
    assert!(*least > 6, "next to nothing was written");
    println!("each was written {least} times");
    assert_eq!(table.text("SELECT v FROM held WHERE id = 50").await, "-1");
    assert_eq!(table.text("SELECT COUNT(*) FROM held").await, ROWS.to_string());
    table.assert_no_helpers().await;
}

/// What one run keeps is not lost by taking another back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_runs_are_taken_back_newest_first_and_none_loses_what_another_keeps() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table.execute("CREATE TABLE held (id INT PRIMARY KEY, v INT)").await;
    table.execute("INSERT INTO held VALUES (1, 1), (2, 2)").await;
    let runs = async || {
        let record = format!("SELECT id FROM `_replank_{}`.runs ORDER BY number", table.name());
        let mut connection = table.connect().await;
        connection.query::<String, _>(record).await.expect("runs")
    };
    for column in ["a", "b"] {
        let add = format!("ALTER TABLE held ADD COLUMN {column} INT");
        run_beside(&["apply", "-t", &url, "-e", &add, "--yes"], &[]).await.exits(0).says("instant");
    }
    table.execute("UPDATE held SET a = id + 10, b = id + 20").await;
    let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, v, a, b) ORDER BY id) FROM held";
    let written = table.text(rows).await;
    let first = runs().await[0].clone();
    for more in [&[][..], &["--no-revert"]] {
        let revert = [&["revert", &first, "-t", &url, "--yes"], more].concat();
        run_beside(&revert, &[]).await.exits(3).says("came later");
    }
    run_beside(&["revert", "last", "-t", &url, "--yes", "--throttle", "copy_workers=1"], &[]).await.exits(0);
    for more in [&[][..], &["--no-revert"]] {
        let revert = [&["revert", &first, "-t", &url, "--yes"], more].concat();
        let ended = run_beside(&revert, &[]).await.exits(3);
        assert!(!ended.err.contains("copies nothing"), "{}", ended.err);
    }
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(rows).await, written);
    table.assert_no_helpers().await;
}

/// Given up, it is as if it had never been begun; gone on with by whatever command, it comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_run_that_takes_another_back_is_given_up_or_gone_on_with() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table.execute("CREATE TABLE held (id INT PRIMARY KEY, v INT)").await;
    table.execute("INSERT INTO held VALUES (1, 1), (2, 2)").await;
    let before = table.definition_of("held").await;
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE held ADD COLUMN a INT", "--yes"], &[])
        .await
        .exits(0)
        .says("instant");
    table.execute("UPDATE held SET a = id + 10").await;
    let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, v, a) ORDER BY id) FROM held";
    let written = table.text(rows).await;
    let first = table.text(&format!("SELECT id FROM `_replank_{}`.runs", table.name())).await;
    let revert = ["revert", &first, "-t", &url, "--yes"];
    run_beside(&revert, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(rows).await, written);
    // Whoever goes on with it goes on to the end.
    run_beside(&revert, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["status", &first, "-t", &url], &[]).await.exits(0).says("reverted");
    assert_eq!(table.definition_of("held").await, before);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

/// Where nobody wants the values, or no rebuild can be made, the server's own statement does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_an_added_column_is_dropped_at_once_where_nobody_wants_its_values() {
    let table = Table::with_rows(50).await;
    let url = table.url();
    table.execute("CREATE TABLE keyless (v INT)").await;
    table.execute("INSERT INTO keyless VALUES (1), (1)").await;
    let before = table.definition_of("keyless").await;
    let add = "ALTER TABLE keyless ADD COLUMN w INT DEFAULT 4";
    run_beside(&["apply", "-t", &url, "-e", add, "--yes"], &[]).await.exits(0).says("--no-revert");
    table.execute("UPDATE keyless SET w = 8 LIMIT 1").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[])
        .await
        .exits(3)
        .says("rows cannot be told apart")
        .says("--no-revert` drops what was written there");
    assert_eq!(table.text("SELECT SUM(w) FROM keyless").await, "12");
    run_beside(&["revert", "last", "-t", &url, "--no-revert", "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition_of("keyless").await, before);

    // What the server computes is nothing that somebody wrote.
    let add = "ALTER TABLE keyless ADD COLUMN twice INT AS (v * 2)";
    run_beside(&["apply", "-t", &url, "-e", add, "--yes"], &[]).await.exits(0).says("runs the opposite");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition_of("keyless").await, before);
    table.assert_no_helpers().await;
}
