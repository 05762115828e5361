//! The whole way there and back under load, against the journal.

use crate::binary::run_beside;
use crate::random::seed;
use crate::sqlite::{Application, Table};
use crate::workload::{Journal, Summary};

/// The change that most tests make: a retype and an index, which SQLite's own ALTER TABLE cannot do.
pub const RETYPE: &str =
    "ALTER TABLE orders ALTER COLUMN customer_id TYPE INTEGER, ADD INDEX ix_customer (customer_id)";

/// Prints what the writers noticed. A failed write fails the test.
#[track_caller]
pub fn judge(test: &str, journal: &Journal) {
    let Summary { acknowledged, deadlocked, failed, longest } = journal.summary();
    println!(
        "{test}: {acknowledged} transactions, longest {} ms, deadlocks {deadlocked}, failed: {failed:?}",
        longest.as_millis()
    );
    assert!(acknowledged > 20, "the writers wrote next to nothing: the test proves nothing");
    assert_eq!(failed, None, "a write failed");
    // Two writers of ours can deadlock over unique values, and one with a waiting lock (docs/mysql.md, limits):
    // a few, however many swaps are tried.
    assert!(deadlocked <= 3 + acknowledged / 100, "{deadlocked} deadlocks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retype_and_its_revert_under_load_lose_nothing() {
    let test = "a_retype_and_its_revert_under_load_lose_nothing";
    let table = Table::with_rows(60_000).await;
    let before = table.schema().await;
    let writers = Application::start(&table, seed(test), 4).await;

    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    assert_eq!(
        table.text("SELECT type FROM pragma_table_info('orders') WHERE name = 'customer_id'").await,
        "INTEGER"
    );
    assert_eq!(table.text("SELECT DISTINCT typeof(customer_id) FROM orders").await, "integer");
    let uses = table.text("SELECT 1 FROM orders INDEXED BY ix_customer WHERE customer_id = 5 LIMIT 1").await;
    assert!(uses == "1" || uses.is_empty(), "the index can be used by its name");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;

    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    assert_eq!(names(&table.schema().await), names(&before), "the schema is as it was");
    assert_eq!(
        table.text("SELECT type FROM pragma_table_info('orders') WHERE name = 'customer_id'").await,
        "TEXT"
    );
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_made_final_under_load_leaves_only_records() {
    let test = "a_change_made_final_under_load_leaves_only_records";
    let table = Table::with_rows(20_000).await;
    let writers = Application::start(&table, seed(test), 4).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    table.assert_no_helpers().await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(3).says("finalized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_column_comes_back_with_its_values() {
    let test = "a_dropped_column_comes_back_with_its_values";
    let table = Table::with_rows(5_000).await;
    table.execute("ALTER TABLE orders ADD COLUMN memo TEXT").await;
    table.execute("UPDATE orders SET memo = 'memo ' || id").await;
    let url = table.url();
    let writers = Application::start(&table, seed(test), 3).await;
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE orders DROP COLUMN memo", "--yes"], &[])
        .await
        .exits(0);
    assert_eq!(table.text("SELECT count(*) FROM pragma_table_info('orders') WHERE name = 'memo'").await, "0");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    // Rows that the writers never touched have their memo; a row that was deleted and inserted again, or
    // replaced, starts afresh. None has another row's.
    let foreign = table
        .text(
            "SELECT count(*) FROM orders AS o WHERE memo IS NOT NULL
             AND (SELECT count(*) FROM audit WHERE id = o.id AND tx <> 'start') = 0 AND memo <> 'memo ' || id",
        )
        .await;
    assert_eq!(foreign, "0");
    let lost = table
        .text(
            "SELECT count(*) FROM orders AS o WHERE memo IS NULL
             AND (SELECT count(*) FROM audit WHERE id = o.id AND tx <> 'start') = 0",
        )
        .await;
    assert_eq!(lost, "0");
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_the_old_shape_cannot_hold_refuse_the_revert_and_lose_nothing() {
    let table = Table::with_rows(2_000).await;
    let url = table.url();
    table.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CONSTRAINT small CHECK (n < 100))").await;
    table.execute("INSERT INTO plain VALUES (1, 1), (2, 2)").await;
    let widen = "ALTER TABLE plain DROP CONSTRAINT small";
    run_beside(&["apply", "-t", &url, "-e", widen, "--yes"], &[]).await.exits(0);
    table.execute("INSERT INTO plain VALUES (3, 1000)").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(3).says("cannot hold");
    assert_eq!(table.text("SELECT group_concat(n) FROM plain").await, "1,2,1000", "the new table stays live");
    table.execute("UPDATE plain SET n = 99 WHERE id = 3").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT group_concat(n) FROM plain").await, "1,2,99");
    assert!(table.text("SELECT sql FROM sqlite_schema WHERE name = 'plain'").await.contains("n < 100"));
    table.assert_no_helpers().await;
}

/// Object kinds and names. The text of a definition may differ in quoting after a rename.
fn names(schema: &[String]) -> Vec<String> {
    schema.iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
}
