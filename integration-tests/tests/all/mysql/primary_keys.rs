//! Another primary key: rows are found by what tells them apart in both shapes.

use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;

/// Every update changes the new key, and so the key by which rows are found while they are copied.
const WIDER: &str =
    "ALTER TABLE orders DROP PRIMARY KEY, ADD PRIMARY KEY (id, version), ADD UNIQUE KEY only_id (id)";
const OTHER: &str = "ALTER TABLE orders DROP PRIMARY KEY, ADD PRIMARY KEY (uid), ADD UNIQUE KEY by_id (id)";

const UID: &[&str] = &[
    "ALTER TABLE orders ADD COLUMN uid CHAR(36) CHARACTER SET ascii NOT NULL DEFAULT ''",
    "UPDATE orders SET uid = UUID()",
    "ALTER TABLE orders ALTER COLUMN uid SET DEFAULT (UUID())",
];
const UNIQUE_UID: &[&str] = &[UID[0], UID[1], UID[2], "ALTER TABLE orders ADD UNIQUE KEY uid (uid)"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_another_primary_key_there_and_back_under_load_loses_nothing() {
    // The old key is the beginning of the new one; the new one was unique before, so that `id` moves from row to row
    // while it has to be unique, too; and was not.
    for (case, setup, statement) in
        [("wider", &[][..], WIDER), ("shared", UNIQUE_UID, OTHER), ("new", UID, OTHER)]
    {
        let table = Table::with_rows(4_000).await;
        for statement in setup {
            table.execute(statement).await;
        }
        let before = table.definition().await;
        let url = table.url();
        let writers = Application::start(&table, seed(case), 3).await;
        let apply = ["apply", "-t", &url, "-e", statement, "--yes"];
        run_beside(&apply, &[]).await.exits(0);
        writers.write_on(60).await;
        assert_ne!(table.definition().await, before, "{case}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        writers.write_on(30).await;
        let journal = writers.stop().await;
        judge(case, &journal);
        table.check(&journal).await;
        assert_eq!(table.definition().await, before, "{case}");
        run_beside(&apply, &[]).await.exits(0);
        table.check_there_and_back(&journal, &before, statement).await;
    }
}

const BY_DAY: &str = "ALTER TABLE events DROP PRIMARY KEY, ADD PRIMARY KEY (id, day)
     PARTITION BY RANGE COLUMNS (day) (PARTITION p1 VALUES LESS THAN ('2024-07-01'), PARTITION p2 VALUES LESS THAN (MAXVALUE))";

/// What partitions by date take: no unique key of `id` alone is left that could tell a row that is there already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_date_joins_the_primary_key_for_the_sake_of_partitions() {
    let table = Table::with_rows(5).await;
    let url = table.url();
    let both = async |statement: &str| {
        table.execute(statement).await;
        table.execute(&statement.replace("events", "twin")).await;
    };
    both("CREATE TABLE events (id BIGINT AUTO_INCREMENT PRIMARY KEY, day DATE NOT NULL, v INT)").await;
    both(
        "INSERT INTO events (day, v) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
          SELECT '2024-01-01' + INTERVAL i % 360 DAY, i FROM n",
    )
    .await;
    let same = async || {
        let of = |name: &str| {
            format!(
                "SELECT GROUP_CONCAT(CONCAT_WS(',', id, day, v) ORDER BY id SEPARATOR ';') FROM {name} WHERE id"
            )
        };
        let differing =
            "SELECT COUNT(*) FROM (SELECT id, day, v FROM events UNION ALL SELECT id, day, v FROM twin) AS b
             GROUP BY id, day, v HAVING COUNT(*) <> 2 LIMIT 1";
        assert_eq!(table.text(differing).await, "", "{}", table.text(&of("events")).await);
        assert_eq!(
            table.definition_of("events").await,
            table.definition_of("twin").await.replacen("`twin`", "`events`", 1)
        );
    };
    // Rows that are copied and rows that are not move from day to day while nobody listens, and while the copy goes on.
    let apply = ["apply", "-t", &url, "-e", BY_DAY, "--throttle", "chunk_rows_max=50", "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed:6")]).await.was_killed();
    for statement in [
        "UPDATE events SET day = day + INTERVAL 200 DAY, v = v + 1 WHERE id % 3 = 0",
        "DELETE FROM events WHERE id % 7 = 0",
        "UPDATE events SET id = id + 2000 WHERE id % 11 = 0",
        "INSERT INTO events (id, day, v) VALUES (7, '2025-01-01', 7), (5000, '2024-12-31', NULL)",
    ] {
        both(statement).await;
    }
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.execute(&BY_DAY.replace("events", "twin")).await;
    same().await;
    for statement in [
        "UPDATE events SET day = day - INTERVAL 100 DAY WHERE id % 5 = 0",
        "DELETE FROM events WHERE id % 13 = 0",
        "INSERT INTO events (day, v) VALUES ('2024-12-31', -1)",
    ] {
        both(statement).await;
    }
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.execute("ALTER TABLE twin REMOVE PARTITIONING").await;
    table.execute("ALTER TABLE twin DROP PRIMARY KEY, ADD PRIMARY KEY (id)").await;
    same().await;
    table.assert_no_helpers().await;
}
