//! The driver's own rules on a real server: each refuses, or says what handles it, before anything is made.

use super::Table;
use super::oracle::RETYPE;
use crate::binary::run_beside;
use crate::server::{count_far, is_mariadb, mysql_own_server};

/// Plans a statement, and checks that the rule speaks; `code` ends with `!` where it refuses.
async fn judged(table: &Table, statement: &str, code: &str) {
    let before = (table.definition().await, table.tables().await);
    let (url, rule) = (table.url(), code.trim_end_matches('!'));
    let ended =
        run_beside(&["plan", "-t", &url, "-e", statement, "-D", "waive=C004 reason=\"a test\""], &[]).await;
    println!("{code}: {statement}: {:?}\n{}{}", ended.code, ended.out, ended.err);
    let refuses = format!("refused {rule}");
    if code.ends_with('!') {
        ended.exits(3).says(&refuses);
    } else {
        let ended = ended.exits(0).says(rule);
        assert!(!ended.out.contains(&refuses), "{statement}");
    }
    assert_eq!((table.definition().await, table.tables().await), before, "`{statement}` changed something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_rules_judge_what_a_statement_does_to_a_table() {
    let table = Table::with_rows(5).await;
    for statement in [
        "CREATE TABLE kinds (id INT PRIMARY KEY, state ENUM('new', 'paid') NOT NULL, name VARCHAR(60),
         plain VARCHAR(20) CHARACTER SET latin1, code VARCHAR(9) NOT NULL, note TEXT, UNIQUE KEY code (code))",
        "INSERT INTO kinds VALUES (1, 'new', 'n', 'é', 'x', 'note')",
        "CREATE TABLE parent (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, v INT, FOREIGN KEY (p) REFERENCES parent (id))",
        "CREATE TABLE watched (id INT PRIMARY KEY, v INT, w INT)",
        "CREATE TRIGGER watcher AFTER INSERT ON watched FOR EACH ROW SET @seen = NEW.w",
        "CREATE TABLE Twin (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE twin (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE nullable (k INT UNIQUE, v INT)",
        "CREATE TABLE _kinds_gho (id INT PRIMARY KEY)",
        "CREATE TRIGGER pt_osc_t_nullable_del AFTER DELETE ON nullable FOR EACH ROW SET @gone = OLD.k",
        // MariaDB has no keys over expressions.
        if is_mariadb() {
            "CREATE TABLE computed (n INT NOT NULL, v INT, g INT AS (n + 1) STORED, UNIQUE KEY k (g))"
        } else {
            "CREATE TABLE computed (doc JSON, v INT, UNIQUE KEY k ((CAST(doc->>'$.id' AS UNSIGNED))))"
        },
    ] {
        table.execute(statement).await;
    }
    for (statement, code) in [
        ("ALTER TABLE kinds MODIFY state ENUM('paid', 'new') NOT NULL", "M205"),
        ("ALTER TABLE kinds MODIFY name VARCHAR(64)", "M206"),
        ("ALTER TABLE kinds MODIFY plain VARCHAR(20) CHARACTER SET utf8mb4", "M207"),
        ("ALTER TABLE parent MODIFY v BIGINT", "M208"),
        ("ALTER TABLE child MODIFY v BIGINT", "M208"),
        ("ALTER TABLE child MODIFY v BIGINT, DROP FOREIGN KEY child_ibfk_1", "M208!"),
        ("ALTER TABLE watched MODIFY v BIGINT", "M209"),
        ("ALTER TABLE watched MODIFY v BIGINT, DROP COLUMN w", "M209!"),
        ("ALTER TABLE kinds DROP COLUMN note, ADD COLUMN note TEXT", "M221!"),
        ("ALTER TABLE kinds DROP PRIMARY KEY, ADD PRIMARY KEY (id, code)", "M222"),
        ("ALTER TABLE kinds DROP PRIMARY KEY, ADD PRIMARY KEY (code)", "M222"),
        ("ALTER TABLE watched DROP PRIMARY KEY, ADD PRIMARY KEY (v)", "M222!"),
        ("ALTER TABLE kinds RENAME COLUMN note TO remark, MODIFY state ENUM('paid', 'new') NOT NULL", "M223"),
        ("ALTER TABLE twin MODIFY v BIGINT", "M229!"),
        ("ALTER TABLE nullable MODIFY v BIGINT", "M230!"),
        ("ALTER TABLE computed MODIFY v BIGINT", "M231!"),
        ("ALTER TABLE kinds ADD COLUMN late INT", "M254"),
        ("ALTER TABLE nullable ADD COLUMN late INT", "M254"),
    ] {
        judged(&table, statement, code).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_rules_judge_the_server() {
    let server =
        mysql_own_server(&["--sql-mode=", "--binlog-format=STATEMENT", "--binlog-expire-logs-seconds=3600"])
            .await;
    let table = Table::within(server.database().await, 5).await;
    table.execute("CREATE TABLE dates (id INT PRIMARY KEY, n INT, at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00')").await;
    table
        .execute("INSERT INTO dates VALUES (1, NULL, '0000-00-00 00:00:00'), (2, 2, '2024-00-00 00:00:00')")
        .await;
    judged(&table, RETYPE, "M250!").await;
    table.execute("SET GLOBAL binlog_format = 'ROW'").await;
    table.execute("SET GLOBAL binlog_row_image = 'MINIMAL'").await;
    judged(&table, RETYPE, "M250!").await;
    table.execute("SET GLOBAL binlog_row_image = 'FULL'").await;
    judged(&table, RETYPE, "C044!").await;
    table.execute("SET GLOBAL binlog_expire_logs_seconds = 2592000").await;
    judged(&table, "ALTER TABLE dates MODIFY n INT NOT NULL", "M214!").await;
    table.execute("UPDATE dates SET n = 1 WHERE n IS NULL").await;
    judged(&table, "ALTER TABLE dates MODIFY n INT NOT NULL", "M214").await;
    judged(&table, "ALTER TABLE dates ADD COLUMN until DATE NOT NULL DEFAULT '0000-00-00'", "M215").await;
    // Dates of zeros are copied as they are, also by a session that would not take new ones.
    let url = table.url();
    let statement = "ALTER TABLE dates MODIFY n BIGINT NOT NULL";
    run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0).says("M215");
    let dates = "SELECT GROUP_CONCAT(at ORDER BY id) FROM dates";
    assert_eq!(table.text(dates).await, "0000-00-00 00:00:00,2024-00-00 00:00:00");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(dates).await, "0000-00-00 00:00:00,2024-00-00 00:00:00");
    table.execute("SET GLOBAL read_only = 1").await;
    judged(&table, RETYPE, "M252!").await;
    table.execute("SET GLOBAL read_only = 0").await;
    // MariaDB does not record them by default.
    if is_mariadb() {
        return judged(&table, RETYPE, "M253").await;
    }
    table.execute("UPDATE performance_schema.setup_instruments SET enabled = 'NO' WHERE name = 'wait/lock/metadata/sql/mdl'").await;
    judged(&table, RETYPE, "M253").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_who_has_held_the_table_for_long_is_named_before_anything_is_begun() {
    use mysql_async::prelude::Queryable as _;
    let seen = ["--performance-schema=ON", "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON"];
    let server = mysql_own_server(&seen).await;
    let table = Table::within(server.database().await, 5).await;
    let mut holder = table.connect().await;
    for statement in ["START TRANSACTION", "SELECT COUNT(*) FROM orders"] {
        holder.query_drop(statement).await.expect("held");
    }
    tokio::time::sleep(std::time::Duration::from_secs(62)).await;
    judged(&table, RETYPE, "M253!").await;
    judged(&table, "ALTER TABLE orders ADD COLUMN quick INT", "M253!").await;
    holder.query_drop("COMMIT").await.expect("let go");
    run_beside(&["plan", "-t", &table.url(), "-e", RETYPE], &[]).await.exits(0);
}

/// Up to a size all are counted anyway; above it only when it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_rows_are_estimated_or_counted_as_it_is_said() {
    let table = Table::with_rows(1).await;
    table.execute("CREATE TABLE large (id INT PRIMARY KEY, v INT)").await;
    let fill = "INSERT INTO large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300007) SELECT i, i FROM n";
    table.execute(&format!("{}; {fill}; ANALYZE TABLE large", count_far())).await;
    let url = table.url();
    let plan = ["plan", "-t", &url, "-e", "ALTER TABLE large MODIFY v BIGINT"];
    for (said, counts) in [(&[][..], false), (&["-D", "rows=estimate"], false), (&["-D", "rows=exact"], true)]
    {
        let ended = run_beside(&[&plan, said].concat(), &[]).await.exits(0);
        println!("{}", ended.out);
        // Where a line is broken depends on the length of the names.
        let said = ended.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(said.contains("300,007 rows"), counts, "{}", ended.out);
    }
    run_beside(&[&plan[..], &["-D", "rows=many"]].concat(), &[]).await.exits(2).says("rows=exact");
}
