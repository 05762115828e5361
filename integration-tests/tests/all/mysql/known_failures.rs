//! Values and keys on which other tools have lost, bent or invented rows: each with changes in the middle of the copy,
//! held against what the server's own ALTER makes of a twin.

use tokio::task::JoinSet;

use super::Table;
use super::shapes::Twins;
use crate::binary::run_beside;
use crate::server::is_mariadb;
use crate::stopped::Stopped;

/// A table, its rows, a change, and what happens in the middle of it. In statements the table is called T.
struct Case {
    /// By which it is known.
    id: &'static str,
    columns: &'static str,
    rows: &'static [&'static str],
    change: &'static str,
    /// The chunk after which the rest happens.
    chunk: u32,
    meanwhile: &'static [&'static str],
    /// What a row is, in both shapes.
    shown: &'static str,
}

const COUNTED: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 240)";
const ADD: &str = "ALTER TABLE T ADD COLUMN extra INT DEFAULT 3";

const CASES: &[Case] = &[
    Case {
        id: "KEY-01",
        columns: "id VARCHAR(64) COLLATE utf8mb4_german2_ci PRIMARY KEY, v INT",
        rows: &["INSERT INTO T {COUNTED} SELECT CONCAT(ELT(1 + i % 9, 'ä', 'ae', 'ß', 'ss', 'Å', 'å', 'z', 'Z', 'a '), i), i FROM n"],
        change: ADD,
        chunk: 3,
        meanwhile: &[
            "UPDATE T SET v = -v WHERE v % 3 = 0",
            "DELETE FROM T WHERE v % 7 = 1",
            "INSERT INTO T VALUES ('ß', 1001), ('Ä', 1002), ('a b', 1003), ('ÅÅ', 1004)",
            "UPDATE T SET id = CONCAT('ö', id) WHERE v % 11 = 5",
        ],
        shown: "CONCAT(HEX(id), ' ', v)",
    },
    Case {
        id: "KEY-03",
        columns: "tenant INT, id INT, v INT, PRIMARY KEY (tenant, id)",
        rows: &[
            "INSERT INTO T {COUNTED} SELECT 5, i, 0 FROM n",
            "INSERT INTO T {COUNTED} SELECT 1 + i % 10, 1000 + i, 0 FROM n",
        ],
        change: ADD,
        chunk: 6,
        meanwhile: &["UPDATE T SET v = v + 1 WHERE tenant = 5", "DELETE FROM T WHERE tenant = 5 AND id % 5 = 0"],
        shown: "CONCAT_WS(' ', tenant, id, v)",
    },
    Case {
        id: "KEY-09",
        columns: "id INT PRIMARY KEY, v INT",
        rows: &[
            "INSERT INTO T {COUNTED} SELECT i, i FROM n",
            "INSERT INTO T {COUNTED} SELECT 1000000000 + i * 3, i FROM n",
        ],
        change: ADD,
        chunk: 2,
        meanwhile: &["INSERT INTO T VALUES (500000000, 1)", "DELETE FROM T WHERE id = 1000000003"],
        shown: "CONCAT_WS(' ', id, v)",
    },
    Case {
        id: "KEY-11",
        columns: "id INT AUTO_INCREMENT PRIMARY KEY, v INT",
        rows: &["INSERT INTO T VALUES (5, 50), (-1, 10), (1, 11)", "UPDATE T SET id = 0 WHERE id = 5"],
        change: ADD,
        chunk: 1,
        meanwhile: &["UPDATE T SET v = 99 WHERE id = 0", "UPDATE T SET v = 98 WHERE id = -1"],
        shown: "CONCAT_WS(' ', id, v)",
    },
    Case {
        id: "KEY-13",
        columns: "id BINARY(16) PRIMARY KEY, v INT",
        rows: &[
            "INSERT INTO T VALUES (x'00000000000000000000000000000000', 1), (x'11000000000000000000000000000000', 2),
             (x'FFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00', 3), (x'C3280000000000000000000000000000', 4), (x'C328FFFFFFFFFFFFFFFFFFFFFFFF0000', 5)",
        ],
        change: ADD,
        chunk: 1,
        meanwhile: &[
            "UPDATE T SET v = v + 10",
            "DELETE FROM T WHERE id = x'11000000000000000000000000000000'",
            "DELETE FROM T WHERE id = x'C328FFFFFFFFFFFFFFFFFFFFFFFF0000'",
        ],
        shown: "CONCAT(HEX(id), ' ', v)",
    },
    Case {
        id: "KEY-15",
        columns: "a VARCHAR(20) COLLATE utf8mb4_bin, b VARCHAR(20) COLLATE utf8mb4_bin, v INT, PRIMARY KEY (a, b)",
        rows: &[
            "INSERT INTO T VALUES ('a-#-b', 'c', 1), ('a', 'b-#-c', 2), ('a,b', 'c', 3), ('a', 'b,c', 4),
             (CONCAT('a', x'00', 'b'), 'c', 5), ('a', CONCAT('b', x'00', 'c'), 6), ('', 'abc', 7), ('abc', '', 8)",
        ],
        change: ADD,
        chunk: 1,
        meanwhile: &["UPDATE T SET v = v * 10", "DELETE FROM T WHERE b = ''"],
        shown: "CONCAT_WS(' ', HEX(a), HEX(b), v)",
    },
    Case {
        id: "TYPE-02",
        columns: "id INT PRIMARY KEY, c ENUM('red', 'green', '', '2') NOT NULL",
        rows: &["INSERT INTO T VALUES (1, 'red'), (2, 'green'), (3, ''), (4, '2')", "INSERT IGNORE INTO T VALUES (5, 'no such')"],
        change: "ALTER TABLE T MODIFY c VARCHAR(10) NOT NULL",
        chunk: 1,
        meanwhile: &[
            "INSERT INTO T VALUES (11, 'red'), (12, 'green'), (13, ''), (14, '2')",
            "INSERT IGNORE INTO T VALUES (15, 'no such')",
            "UPDATE T SET c = '2' WHERE id = 1",
        ],
        shown: "CONCAT(id, ' ', HEX(c))",
    },
    Case {
        id: "TYPE-04",
        columns: "id INT PRIMARY KEY, a BIT(1) NOT NULL DEFAULT b'0', b BIT(8), c BIT(64)",
        rows: &["INSERT INTO T VALUES (1, 0, 5, 9223372036854775809), (2, 1, 49, 0), (3, 1, NULL, 18446744073709551615)"],
        change: ADD,
        chunk: 1,
        meanwhile: &["INSERT INTO T VALUES (4, 1, 255, 9223372036854775809), (5, 0, 48, 48)", "UPDATE T SET a = ~a & 1, b = 5"],
        shown: "CONCAT_WS(' ', id, HEX(a), HEX(b), HEX(c))",
    },
    Case {
        id: "TYPE-06",
        columns: "id INT PRIMARY KEY, b BLOB, vb VARBINARY(9), n INT",
        rows: &["INSERT INTO T VALUES (1, '', '', 0), (2, NULL, NULL, 0), (3, x'00', x'00', 0)"],
        change: ADD,
        chunk: 1,
        meanwhile: &["UPDATE T SET n = 1", "INSERT INTO T VALUES (4, '', '', 2), (5, x'0000', x'0000', 2)"],
        shown: "CONCAT_WS(' ', id, n, LENGTH(b), HEX(b), LENGTH(vb), HEX(vb))",
    },
    Case {
        id: "TYPE-08",
        columns: "id INT PRIMARY KEY, ts TIMESTAMP(6) NULL, dt DATETIME(6)",
        rows: &["INSERT INTO T VALUES (1, '2024-03-10 02:30:00', '2024-03-10 02:30:00'), (2, '2038-01-19 03:14:07', '2038-01-19 03:14:07'), (3, NULL, NULL)"],
        change: ADD,
        chunk: 1,
        meanwhile: &[
            "SET time_zone = '-05:00'; INSERT INTO T VALUES (4, '2024-11-03 01:30:00.5', '2024-11-03 01:30:00.5')",
            "SET time_zone = '+05:30'; UPDATE T SET ts = '2024-03-31 02:30:00.000001', dt = '2024-03-31 02:30:00.000001' WHERE id < 4",
        ],
        shown: "CONCAT_WS(' ', id, UNIX_TIMESTAMP(ts), dt)",
    },
    Case {
        id: "TYPE-10",
        columns: "id INT PRIMARY KEY, d3 DATETIME(3), d6 DATETIME(6), ti TIME(6)",
        rows: &["INSERT INTO T VALUES (1, '2024-01-01 00:00:00.001', '2024-01-01 00:00:00.000123', '-838:59:58.000001')"],
        change: ADD,
        chunk: 1,
        meanwhile: &[
            "INSERT INTO T VALUES (2, '2024-01-01 00:00:00.012', '2024-01-01 00:00:00.012300', '00:00:00.000100'), (3, NULL, NULL, NULL)",
            "UPDATE T SET d6 = '2024-01-01 23:59:59.000001' WHERE id = 1",
        ],
        shown: "CONCAT_WS(' ', id, d3, d6, ti)",
    },
    Case {
        id: "TYPE-20",
        columns: "id INT PRIMARY KEY, v INT",
        rows: &["INSERT INTO T VALUES (1, 1)"],
        change: "ALTER TABLE T ADD COLUMN extra VARCHAR(30) DEFAULT '100%new' COMMENT '50%% {0} $1 :x ? %s \\\\ ''q'''",
        chunk: 1,
        meanwhile: &["INSERT INTO T (id, v) VALUES (2, 2)"],
        shown: "CONCAT_WS(' ', id, v)",
    },
    Case {
        id: "TYPE-22",
        columns: "id INT PRIMARY KEY, f FLOAT, d DOUBLE, n DECIMAL(65,30)",
        rows: &[
            "INSERT INTO T VALUES (1, 0.1, 5e-324, 12345678901234567890123456789012345.123456789012345678901234567890), (2, -0e0, 1.7976931348623157e308, -0.000000000000000000000000000001)",
        ],
        change: ADD,
        chunk: 1,
        meanwhile: &["INSERT INTO T VALUES (3, 16777217, 0.1, 0.1), (4, 1e-38, -0e0, NULL)", "UPDATE T SET d = d / 3 WHERE id = 2"],
        shown: "CONCAT_WS(' ', id, f + 0e0, d, n)",
    },
    Case {
        id: "RACE-05",
        columns: "id INT AUTO_INCREMENT PRIMARY KEY, v INT",
        rows: &["INSERT INTO T {COUNTED} SELECT i, i FROM n"],
        change: ADD,
        chunk: 2,
        meanwhile: &[
            "UPDATE T SET id = -2 WHERE id = 230",
            "UPDATE T SET id = 900000 WHERE id = 5",
            "UPDATE T SET id = 901 WHERE id = 100",
            "UPDATE T SET id = -3 WHERE id = 901",
            "UPDATE T SET id = 902 WHERE id = -3",
            "UPDATE T SET id = -9 WHERE id = 10",
            "UPDATE T SET id = 10 WHERE id = 220",
            "UPDATE T SET id = 220 WHERE id = -9",
            "UPDATE T SET id = 0 WHERE id = 1",
        ],
        shown: "CONCAT_WS(' ', id, v)",
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_keys_and_values_that_other_tools_have_bent_come_out_as_the_server_makes_them() {
    let mut all = JoinSet::new();
    for case in CASES {
        while all.len() >= 3 {
            all.join_next().await.expect("some").expect("it goes well");
        }
        all.spawn(async move {
            println!("{}", case.id);
            let table = Table::with_rows(1).await;
            let twins = Twins::showing(&table, case.columns, case.shown).await;
            for statement in case.rows {
                twins.both(&statement.replace("{COUNTED}", COUNTED)).await;
            }
            let meanwhile: Vec<String> = case.meanwhile.iter().map(|it| (*it).to_owned()).collect();
            twins.change_after(case.change, case.chunk, &meanwhile).await;
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("it goes well");
    }
}

/// TYPE-12. MariaDB keeps JSON as text, and has no types in it to lose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_numbers_and_times_in_json_keep_their_type() {
    let table = Table::with_rows(1).await;
    let typed = if is_mariadb() {
        "'{\"d\": 1.10, \"t\": \"2024-01-01 00:00:00.000001\"}'"
    } else {
        "JSON_OBJECT('d', CAST(1.10 AS DECIMAL(10, 2)), 't', CAST('2024-01-01 00:00:00.000001' AS DATETIME(6)), 'b', x'00ff')"
    };
    let shown = "CONCAT_WS(' ', id, n, JSON_TYPE(JSON_EXTRACT(j, '$.a')), JSON_TYPE(JSON_EXTRACT(j, '$.b')),
         JSON_TYPE(JSON_EXTRACT(j, '$.d')), JSON_TYPE(JSON_EXTRACT(j, '$.t')), MD5_OF(j))";
    let shown =
        shown.replace("MD5_OF(j)", if is_mariadb() { "MD5(j)" } else { "SHA2(CAST(j AS CHAR), 256)" });
    let twins = Twins::showing(&table, "id INT PRIMARY KEY, n INT, j JSON", &shown).await;
    let depth = if is_mariadb() { 30 } else { 90 };
    let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for json in [
        "'{\"a\": 1.0, \"b\": 18446744073709551615, \"c\": 0.1}'".to_owned(),
        typed.to_owned(),
        format!("'{nested}'"),
        "JSON_OBJECT('long', REPEAT('x', 1000000))".to_owned(),
        "'{\"\": 1, \"a b\": \"\\\\u0000\", \"A\": null}'".to_owned(),
    ] {
        twins.both(&format!("INSERT INTO T (id, n, j) SELECT COUNT(*) + 1, 0, {json} FROM T AS t")).await;
    }
    let meanwhile = ["UPDATE T SET n = n + 1".to_owned()];
    twins.change_after("ALTER TABLE T ADD COLUMN extra INT DEFAULT 3", 1, &meanwhile).await;
}

/// UNIQ-03: a key change meets another row's value under the key that is to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_collision_that_comes_with_a_key_change_is_told_and_loses_no_row() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table.execute("CREATE TABLE t (id INT PRIMARY KEY, email VARCHAR(50), v INT)").await;
    table.execute("INSERT INTO t VALUES (1, 'alice', 1), (2, 'bob', 2), (3, 'charlie', 3)").await;
    let statement = "ALTER TABLE t ADD UNIQUE KEY u (email), MODIFY v BIGINT";
    let stopped = Stopped::at("chunk_committed", &["apply", "-t", &url, "-e", statement, "--yes"]).await;
    table.execute("UPDATE t SET id = 10, email = 'charlie' WHERE id = 1").await;
    stopped.wake();
    // It is told and waited for: the application may mend it. Here nobody does.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    stopped.end().await.says("rows collide under").says("\"10\"");
    let rows = "SELECT GROUP_CONCAT(CONCAT(id, email, v) ORDER BY id) FROM t";
    assert_eq!(table.text(rows).await, "2bob2,3charlie3,10charlie1");
    assert!(!table.definition_of("t").await.contains("`u`"));
    table.assert_no_helpers().await;
}

/// UNIQ-01 and UNIQ-05.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_rows_that_are_equal_under_the_new_key_are_listed_and_all_stay() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for statement in [
        "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50))",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'a')",
        "CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255) COLLATE utf8mb4_bin, UNIQUE KEY (name))",
        "INSERT INTO users (name) VALUES ('hoge'), ('Hoge'), ('HOge'), ('HOGE'), ('piyo'), ('piyO')",
    ] {
        table.execute(statement).await;
    }
    let before = [table.definition_of("t").await, table.definition_of("users").await];
    for (statement, says) in [
        ("ALTER TABLE t ADD UNIQUE KEY u (name)", ["C010", "1; 3"]),
        (
            "ALTER TABLE users MODIFY name VARCHAR(255) COLLATE utf8mb4_unicode_ci",
            ["C010", "2 values are not unique"],
        ),
    ] {
        for strategy in [&[][..], &["-D", "strategy=shadow"]] {
            let mut apply = vec!["apply", "-t", &url, "-e", statement, "--yes"];
            apply.extend(strategy);
            run_beside(&apply, &[]).await.exits(3).says(says[0]).says(says[1]);
        }
    }
    assert_eq!([table.definition_of("t").await, table.definition_of("users").await], before);
    let counts = "SELECT CONCAT((SELECT COUNT(*) FROM t), ' ', (SELECT COUNT(*) FROM users))";
    assert_eq!(table.text(counts).await, "3 6");
    table.assert_no_helpers().await;
}

/// OBJ-04: a number that was given is not given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_the_counter_does_not_go_back() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for statement in [
        "CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
        "INSERT INTO counted (v) VALUES (1), (2), (3), (4), (5), (6), (7)",
        "DELETE FROM counted WHERE id >= 5",
    ] {
        table.execute(statement).await;
    }
    let statement = "ALTER TABLE counted ENGINE = InnoDB";
    run_beside(&["apply", "-t", &url, "-e", statement, "-D", "strategy=shadow", "--yes"], &[]).await.exits(0);
    table.execute("INSERT INTO counted (v) VALUES (8)").await;
    assert_eq!(table.text("SELECT MAX(id) FROM counted").await, "8");
    table.execute("DELETE FROM counted WHERE id = 8").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.execute("INSERT INTO counted (v) VALUES (9)").await;
    assert_eq!(table.text("SELECT MAX(id) FROM counted").await, "9", "nor on the way back");
}

/// TYPE-18: renamed by statement, and never guessed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_renamed_and_exchanged_columns_keep_their_values() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for (statement, after, back) in [
        (
            "ALTER TABLE t CHANGE a c BIGINT",
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, c, b) ORDER BY id) FROM t",
            "1 11 20,2 30 40,3 5 6",
        ),
        (
            "ALTER TABLE t CHANGE a b BIGINT, CHANGE b a BIGINT",
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, b, a) ORDER BY id) FROM t",
            "1 11 20,2 30 40,3 5 6",
        ),
    ] {
        table.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)").await;
        table.execute("INSERT INTO t VALUES (1, 10, 20), (2, 30, 40)").await;
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(3).says("C004");
        let waived = "waive=C004 reason=\"a test\"";
        let apply = ["apply", "-t", &url, "-e", statement, "-D", waived, "--yes"];
        let stopped = Stopped::at("chunk_committed", &apply).await;
        table.execute("UPDATE t SET a = 11 WHERE id = 1").await;
        table.execute("INSERT INTO t VALUES (3, 5, 6)").await;
        stopped.go_on().await.exits(0);
        assert_eq!(table.text(after).await, back, "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, a, b) ORDER BY id) FROM t";
        assert_eq!(table.text(rows).await, back, "{statement}, taken back");
        table.execute("DROP TABLE t").await;
    }
}
