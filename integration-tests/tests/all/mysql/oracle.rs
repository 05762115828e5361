//! The whole way there and back on a real server under load: against the journal, and against the server's
//! own blocking ALTER.

use std::time::Duration;

use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::is_mariadb;

/// The change that most tests make: a retype, which MySQL makes only by copying under a lock, and an index.
pub const RETYPE: &str =
    "ALTER TABLE orders MODIFY customer_id BIGINT NOT NULL, ADD INDEX ix_c (customer_id)";

const KIND: &str = "SELECT data_type FROM information_schema.columns
     WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'customer_id'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_retype_and_its_revert_under_load_lose_nothing() {
    let test = "on_mysql_a_retype_and_its_revert_under_load_lose_nothing";
    let table = Table::with_rows(60_000).await;
    let before = table.definition().await;
    let writers = Application::start(&table, seed(test), 4).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(KIND).await, "bigint");
    writers.write_on(200).await;
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    assert_eq!(table.definition().await, before, "the definition is as it was");
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_the_result_is_what_the_servers_own_alter_makes() {
    let test = "on_mysql_the_result_is_what_the_servers_own_alter_makes";
    for statement in [
        RETYPE,
        "ALTER TABLE orders MODIFY customer_id VARCHAR(20) NOT NULL, CONVERT TO CHARACTER SET utf8mb4",
        "ALTER TABLE orders MODIFY version BIGINT NOT NULL DEFAULT 0, ROW_FORMAT = COMPRESSED, COMMENT 'new'",
        "ALTER TABLE orders ENGINE = InnoDB",
        "ALTER TABLE orders MODIFY note VARCHAR(80) DEFAULT 'none' AFTER version, ADD COLUMN extra INT NOT NULL DEFAULT 3,
         ADD FULLTEXT INDEX words (note), MODIFY customer_id BIGINT NOT NULL",
    ] {
        println!("{statement}");
        let table = Table::with_rows(4_000).await;
        let before = table.definition().await;
        let writers = Application::start(&table, seed(statement), 3).await;
        let url = table.url();
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        writers.write_on(30).await;
        let journal = writers.stop().await;
        judge(test, &journal);
        table.check(&journal).await;
        table.check_against_blocking(&before, statement).await;
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        table.check(&journal).await;
        table.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_dropped_column_comes_back_with_its_values() {
    let test = "on_mysql_a_dropped_column_comes_back_with_its_values";
    let table = Table::with_rows(5_000).await;
    table.execute("ALTER TABLE orders ADD COLUMN memo VARCHAR(40)").await;
    table.execute("UPDATE orders SET memo = CONCAT('memo ', id)").await;
    let url = table.url();
    let writers = Application::start(&table, seed(test), 3).await;
    let drop = ["apply", "-t", &url, "-e", "ALTER TABLE orders DROP COLUMN memo", "--yes"];
    run_beside(&drop, &[]).await.exits(0);
    let columns = "SELECT COUNT(*) FROM information_schema.columns
         WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'memo'";
    assert_eq!(table.text(columns).await, "0");
    writers.write_on(300).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    // Rows that the writers never touched have their memo; no row has another's.
    for (what, condition) in [("lost", "memo IS NULL"), ("foreign", "memo <> CONCAT('memo ', o.id)")] {
        let found = table
            .text(&format!(
                "SELECT COUNT(*) FROM orders AS o WHERE {condition}
                 AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.id = o.id AND tx <> 'start')"
            ))
            .await;
        assert_eq!(found, "0", "{what}");
    }
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_transaction_that_holds_the_table_delays_the_swap_and_no_writer() {
    let test = "on_mysql_a_transaction_that_holds_the_table_delays_the_swap_and_no_writer";
    use mysql_async::prelude::Queryable as _;
    let table = Table::with_rows(2_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed(test), 3).await;
    let mut holder = table.connect().await;
    for statement in ["START TRANSACTION", "SELECT COUNT(*) FROM orders"] {
        holder.query_drop(statement).await.expect("held");
    }
    let mut command = crate::binary::replank(&["apply", "-t", &url, "-e", RETYPE, "--yes"]);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let child = child.spawn().expect("runs");
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(table.text(KIND).await, "int", "the swap waits for the transaction");
    holder.query_drop("COMMIT").await.expect("let go");
    // MariaDB does not tell by default who holds which table.
    let said = if is_mariadb() { "may hold it" } else { "held by" };
    let ended =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joins").expect("ends");
    crate::binary::Ended::of(ended).exits(0).says(said);
    assert_eq!(table.text(KIND).await, "bigint");
    let journal = writers.stop().await;
    judge(test, &journal);
    // Two lock budgets and the noise of a small machine; the transaction held the table for seconds.
    assert!(journal.summary().longest < Duration::from_millis(1_500), "{:?}", journal.summary().longest);
    table.check(&journal).await;
}

/// A server without replicas may write the table anew by itself, and nobody stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_the_servers_own_copying_is_taken_only_when_it_is_asked_for() {
    let test = "on_mysql_the_servers_own_copying_is_taken_only_when_it_is_asked_for";
    let table = Table::with_rows(4_000).await;
    if is_mariadb() {
        // It writes no table with an index over such a column anew while others write.
        table.execute("ALTER TABLE orders DROP COLUMN lower_note").await;
    }
    let (before, url) = (table.definition().await, table.url());
    let force = "ALTER TABLE orders FORCE";
    let plan = run_beside(&["plan", "-t", &url, "-e", force], &[]).await.exits(0);
    plan.says("shadow").says("strategy=native-online");
    let writers = Application::start(&table, seed(test), 3).await;
    let native = |statement, more: &[&'static str]| {
        let mut args = vec!["apply", "-t", &url, "-e", statement, "-D", "strategy=native-online", "--yes"];
        args.extend(more);
        args
    };
    run_beside(&native(force, &[]), &[]).await.exits(0);
    writers.write_on(30).await;
    assert_eq!(table.definition().await, before);
    let copies_online = table.text("SELECT VERSION() LIKE '11.%-MariaDB%'").await == "1";
    if copies_online {
        run_beside(&native(RETYPE, &[]), &[]).await.exits(3).says("the values of customer_id");
        run_beside(&native(RETYPE, &["--no-revert", "-D", "waive=C002 reason=\"a test\""]), &[])
            .await
            .exits(0);
        assert_eq!(table.text(KIND).await, "bigint");
        writers.write_on(30).await;
    } else {
        run_beside(&native(RETYPE, &[]), &[]).await.exits(3).says("the server says");
        assert_eq!(table.text(KIND).await, "int");
    }
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
}
