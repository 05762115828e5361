//! The way back when the new shape has been lived in.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable as _;
use tokio::task::JoinSet;

use super::Table;
use crate::binary::run_beside;

const WRITERS: i64 = 4;
const WRITES: i64 = 1_000;

/// What a row is, for those who wrote it.
type Row = (String, String, i64);

/// CUT-13: every write that was acknowledged on the new shape is in the old one, or stands in the way of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_values_that_only_the_new_shape_holds_stand_in_the_way_back_and_none_is_lost() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table
        .execute(
            "CREATE TABLE goods (id INT PRIMARY KEY, s VARCHAR(10) NOT NULL, e ENUM('a', 'b') NOT NULL, n SMALLINT NOT NULL,
             seen TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, KEY by_s (s))",
        )
        .await;
    let numbers = "WITH RECURSIVE i(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM i WHERE id < 500)";
    table
        .execute(&format!("INSERT INTO goods (id, s, e, n) {numbers} SELECT id, 'old', 'a', id FROM i"))
        .await;
    let before = table.definition_of("goods").await;
    let statement = "ALTER TABLE goods MODIFY s VARCHAR(40) NOT NULL, MODIFY e ENUM('a', 'b', 'c') NOT NULL, MODIFY n BIGINT NOT NULL";
    run_beside(&["plan", "-t", &url, "-e", statement], &[])
        .await
        .exits(0)
        .says("not while rows hold values that the old s, e, n cannot hold: it lists them");
    run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);

    let mut rows = write(&table).await;
    let unfit = [
        ("INSERT INTO goods (id, s, e, n) VALUES (90001, 'longer than ten', 'a', 1)", 90_001),
        ("INSERT INTO goods (id, s, e, n) VALUES (90002, 'x', 'c', 2)", 90_002),
        ("UPDATE goods SET n = 32768 WHERE id = 7", 7),
        ("UPDATE goods SET id = 90003, s = '12345678901' WHERE id = 8", 90_003),
    ];
    for (statement, _) in unfit {
        table.execute(statement).await;
    }
    rows.insert(90_001, ("longer than ten".to_owned(), "a".to_owned(), 1));
    rows.insert(90_002, ("x".to_owned(), "c".to_owned(), 2));
    rows.entry(7).and_modify(|row| row.2 = 32_768);
    let moved = rows.remove(&8).expect("it is there");
    rows.insert(90_003, ("12345678901".to_owned(), moved.1, moved.2));
    assert_eq!(seen(&table).await, rows);

    let after = table.definition_of("goods").await;
    let ended = run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(3);
    let ended = ended.says("4 rows hold values that the old shape cannot hold");
    for (_, key) in unfit {
        assert!(ended.err.contains(&format!("\"{key}\"")), "{key} is not listed: {}", ended.err);
    }
    assert_eq!(table.definition_of("goods").await, after, "the new table stays live");
    assert_eq!(seen(&table).await, rows);

    // Mended one after the other; the last that is left still stands in the way.
    table.execute("UPDATE goods SET s = 'short' WHERE id IN (90001, 90003)").await;
    table.execute("UPDATE goods SET e = 'b' WHERE id = 90002").await;
    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&revert, &[]).await.exits(3).says("1 rows hold values").says("\"7\"");
    table.execute("UPDATE goods SET n = 32767 WHERE id = 7").await;
    for key in [90_001, 90_003] {
        rows.entry(key).and_modify(|row| row.0 = "short".to_owned());
    }
    rows.entry(90_002).and_modify(|row| row.1 = "b".to_owned());
    rows.entry(7).and_modify(|row| row.2 = 32_767);
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(table.definition_of("goods").await, before);
    assert_eq!(seen(&table).await, rows);
    table.assert_no_helpers().await;
}

/// A thousand writes that the server acknowledged, each one transaction, and what the table holds then.
async fn write(table: &Table) -> BTreeMap<i64, Row> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut connection = table.connect().await;
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            // Its own keys: half of them are there, and half are new.
            for turn in 0..WRITES / WRITERS {
                let id = 1 + writer + WRITERS * turn;
                let (s, n) = (format!("w{writer} {turn}"), 10 * turn);
                let (statement, row) = match (id <= 500, turn % 5) {
                    (true, 0) => (format!("DELETE FROM goods WHERE id = {id}"), None),
                    (true, _) => {
                        let row = (s.clone(), "b".to_owned(), n);
                        (format!("UPDATE goods SET s = '{s}', e = 'b', n = {n} WHERE id = {id}"), Some(row))
                    }
                    (false, _) => {
                        let row = (s.clone(), "a".to_owned(), n);
                        (format!("INSERT INTO goods (id, s, e, n) VALUES ({id}, '{s}', 'a', {n})"), Some(row))
                    }
                };
                connection.query_drop(&statement).await.expect(&statement);
                acknowledged.push((id, row));
            }
            acknowledged
        });
    }
    let mut rows: BTreeMap<i64, Row> =
        (1..=500).map(|id| (id, ("old".to_owned(), "a".to_owned(), id))).collect();
    for (id, row) in writers.join_all().await.into_iter().flatten() {
        match row {
            Some(row) => rows.insert(id, row),
            None => rows.remove(&id),
        };
    }
    rows
}

async fn seen(table: &Table) -> BTreeMap<i64, Row> {
    let rows: Vec<(i64, String, String, i64)> =
        table.connect().await.query("SELECT id, s, e, n FROM goods").await.expect("rows");
    rows.into_iter().map(|(id, s, e, n)| (id, (s, e, n))).collect()
}
