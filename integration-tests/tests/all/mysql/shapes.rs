//! Tables of many shapes: keys of every type, partitions. What happens to the table under change happens to a
//! twin as well, which the server alters by itself; both must hold the same.

use replank_core::engine::boundary::Boundary;
use tokio::task::JoinSet;

use super::Table;
use crate::binary::run_beside;
use crate::kills::go_on;
use crate::server::{Database, is_mariadb, mysql_own_server};
use crate::stopped::Stopped;

/// A type, its first rows' keys, and one key more; the first is deleted and the second becomes the last.
const KEYS: &[(&str, &[&str], &str)] = &[
    ("TINYINT", &["-128", "-1", "0", "127"], "5"),
    ("TINYINT UNSIGNED", &["0", "128", "255"], "5"),
    ("SMALLINT", &["-32768", "-1", "32767"], "5"),
    ("SMALLINT UNSIGNED", &["0", "32768", "65535"], "5"),
    ("MEDIUMINT", &["-8388608", "-1", "8388607"], "5"),
    ("MEDIUMINT UNSIGNED", &["0", "8388608", "16777215"], "5"),
    ("INT", &["-2147483648", "-1", "2147483647"], "5"),
    ("INT UNSIGNED", &["0", "2147483648", "4294967295"], "5"),
    ("BIGINT", &["-9223372036854775808", "-1", "9223372036854775807"], "5"),
    ("BIGINT UNSIGNED", &["0", "9223372036854775808", "18446744073709551615"], "5"),
    (
        "DECIMAL(30, 10)",
        &["-12345678901234567890.0123456789", "-0.0000000001", "0", "99999999999999999999.9999999999"],
        "0.1",
    ),
    ("DECIMAL(5, 0)", &["-99999", "-1", "99999"], "7"),
    ("CHAR(4)", &["''", "'a'", "'ab c'", "'ÄÖÜ!'"], "'z'"),
    ("CHAR(3) CHARACTER SET latin1", &["'é'", "'ÿü'", "'a'"], "'z'"),
    ("VARCHAR(10)", &["''", "'it''s'", "'日本語'", "'😀 x'", "'tab\\t\\\\'"], "'z'"),
    ("VARCHAR(300) COLLATE utf8mb4_bin", &["'a'", "'A'", "REPEAT('ä', 300)"], "'z'"),
    ("VARCHAR(10) COLLATE utf8mb4_general_ci", &["'a '", "'b'", "'ç'"], "'z'"),
    ("VARCHAR(10) CHARACTER SET utf16", &["'a'", "'日本'", "'é'"], "'z'"),
    ("VARCHAR(10) CHARACTER SET sjis", &["'a'", "'日本'", "'表'"], "'z'"),
    ("BINARY(4)", &["x'00000000'", "x'61000000'", "x'FFFFFFFF'", "x'61006100'"], "x'7a'"),
    (
        "BINARY(16)",
        &["x'6ccd780cbaba102695645b8c656024db'", "REPEAT(CHAR(0), 16)", "REPEAT(CHAR(255), 16)"],
        "x'7a'",
    ),
    ("VARBINARY(10)", &["x''", "x'00'", "x'0000'", "x'6100'"], "x'7a'"),
    ("VARBINARY(300)", &["x''", "REPEAT(CHAR(255), 300)", "x'41'"], "x'7a'"),
    ("DATE", &["'1000-01-01'", "'2024-02-29'", "'9999-12-31'"], "'2000-01-01'"),
    (
        "DATETIME",
        &["'1000-01-01 00:00:00'", "'2024-02-29 23:59:59'", "'9999-12-31 23:59:59'"],
        "'2000-01-01'",
    ),
    (
        "DATETIME(6)",
        &["'1000-01-01 00:00:00.000001'", "'2024-02-29 23:59:59.999999'", "'2024-03-01'"],
        "'2000-01-01'",
    ),
    (
        "DATETIME(3)",
        &["'2024-02-29 23:59:59.999'", "'2024-03-01 00:00:00.001'", "'2024-03-01'"],
        "'2000-01-01'",
    ),
    (
        "TIMESTAMP",
        &["'1970-01-01 00:00:01'", "'2024-03-31 01:30:00'", "'2038-01-19 03:14:07'"],
        "'2000-01-01'",
    ),
    (
        "TIMESTAMP(6)",
        &["'1970-01-01 00:00:01.000001'", "'2024-10-27 01:30:00.5'", "'2038-01-19 03:14:07.499999'"],
        "'2000-01-01'",
    ),
    (
        "TIMESTAMP(2)",
        &["'1970-01-01 00:00:01.01'", "'2024-10-27 01:30:00.99'", "'2024-10-27'"],
        "'2000-01-01'",
    ),
    ("TIME", &["'-838:59:59'", "'-00:00:01'", "'00:00:00'", "'838:59:59'"], "'12:00'"),
    ("TIME(6)", &["'-838:59:58.999999'", "'-00:00:00.000001'", "'00:00:00.5'", "'838:59:59'"], "'12:00'"),
    ("TIME(3)", &["'-01:00:00.001'", "'-00:00:00.999'", "'00:00:00.5'"], "'12:00'"),
    ("YEAR", &["1901", "2155", "0"], "2000"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_keys_of_every_type_tell_rows_apart() {
    let mut all = JoinSet::new();
    for (number, (kind, keys, more)) in KEYS.iter().enumerate() {
        while all.len() >= 3 {
            all.join_next().await.expect("some").expect("it goes well");
        }
        all.spawn(async move {
            let table = Table::with_rows(1).await;
            let columns = format!("k {kind} NOT NULL PRIMARY KEY, v VARCHAR(20) NOT NULL");
            let twins = Twins::new(&table, &columns, "k").await;
            for (at, key) in keys.iter().enumerate() {
                twins.both(&format!("INSERT INTO T VALUES ({key}, '{at}')")).await;
            }
            println!("{number}: {kind}");
            let last = keys.last().expect("keys");
            let meanwhile = [
                format!("INSERT INTO T VALUES ({more}, '77')"),
                format!("UPDATE T SET v = '88' WHERE k = {last}"),
                format!("DELETE FROM T WHERE k = {}", keys[0]),
                format!("UPDATE T SET k = {} WHERE k = {}", keys[0], keys[1]),
            ];
            twins.change("ALTER TABLE T MODIFY v INT NOT NULL", &meanwhile).await;
            // Each of them met its row.
            let met = "SELECT CONCAT_WS(' ', COUNT(*), SUM(v = 88), SUM(v = 0)) FROM Twin";
            assert_eq!(table.text(met).await, format!("{} 1 0", keys.len()), "{kind}");
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("it goes well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_keys_of_several_columns_tell_rows_apart() {
    let table = Table::with_rows(1).await;
    let columns =
        "a VARCHAR(9) NOT NULL, v VARCHAR(20) NOT NULL, b DATETIME(3) NOT NULL, c INT UNSIGNED NOT NULL,
         g BIGINT AS (c + 1), PRIMARY KEY (c, a, b)";
    let twins = Twins::new(&table, columns, "a, b, c, g").await;
    for (c, a) in [(1, "x"), (1, "y"), (4_294_967_295_u64, "x"), (0, "it''s")] {
        let statement =
            format!("INSERT INTO T (a, v, b, c) VALUES ('{a}', '1', '2024-03-31 02:30:00.123', {c})");
        twins.both(&statement).await;
    }
    let meanwhile = [
        "UPDATE T SET a = 'z', v = '9' WHERE c = 1 AND a = 'y'".to_owned(),
        "DELETE FROM T WHERE c = 1 AND a = 'x'".to_owned(),
        "INSERT INTO T (a, v, b, c) VALUES ('x', '5', '2024-03-31 02:30:00.124', 1)".to_owned(),
        "UPDATE T SET b = b + INTERVAL 1 MICROSECOND, v = '3' WHERE c = 4294967295".to_owned(),
    ];
    twins.change("ALTER TABLE T MODIFY v INT NOT NULL", &meanwhile).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_partitions_are_kept_and_made() {
    let ranges =
        "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20),
         PARTITION p2 VALUES LESS THAN (MAXVALUE))";
    for (options, statement) in [
        (ranges, "ALTER TABLE T MODIFY v INT NOT NULL"),
        ("PARTITION BY HASH (id) PARTITIONS 3", "ALTER TABLE T MODIFY v INT NOT NULL, ADD INDEX i (v)"),
        ("", "ALTER TABLE T PARTITION BY KEY (id) PARTITIONS 4"),
        (ranges, "ALTER TABLE T REMOVE PARTITIONING"),
        (ranges, "ALTER TABLE T REORGANIZE PARTITION p0, p1 INTO (PARTITION p01 VALUES LESS THAN (20))"),
        ("PARTITION BY HASH (id) PARTITIONS 3", "ALTER TABLE T COALESCE PARTITION 1"),
        ("PARTITION BY HASH (id) PARTITIONS 3", "ALTER TABLE T ADD PARTITION PARTITIONS 2"),
    ] {
        println!("{statement} of {options}");
        let table = Table::with_rows(1).await;
        let twins =
            Twins::with_options(&table, "id INT PRIMARY KEY, v VARCHAR(20) NOT NULL", "id", options).await;
        twins.both("INSERT INTO T VALUES (1, '1'), (5, '5'), (11, '11'), (25, '25'), (9, '9')").await;
        let meanwhile = [
            "UPDATE T SET id = 30, v = '4' WHERE id = 1".to_owned(),
            "UPDATE T SET id = 2 WHERE id = 25".to_owned(),
            "DELETE FROM T WHERE id = 5".to_owned(),
            "INSERT INTO T VALUES (15, '15')".to_owned(),
        ];
        twins.change(statement, &meanwhile).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_partitions_are_never_emptied_unannounced() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    table
        .execute(
            "CREATE TABLE parts (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id)
             (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
        )
        .await;
    table.execute("INSERT INTO parts VALUES (1, 1), (11, 11)").await;
    for statement in ["ALTER TABLE parts DROP PARTITION p0", "ALTER TABLE parts TRUNCATE PARTITION p0"] {
        let ended = run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await;
        println!("{statement}: {:?} {}", ended.code, ended.err.trim());
        ended.exits(3).says("p0");
        assert_eq!(table.text("SELECT COUNT(*) FROM parts").await, "2", "{statement}");
    }
    let statement = "ALTER TABLE parts DROP PARTITION p0";
    let mut for_good = vec!["apply", "-t", &url, "-e", statement, "--no-revert", "--yes"];
    run_beside(&for_good, &[]).await.exits(3).says("M225");
    for_good.extend(["-D", "waive=M225 reason=\"archived\""]);
    run_beside(&for_good, &[]).await.exits(0);
    assert_eq!(table.text("SELECT GROUP_CONCAT(id) FROM parts").await, "11");
    for statement in ["ALTER TABLE parts ANALYZE PARTITION p1", "ALTER TABLE parts ORDER BY v"] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_server_that_ignores_the_case_of_names_is_no_trouble() {
    let server = mysql_own_server(&["--lower-case-table-names=1"]).await;
    let database: Database = server.database().await;
    let table = Table::within(database, 1).await;
    let twins = Twins::new(&table, "Id INT PRIMARY KEY, v VARCHAR(20) NOT NULL", "id").await;
    twins.both("INSERT INTO T VALUES (1, '1'), (2, '2')").await;
    let meanwhile = ["UPDATE T SET v = '3' WHERE ID = 1".to_owned(), "DELETE FROM T WHERE id = 2".to_owned()];
    twins.change("ALTER TABLE T MODIFY V INT NOT NULL", &meanwhile).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_constraints_keep_their_names() {
    let columns = "id INT PRIMARY KEY, v VARCHAR(20) NOT NULL, n INT NOT NULL, CHECK (n < 1000),
         CONSTRAINT positive CHECK (n > 0), CONSTRAINT short CHECK (CHAR_LENGTH(v) < 9)";
    // MariaDB has none that are not enforced, and no DROP CHECK.
    let not = if is_mariadb() { "" } else { " NOT ENFORCED" };
    let columns = format!("{columns}{not}");
    let statement = "ALTER TABLE goods MODIFY v INT NOT NULL, DROP CONSTRAINT short, ADD INDEX by_v (v)";
    for kill in [
        None,
        Some(Boundary::ShadowCreated),
        Some(Boundary::ChunkCommitted),
        Some(Boundary::SwapSent),
        Some(Boundary::SwapAcknowledged),
    ] {
        let table = Table::with_rows(1).await;
        let url = table.url();
        table.execute(&format!("CREATE TABLE goods ({columns})")).await;
        let before = table.definition_of("goods").await;
        table.execute("INSERT INTO goods VALUES (1, '1', 1), (2, '2', 2), (3, '3', 3)").await;
        // What the server's own ALTER makes of it.
        table.execute(statement).await;
        let wanted = table.definition_of("goods").await;
        table.execute("DROP TABLE goods").await;
        table.execute(&format!("CREATE TABLE goods ({columns})")).await;
        table.execute("INSERT INTO goods VALUES (1, '1', 1), (2, '2', 2), (3, '3', 3)").await;
        let apply = ["apply", "-t", &url, "-e", statement, "--yes"];
        match kill {
            None => {
                let stopped = Stopped::at("chunk_committed", &apply).await;
                table.execute("UPDATE goods SET v = '7', n = 8 WHERE id = 2").await;
                stopped.go_on().await.exits(0);
            }
            Some(boundary) => {
                run_beside(&apply, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
                table.execute("UPDATE goods SET v = '7', n = 8 WHERE id = 2").await;
                run_beside(&go_on(&url, statement, boundary), &[]).await.exits(0);
            }
        }
        assert_eq!(table.definition_of("goods").await, wanted);
        assert_eq!(table.text("SELECT GROUP_CONCAT(v, n ORDER BY id) FROM goods").await, "11,78,33");
        table.execute("INSERT INTO goods VALUES (4, 4, 4)").await;
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.definition_of("goods").await, before, "taken back");
        assert_eq!(table.text("SELECT GROUP_CONCAT(v, n ORDER BY id) FROM goods").await, "11,78,33,44");
        run_beside(&apply, &[]).await.exits(0);
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.definition_of("goods").await, wanted, "made final");
        table.assert_no_helpers().await;
    }
}

/// `Subject`, which replank changes, and `Twin`, which the server does. In statements both are called T.
pub struct Twins<'a> {
    table: &'a Table,
    /// What a row is.
    shown: String,
}

impl<'a> Twins<'a> {
    /// Makes both, of these columns; `key` are those that tell rows apart.
    pub async fn new(table: &'a Table, columns: &str, key: &str) -> Self {
        Self::with_options(table, columns, key, "").await
    }

    async fn with_options(table: &'a Table, columns: &str, key: &str, options: &str) -> Self {
        let columns_of_key: Vec<String> =
            key.split(", ").map(|column| format!("HEX(CAST({column} AS BINARY))")).collect();
        let shown = format!("CONCAT(CONCAT_WS(' ', {}), ' = ', v)", columns_of_key.join(", "));
        let twins = Self { table, shown };
        twins.both(&format!("CREATE TABLE T ({columns}) {options}")).await;
        twins
    }

    /// Makes both; a row is what an expression says of it.
    pub async fn showing(table: &'a Table, columns: &str, shown: &str) -> Self {
        let twins = Self { table, shown: shown.to_owned() };
        twins.both(&format!("CREATE TABLE T ({columns})")).await;
        twins
    }

    /// Runs a statement on both.
    pub async fn both(&self, statement: &str) {
        for name in ["Subject", "Twin"] {
            self.table.execute(&Self::of(statement, name)).await;
        }
    }

    /// A statement for one of them.
    pub fn of(statement: &str, name: &str) -> String {
        let words: Vec<&str> =
            statement.split(' ').map(|word| if word == "T" { name } else { word }).collect();
        words.join(" ")
    }

    /// Changes both, one online while `meanwhile` happens; then takes that one back.
    pub async fn change(&self, statement: &str, meanwhile: &[String]) {
        self.change_after(statement, 1, meanwhile).await;
    }

    /// The same in small chunks, after one of them.
    pub async fn change_after(&self, statement: &str, chunk: u32, meanwhile: &[String]) {
        self.change_and(statement, chunk, meanwhile, &[]).await;
    }

    /// The same, with statements for the new shape before it is taken back.
    pub async fn change_and(&self, statement: &str, chunk: u32, meanwhile: &[String], afterwards: &[&str]) {
        let url = self.table.url();
        let before = self.definition("Subject").await;
        let online = Self::of(statement, "Subject");
        let apply = ["apply", "-t", &url, "-e", &online, "-D", "strategy=shadow", "--yes"];
        let small = ["--throttle", "chunk_rows_max=20"];
        let stopped = Stopped::at(&format!("chunk_committed:{chunk}"), &[&apply[..], &small].concat()).await;
        for statement in meanwhile {
            self.both(statement).await;
        }
        stopped.go_on().await.exits(0);
        self.table.execute(&Self::of(statement, "Twin")).await;
        assert_eq!(self.definition("Subject").await, self.definition("Twin").await, "{statement}");
        assert_eq!(self.rows("Subject").await, self.rows("Twin").await, "{statement}");
        for statement in afterwards {
            self.both(statement).await;
        }
        run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(self.definition("Subject").await, before, "{statement}, taken back");
        assert_eq!(self.rows("Subject").await, self.rows("Twin").await, "{statement}, taken back");
        self.table.assert_no_helpers().await;
    }

    /// Both have the same rows.
    pub async fn check(&self) {
        assert_eq!(self.rows("Subject").await, self.rows("Twin").await);
    }

    async fn definition(&self, name: &str) -> String {
        let sql = self.table.definition_of(name).await;
        sql.split_once(" (").expect("a definition").1.to_owned()
    }

    /// Every row, byte by byte.
    async fn rows(&self, name: &str) -> String {
        let sql = format!(
            "SELECT /*+ SET_VAR(group_concat_max_len = 1000000) */ GROUP_CONCAT({0} ORDER BY {0}) FROM {name}",
            self.shown
        );
        self.table.text(&sql).await
    }
}
