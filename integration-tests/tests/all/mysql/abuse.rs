//! Bad input and trouble on a real server: a clear message, and nothing changed or everything resumable.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::{run, run_beside};
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{is_mariadb, mysql_own_server};
use crate::stopped::Stopped;

/// Runs a statement that must be refused, and checks that nothing was changed and nothing was left.
async fn refused(table: &Table, statement: &str, code: i32, says: &str) {
    let before = (table.definition().await, table.tables().await);
    let url = table.url();
    let ended = run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await;
    println!("{statement}\n  exit {:?}: {}", ended.code, ended.err.trim());
    ended.exits(code).says(says);
    assert_eq!((table.definition().await, table.tables().await), before, "`{statement}` changed something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_statements_that_cannot_be_meant_are_usage_errors() {
    let table = Table::with_rows(50).await;
    for (statement, says) in [
        ("ALTER TALBE orders ADD COLUMN c TEXT", "ALTER"),
        ("", "statement"),
        ("SELECT * FROM orders", "SELECT"),
        ("DELETE FROM orders", "DELETE"),
        ("ALTER TABLE orders ADD COLUMN a INT; DROP TABLE orders", "one statement"),
        ("ALTER TABLE orders ADD COLUMN a INT) DROP", ""),
        ("ALTER TABLE orders MODIFY customer_id", "syntax"),
        ("ALTER TABLE orders ADD COLUMN c VARCHAR(9) DEFAULT 'open", "'"),
        ("ALTER TABLE orders MODIFY missing BIGINT", "missing"),
        ("ALTER TABLE orders ADD COLUMN note INT", "note"),
        ("ALTER TABLE nowhere ADD COLUMN c INT", "nowhere"),
        ("ALTER TABLE orders ADD COLUMN c VARCHAR(70000)", ""),
    ] {
        refused(&table, statement, 2, says).await;
    }
    let long = format!("ALTER TABLE orders ADD COLUMN {} INT", "n".repeat(65));
    refused(&table, &long, 2, "too long").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_objects_that_are_no_plain_tables_are_refused() {
    let table = Table::with_rows(50).await;
    for statement in [
        "CREATE VIEW v AS SELECT * FROM orders",
        "CREATE TABLE slow (id INT PRIMARY KEY, v INT) ENGINE = MyISAM",
        "CREATE TABLE heap (at DATETIME, line VARCHAR(20))",
        "CREATE TABLE nullable (k INT UNIQUE, v INT)",
        "CREATE TABLE floating (f DOUBLE PRIMARY KEY, v INT)",
        "CREATE TABLE afloat (f FLOAT NOT NULL, v INT, UNIQUE KEY (f))",
        "INSERT INTO afloat VALUES (0.1, 1), (0.2, 2), (1e38, 3), (-0e0, 4)",
    ] {
        table.execute(statement).await;
    }
    refused(&table, "ALTER TABLE v MODIFY customer_id BIGINT", 3, "view").await;
    refused(&table, "ALTER TABLE mysql.user MODIFY Host CHAR(200)", 3, "mysql").await;
    refused(&table, "ALTER TABLE slow MODIFY v BIGINT", 3, "MyISAM").await;
    refused(&table, "ALTER TABLE heap MODIFY line INT", 3, "C016").await;
    refused(&table, "ALTER TABLE nullable MODIFY v BIGINT", 3, "M230").await;
    refused(&table, "ALTER TABLE floating MODIFY v BIGINT", 3, "floating point").await;
    refused(&table, "ALTER TABLE afloat MODIFY v BIGINT", 3, "floating point").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_duplicates_nulls_and_values_that_do_not_fit_are_listed_and_refused() {
    let table = Table::with_rows(50).await;
    table
        .execute("CREATE TABLE people (id INT PRIMARY KEY, mail VARCHAR(40) COLLATE utf8mb4_bin, age VARCHAR(9), n INT)")
        .await;
    table
        .execute(
            "INSERT INTO people VALUES (1, 'a@x', '30', 1), (2, 'b@x', 'old', 70000), (3, 'a@x', '40', 3),
             (4, NULL, '50', NULL), (5, 'B@X', '60', 5)",
        )
        .await;
    refused(&table, "ALTER TABLE people ADD UNIQUE INDEX u (mail)", 3, "a@x").await;
    refused(&table, "CREATE UNIQUE INDEX u ON people (mail)", 3, "a@x").await;
    table.execute("UPDATE people SET mail = 'c@x' WHERE id = 3").await;
    let collation =
        "ALTER TABLE people MODIFY mail VARCHAR(40) COLLATE utf8mb4_unicode_ci, ADD UNIQUE INDEX u (mail)";
    refused(&table, collation, 3, "C010").await;
    refused(&table, "ALTER TABLE people MODIFY mail VARCHAR(40) NOT NULL", 3, "NULL").await;
    refused(&table, "ALTER TABLE people MODIFY age INT", 3, "age").await;
    refused(&table, "ALTER TABLE people MODIFY n SMALLINT", 3, "C007").await;
    refused(&table, "ALTER TABLE people MODIFY mail VARCHAR(2)", 3, "mail").await;
    refused(&table, "ALTER TABLE people ADD CONSTRAINT c CHECK (n < 100)", 3, "C007").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_missing_privilege_is_named_with_its_grant_before_anything_is_created() {
    let table = Table::with_rows(50).await;
    let (before, name) = (table.tables().await, table.name().to_owned());
    let user = format!("u{}", &name[name.len().saturating_sub(12)..]);
    table.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret-word'")).await;
    table
        .execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE, ALTER ON `{name}`.* TO '{user}'@'%'"))
        .await;
    let url = table.url().replacen("root:replank", &format!("{user}:secret-word"), 1);
    let ended = run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[])
        .await
        .exits(3)
        .says("M251")
        .says("GRANT");
    assert!(
        ended.err.contains("REPLICATION SLAVE") || ended.out.contains("REPLICATION SLAVE"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("secret-word") && !ended.out.contains("secret-word"));
    assert_eq!(table.tables().await, before);
    let wrong = table.url().replacen("root:replank", "root:wrong-word", 1);
    let ended = run(&["history", "-t", &wrong]).exits(2).says("refuses the login");
    assert!(!ended.err.contains("wrong-word"));
    table.execute(&format!("DROP USER '{user}'@'%'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_ddl_by_somebody_else_stops_the_run_and_the_table_is_untouched() {
    for boundary in ["chunk_committed", "checkpoint_saved", "verify_chunk_done"] {
        let table = Table::with_rows(3_000).await;
        let url = table.url();
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        let stopped = Stopped::at(boundary, &apply).await;
        table.execute("ALTER TABLE orders ADD COLUMN surprise VARCHAR(9) DEFAULT 'x'").await;
        stopped.go_on().await.exits(1).says("orders");
        assert_eq!(table.text("SELECT COUNT(surprise) FROM orders").await, "3000");
        run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        table.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_statement_in_the_log_stops_the_run() {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    let stopped = Stopped::at("chunk_committed", &apply).await;
    let mut deviant = table.connect().await;
    for statement in
        ["SET SESSION binlog_format = 'STATEMENT'", "UPDATE orders SET note = 'unseen' WHERE id = 1"]
    {
        deviant.query_drop(statement).await.expect(statement);
    }
    stopped.go_on().await.exits(1).says("abort");
    assert_eq!(table.text("SELECT note FROM orders WHERE id = 1").await, "unseen");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_prepared_transaction_is_never_passed_over() {
    // A server of its own: a prepared transaction anywhere stops everybody's runs.
    let server = mysql_own_server(&[]).await;
    let table = Table::within(server.database().await, 500).await;
    let url = table.url();
    let mut holder = table.connect().await;
    let own = [
        "XA START 'a'",
        "UPDATE orders SET note = CONCAT('late', version), version = version + 1 WHERE id = 5",
        "XA END 'a'",
        "XA PREPARE 'a'",
    ];
    for statement in own {
        holder.query_drop(statement).await.expect(statement);
    }
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[]).await.exits(3).says("XA RECOVER");
    holder.query_drop("XA COMMIT 'a'").await.expect("committed");
    // Prepared while the run goes on: the log shows it.
    let stopped = Stopped::at("chunk_committed", &apply).await;
    for statement in own {
        holder.query_drop(statement).await.expect(statement);
    }
    stopped.go_on().await.exits(1).says("XA");
    holder.query_drop("XA COMMIT 'a'").await.expect("committed");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&apply, &[]).await.exits(0);
    assert_eq!(table.text("SELECT note FROM orders WHERE id = 5").await, "late1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_an_interrupted_run_saves_its_checkpoint_and_goes_on() {
    let table = Table::with_rows(5_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed("interrupted"), 3).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    let stopped = Stopped::at("chunk_committed", &apply).await;
    stopped.signal("INT");
    stopped.go_on().await.exits(130).says("resume");
    run_beside(&apply, &[]).await.exits(0);
    let journal = writers.stop().await;
    judge("interrupted", &journal);
    table.check(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_stopped_runner_that_wakes_up_after_another_took_over_changes_nothing() {
    // Each waits half a minute for a lease to expire: side by side.
    let mut all = tokio::task::JoinSet::new();
    for boundary in ["chunk_committed", "batch_committed", "swap_intended", "lock_held", "swap_sent"] {
        all.spawn(overtaken_at(boundary));
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("it goes well at this boundary");
    }
}

async fn overtaken_at(boundary: &'static str) {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed(boundary), 2).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    let stopped = Stopped::at(boundary, &apply).await;
    // The process lives, so its lease has to expire first.
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    stopped.go_on().await.exits(6);
    writers.write_on(20).await;
    let journal = writers.stop().await;
    judge(boundary, &journal);
    table.check(&journal).await;
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_another_statement_on_the_table_is_told_who_holds_it() {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    let stopped = Stopped::at("chunk_committed", &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
    let other = "ALTER TABLE orders MODIFY note TEXT";
    run_beside(&["apply", "-t", &url, "-e", other, "--yes"], &[]).await.exits(3).says("C032");
    stopped.go_on().await.exits(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_value_that_the_new_type_cannot_hold_and_comes_later_fails_the_run_and_no_write() {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    let apply =
        ["apply", "-t", &url, "-e", "ALTER TABLE orders MODIFY version SMALLINT NOT NULL DEFAULT 0", "--yes"];
    let stopped = Stopped::at("chunk_committed", &apply).await;
    table.execute("UPDATE orders SET version = 70000 WHERE id = 7").await;
    stopped.go_on().await.exits(1).says("version");
    assert_eq!(table.text("SELECT version FROM orders WHERE id = 7").await, "70000");
    // Mended by the application, the run goes on.
    table.execute("UPDATE orders SET version = 7 WHERE id = 7").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT version FROM orders WHERE id = 7").await, "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_statement_of_the_servers_own_is_steered_and_given_up() {
    use mysql_async::prelude::Queryable as _;
    let table = Table::with_rows(200_000).await;
    let (url, before) = (table.url(), table.definition().await);
    let index =
        ["apply", "-t", &url, "-e", "ALTER TABLE orders ADD INDEX wide (note, code, amount)", "--yes"];
    // Another run reads the log at the same time, and is no replica that would stand still.
    let other = Table::with_rows(500).await;
    let feeding = Stopped::at("chunk_committed", &["apply", "-t", &other.url(), "-e", RETYPE, "--yes"]).await;
    run_beside(&["plan", "-t", &url, "-e", index[4]], &[]).await.exits(0).says("native-online");
    feeding.go_on().await.exits(0);
    // Waiting for its lock.
    let mut holder = table.connect().await;
    for statement in ["START TRANSACTION", "SELECT COUNT(*) FROM orders"] {
        holder.query_drop(statement).await.expect("held");
    }
    let stopped = Stopped::at("run_saved", &index).await;
    stopped.wake();
    run_beside(&["pause", "last", "-t", &url], &[]).await.exits(3).says("not obeyed");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    stopped.end().await;
    holder.query_drop("COMMIT").await.expect("let go");
    assert_eq!(table.definition().await, before);
    // Building.
    let stopped = Stopped::at("run_saved", &index).await;
    stopped.wake();
    // MariaDB has no performance_schema by default.
    let building = match is_mariadb() {
        true => "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%wide%'",
        false => {
            "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_info LIKE 'ALTER TABLE%wide%'"
        }
    };
    let is_building = async || {
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while table.text(building).await == "0" {
            assert!(std::time::Instant::now() < until, "the server never began");
        }
    };
    is_building().await;
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    stopped.end().await;
    assert_eq!(table.definition().await, before);
    // Interrupted: the server's statement ends as well.
    let stopped = Stopped::at("run_saved", &index).await;
    stopped.wake();
    is_building().await;
    stopped.signal("INT");
    stopped.end().await.exits(130).says("resume");
    assert_eq!(table.text(building).await, "0");
    // Killed after the statement and before its record: an abort takes it back all the same.
    let ended = run_beside(&index, &[("REPLANK_KILL_AT", "step_done")]).await;
    ended.was_killed();
    assert_ne!(table.definition().await, before);
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    run_beside(&index, &[]).await.exits(0);
    assert_ne!(table.definition().await, before);
}
