//! Definitions: what has to come out as it was, what somebody else changes in the middle, and names of every kind.

use mysql_async::prelude::Queryable as _;

use super::Table;
use crate::binary::run_beside;
use crate::server::{is_mariadb, mysql_own_server};
use crate::stopped::Stopped;

/// ENV-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_columns_that_somebody_adds_drops_or_renames_in_the_middle_stop_the_run() {
    let numbers = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 300)";
    for (foreign, write, columns) in [
        ("ADD COLUMN z INT FIRST", "INSERT INTO t VALUES (9, 1000, 5, 6)", "z, id, a, b"),
        ("DROP COLUMN a", "INSERT INTO t VALUES (1000, 6)", "id, b"),
        ("RENAME COLUMN a TO c", "INSERT INTO t VALUES (1000, 5, 6)", "id, c, b"),
    ] {
        for boundary in ["chunk_committed:2", "verify_chunk_done", "swap_intended"] {
            println!("{foreign} at {boundary}");
            let table = Table::with_rows(1).await;
            let url = table.url();
            table.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)").await;
            table.execute(&format!("INSERT INTO t {numbers} SELECT n, n + 1, n + 2 FROM i")).await;
            let statement = "ALTER TABLE t MODIFY b BIGINT NOT NULL DEFAULT 3";
            let apply = ["apply", "-t", &url, "-e", statement, "--throttle", "chunk_rows_max=20", "--yes"];
            let stopped = Stopped::at(boundary, &apply).await;
            for statement in [&format!("ALTER TABLE t {foreign}"), write, "UPDATE t SET b = 77 WHERE id = 2"]
            {
                table.execute(statement).await;
            }
            let rows = format!(
                "SELECT /*+ SET_VAR(group_concat_max_len = 1000000) */ GROUP_CONCAT(CONCAT_WS(' ', {columns}) ORDER BY id) FROM t"
            );
            let wanted = [table.text(&rows).await, table.definition_of("t").await];
            stopped.go_on().await.exits(1).says("somebody else").says("t`");
            assert_eq!(table.text(&rows).await, wanted[0], "{foreign} at {boundary}");
            assert_eq!(table.definition_of("t").await, wanted[1], "{foreign} at {boundary}");
            // It does not go on over it either, and leaves nothing.
            run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(1);
            run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
            assert_eq!(table.text(&rows).await, wanted[0]);
            table.assert_no_helpers().await;
        }
    }
}

/// ENV-01, while the old table is kept: what the new one holds is not bent into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_columns_that_somebody_changes_after_the_swap_end_the_way_back() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)").await;
    table.execute("INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)").await;
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE t MODIFY b BIGINT NOT NULL", "--yes"], &[])
        .await
        .exits(0);
    table.execute("ALTER TABLE t ADD COLUMN z INT FIRST").await;
    table.execute("INSERT INTO t VALUES (9, 3, 12, 22)").await;
    let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', z, id, a, b) ORDER BY id) FROM t";
    for command in ["verify", "revert"] {
        run_beside(&[command, "last", "-t", &url, "--yes"], &[])
            .await
            .exits(1)
            .says("somebody else")
            .says("t`");
        assert_eq!(table.text(rows).await, "1 10 20,2 11 21,9 3 12 22");
    }
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(rows).await, "1 10 20,2 11 21,9 3 12 22");
    table.assert_no_helpers().await;
}

/// OBJ-04: the statement's own number, and numbers of rows that are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_counter_that_the_statement_sets_is_set() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for (statement, next, after_revert) in [
        ("ALTER TABLE counted AUTO_INCREMENT = 70", 70, 71),
        ("ALTER TABLE counted MODIFY v BIGINT, AUTO_INCREMENT=70", 70, 71),
        ("ALTER TABLE counted auto_increment 70, ADD COLUMN w INT", 70, 71),
        // The rows that are there count for more. The old table has given 7 away.
        ("ALTER TABLE counted MODIFY v BIGINT, AUTO_INCREMENT = 2", 5, 8),
        ("ALTER TABLE counted AUTO_INCREMENT = 2", 5, 6),
        ("ALTER TABLE counted MODIFY v BIGINT", 8, 9),
    ] {
        println!("{statement}");
        for prepared in [
            "DROP TABLE IF EXISTS counted",
            "CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
            "INSERT INTO counted (v) VALUES (1), (2), (3), (4), (5), (6), (7)",
            "DELETE FROM counted WHERE id >= 5",
        ] {
            table.execute(prepared).await;
        }
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        table.execute("INSERT INTO counted (v) VALUES (8)").await;
        assert_eq!(table.text("SELECT MAX(id) FROM counted").await, next.to_string(), "{statement}");
        table.execute("DELETE FROM counted WHERE v = 8").await;
        let reverted = run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        table.execute("INSERT INTO counted (v) VALUES (9)").await;
        assert_eq!(
            table.text("SELECT MAX(id) FROM counted").await,
            after_revert.to_string(),
            "{statement}, back"
        );
        if reverted.out.contains("keeps what was written since") {
            run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        }
    }
}

/// ENV-05.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_the_longest_names_of_several_bytes_and_tables_of_other_tools_names_are_no_trouble() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    let (name, key, column, index) = ("ж".repeat(64), "ключ".repeat(16), "ü".repeat(64), "注".repeat(64));
    // Two that are alike but for the last letter.
    let twin = format!("{}я", "ж".repeat(63));
    let own = ["_t_old", "_t_new", "_t_gho", "_t_del", "_t_ghc", "__t_old"];
    for name in [&name, &twin, "t"] {
        table.execute(&format!("CREATE TABLE `{name}` (`{key}` INT PRIMARY KEY, `{column}` INT, INDEX `{index}` (`{column}`))")).await;
        table.execute(&format!("INSERT INTO `{name}` VALUES (1, 2), (3, 4)")).await;
    }
    for name in own {
        table.execute(&format!("CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(20))")).await;
        table.execute(&format!("INSERT INTO {name} VALUES (1, 'of {name}')")).await;
    }
    for name in [&name, &twin, "t"] {
        let sum = format!("SELECT GROUP_CONCAT(`{key}`, `{column}` ORDER BY 1) FROM `{name}`");
        let statement = format!(
            "ALTER TABLE `{name}` MODIFY `{column}` BIGINT NOT NULL, ADD COLUMN `{}` INT",
            "é".repeat(64)
        );
        let apply = ["apply", "-t", &url, "-e", &statement, "--yes"];
        let before = table.definition_of(&format!("`{name}`")).await;
        // Killed and given up, then killed and gone on with, taken back, and made final.
        if name == "t" {
            run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
            run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        }
        run_beside(&apply, &[("REPLANK_KILL_AT", "swap_sent")]).await.was_killed();
        table.execute(&format!("UPDATE `{name}` SET `{key}` = 5, `{column}` = 6 WHERE `{key}` = 3")).await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(&sum).await, "12,56");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.definition_of(&format!("`{name}`")).await, before);
        run_beside(&apply, &[]).await.exits(0);
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(&sum).await, "12,56");
        table.assert_no_helpers().await;
    }
    for name in own {
        assert_eq!(
            table.text(&format!("SELECT GROUP_CONCAT(id, v) FROM {name}")).await,
            format!("1of {name}")
        );
    }
}

/// A table with properties that are easily lost, and a change that has to be a rebuild.
struct Kept {
    what: &'static str,
    create: &'static str,
    row: &'static str,
    change: &'static str,
}

const KEPT: &[Kept] = &[
    Kept {
        what: "indexes and checks",
        create: "CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, n INT NOT NULL, name VARCHAR(40),
             hidden INT DEFAULT 7 INVISIBLE, KEY unseen (n) UNSEEN, KEY down (n DESC, v), UNIQUE KEY part (name(10)),
             KEY two (v(5), name(3) DESC), FULLTEXT KEY words (v), CONSTRAINT chk1 CHECK (n > 0) NOT_ENFORCED,
             CONSTRAINT chk2 CHECK (CHAR_LENGTH(v) < 50), CHECK (id > 0))",
        row: "INSERT INTO kept (id, v, n, name, hidden) VALUES (1, 'some words', 1, 'a', 3), (2, 'x', 2, 'b', 4)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
    Kept {
        what: "compressed",
        create: "CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, n INT NOT NULL, KEY by_n (n) COMMENT 'of n')
             ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4 STATS_PERSISTENT=1 STATS_AUTO_RECALC=0 STATS_SAMPLE_PAGES=33
             AVG_ROW_LENGTH=99 MAX_ROWS=100000 MIN_ROWS=3 CHECKSUM=1 COMMENT='it''s kept'",
        row: "INSERT INTO kept VALUES (1, 'a', 1), (2, 'b', 2)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
    Kept {
        what: "compact",
        create: "CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, n INT NOT NULL) ROW_FORMAT=COMPACT",
        row: "INSERT INTO kept VALUES (1, 'a', 1), (2, 'b', 2)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
    Kept {
        what: "partitions",
        create: "CREATE TABLE kept (id INT NOT NULL, v VARCHAR(60) NOT NULL, n INT NOT NULL, PRIMARY KEY (id, n), KEY by_v (v DESC))
             PARTITION BY RANGE COLUMNS (n) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
             (PARTITION p0 VALUES LESS THAN (10) COMMENT = 'few', PARTITION p1 VALUES LESS THAN (MAXVALUE))",
        row: "INSERT INTO kept VALUES (1, 'a', 1), (2, 'b', 20)",
        change: "ALTER TABLE kept MODIFY v CHAR(70) NOT NULL",
    },
];

const KEPT_BY_MYSQL: &[Kept] = &[
    Kept {
        what: "keys over expressions",
        create: "CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, n INT NOT NULL, doc JSON, KEY low ((LOWER(v)), n DESC),
             UNIQUE KEY odd ((n * 2 + 1)), KEY many ((CAST(doc->'$.tags' AS UNSIGNED ARRAY))), p POINT NOT NULL SRID 4326,
             SPATIAL KEY place (p), d VARCHAR(20) DEFAULT (UUID()))",
        row: "INSERT INTO kept (id, v, n, doc, p, d) VALUES (1, 'A', 1, '{\"tags\": [1, 2]}', ST_GeomFromText('POINT(1 1)', 4326), 'x')",
        change: "ALTER TABLE kept MODIFY id BIGINT NOT NULL",
    },
    Kept {
        what: "packed pages",
        create: "CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, n INT NOT NULL) COMPRESSION='zlib'",
        row: "INSERT INTO kept VALUES (1, 'a', 1), (2, 'b', 2)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
    Kept {
        what: "encrypted",
        create: "CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, n INT NOT NULL) ENCRYPTION='Y'",
        row: "INSERT INTO kept VALUES (1, 'a', 1), (2, 'b', 2)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
    Kept {
        what: "a primary key of the server's own",
        create: "CREATE TABLE kept (v VARCHAR(60) NOT NULL, n INT NOT NULL, KEY by_n (n))",
        row: "INSERT INTO kept VALUES ('a', 1), ('b', 2)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
    Kept {
        what: "a primary key of the server's own beside a unique one",
        create: "CREATE TABLE kept (v VARCHAR(60) NOT NULL, n INT NOT NULL, UNIQUE KEY by_v (v))",
        row: "INSERT INTO kept VALUES ('a', 1), ('b', 2)",
        change: "ALTER TABLE kept MODIFY n BIGINT NOT NULL",
    },
];

/// OBJ-12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_properties_of_tables_columns_and_indexes_come_out_as_the_servers_own_alter_makes_them() {
    let server = if is_mariadb() {
        mysql_own_server(&[]).await
    } else {
        // The key that the server made is hidden from those who do not ask for it.
        let server = mysql_own_server(&["--show-gipk-in-create-table-and-information-schema=OFF"]).await;
        // A keyring, for what is encrypted.
        server.shell(
            "plugins=$(dirname $(find / -name component_keyring_file.so 2> /dev/null | head -1))
             mkdir -p /var/lib/keyring && touch /var/lib/keyring/keys && chown -R mysql /var/lib/keyring
             echo '{\"components\": \"file://component_keyring_file\"}' > /usr/sbin/mysqld.my
             echo '{\"path\": \"/var/lib/keyring/keys\", \"read_only\": false}' > $plugins/component_keyring_file.cnf",
        );
        server.kill().await;
        server.start().await;
        server
    };
    let table = Table::within(server.database().await, 1).await;
    let url = table.url();
    let own = if is_mariadb() { &[][..] } else { KEPT_BY_MYSQL };
    for kept in KEPT.iter().chain(own) {
        println!("{}", kept.what);
        let session = if is_mariadb() { "" } else { "SET sql_generate_invisible_primary_key = ON; " };
        let (unseen, enforced) = if is_mariadb() { ("IGNORED", "") } else { ("INVISIBLE", "NOT ENFORCED") };
        let create = kept.create.replace("UNSEEN", unseen).replace("NOT_ENFORCED", enforced);
        table.execute(&format!("{session}{create}")).await;
        table.execute(kept.row).await;
        let before = shown(&table, "kept").await;
        // What the server's own ALTER makes of it.
        table.execute(kept.change).await;
        let wanted = shown(&table, "kept").await;
        assert_ne!(before, wanted, "{}", kept.what);
        table.execute("DROP TABLE kept").await;
        table.execute(&format!("{session}{create}")).await;
        table.execute(kept.row).await;
        assert_eq!(shown(&table, "kept").await, before);
        let apply = ["apply", "-t", &url, "-e", kept.change, "-D", "strategy=shadow", "--yes"];
        run_beside(&apply, &[]).await.exits(0);
        assert_eq!(shown(&table, "kept").await, wanted, "{}", kept.what);
        run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0).says("all equal");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(shown(&table, "kept").await, before, "{}, taken back", kept.what);
        table.execute("DROP TABLE kept").await;
        table.assert_no_helpers().await;
    }
}

/// OBJ-12: what was gathered about columns is not carried over, and that is told with the statement that gathers it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_histograms_that_stay_with_the_old_table_are_told() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    let (gather, count, again) = match is_mariadb() {
        true => (
            "ANALYZE TABLE kept PERSISTENT FOR COLUMNS (n, v) INDEXES ()",
            "SELECT GROUP_CONCAT(column_name) FROM mysql.column_stats WHERE db_name = DATABASE() AND table_name = 'kept'",
            "PERSISTENT FOR COLUMNS (`n`) INDEXES ()",
        ),
        false => (
            "ANALYZE TABLE kept UPDATE HISTOGRAM ON n, v WITH 4 BUCKETS",
            "SELECT GROUP_CONCAT(column_name) FROM information_schema.column_statistics
             WHERE schema_name = DATABASE() AND table_name = 'kept'",
            "UPDATE HISTOGRAM ON `n`",
        ),
    };
    table.execute("CREATE TABLE kept (id INT PRIMARY KEY, v INT, n INT)").await;
    table.execute("INSERT INTO kept VALUES (1, 1, 1), (2, 2, 1), (3, 3, 2)").await;
    let change = "ALTER TABLE kept MODIFY v BIGINT";
    let plan = run_beside(&["plan", "-t", &url, "-e", change], &[]).await.exits(0);
    assert!(!plan.out.contains("M255"), "nothing was gathered: {}", plan.out);
    table.execute(gather).await;
    let told = format!("ANALYZE TABLE `{}`.`kept` {again}", table.name());
    run_beside(&["plan", "-t", &url, "-e", change], &[]).await.exits(0).says("M255").says(&told);
    run_beside(&["apply", "-t", &url, "-e", change, "--yes"], &[]).await.exits(0).says("M255");
    assert_eq!(table.text(count).await, "");
    table.execute(&told).await;
    assert_eq!(table.text(count).await, "n");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_ne!(table.text(count).await, "", "they come back with the old table");
}

/// Its definition with all that the server hides, and its rows.
async fn shown(table: &Table, name: &str) -> [String; 2] {
    let mut connection = table.connect().await;
    if !is_mariadb() {
        let show = "SET show_gipk_in_create_table_and_information_schema = ON";
        connection.query_drop(show).await.expect(show);
    }
    let row: Option<(String, String)> =
        connection.query_first(format!("SHOW CREATE TABLE {name}")).await.expect("it is there");
    let definition = row.expect("it is there").1;
    let counted =
        definition.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>();
    let rows = format!("SELECT GROUP_CONCAT(v, n ORDER BY v) FROM {name}");
    [counted.join(" "), table.text(&rows).await]
}
