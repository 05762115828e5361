//! Bad input and trouble: a clear message, and nothing changed or everything resumable.

use std::time::Duration;

use crate::binary::{replank, run, run_beside};
use crate::oracle::{RETYPE, judge};
use crate::random::seed;
use crate::sqlite::{Application, Table};

/// Runs a statement that must be refused, and checks that nothing was changed and nothing was left.
async fn refused(table: &Table, statement: &str, code: i32, says: &str) {
    let before = table.schema().await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(code).says(says);
    assert_eq!(table.schema().await, before, "`{statement}` changed something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_cannot_be_meant_are_usage_errors() {
    let table = Table::with_rows(50).await;
    for (statement, says) in [
        ("ALTER TALBE orders ADD COLUMN c TEXT", "ALTER"),
        ("", "statement"),
        ("SELECT * FROM orders", "SELECT"),
        ("DELETE FROM orders", "DELETE"),
        ("ALTER TABLE orders ADD COLUMN a TEXT; DROP TABLE orders", "one statement"),
        ("ALTER TABLE orders ALTER COLUMN customer_id TYPE", "expected"),
        ("ALTER TABLE orders ADD COLUMN c TEXT DEFAULT 'open", "'"),
        ("ALTER TABLE orders ALTER COLUMN missing TYPE INTEGER", "missing"),
    ] {
        refused(&table, statement, 2, says).await;
    }
    refused(&table, "ALTER TABLE nowhere ADD COLUMN c TEXT", 2, "nowhere").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_are_no_plain_tables_are_refused() {
    let table = Table::with_rows(50).await;
    table.execute("CREATE VIEW v AS SELECT * FROM orders").await;
    refused(&table, "ALTER TABLE v ALTER COLUMN customer_id TYPE INTEGER", 3, "view").await;
    refused(&table, "ALTER TABLE sqlite_schema ADD COLUMN c TEXT", 3, "sqlite_schema").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_a_usable_key_is_refused_with_the_reason() {
    let table = Table::with_rows(50).await;
    table.execute("CREATE TABLE log (at TEXT, line TEXT)").await;
    refused(&table, "ALTER TABLE log ALTER COLUMN at TYPE INTEGER", 3, "key").await;
    table.execute("CREATE TABLE nullable (k TEXT UNIQUE, v TEXT)").await;
    refused(&table, "ALTER TABLE nullable ALTER COLUMN v TYPE INTEGER", 3, "column k may be NULL").await;
    table.execute("CREATE TABLE floating (f REAL PRIMARY KEY NOT NULL, v TEXT)").await;
    refused(&table, "ALTER TABLE floating ALTER COLUMN v TYPE INTEGER", 3, "floating point").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_nulls_and_values_that_do_not_fit_are_listed_and_refused() {
    let table = Table::with_rows(50).await;
    table.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT, age TEXT)").await;
    table
        .execute("INSERT INTO people VALUES (1, 'a@x', '30'), (2, 'b@x', 'old'), (3, 'a@x', '40'), (4, NULL, '50')")
        .await;
    refused(&table, "ALTER TABLE people ADD CONSTRAINT u UNIQUE (mail)", 3, "a@x").await;
    refused(&table, "CREATE UNIQUE INDEX u ON people (mail)", 3, "a@x").await;
    refused(&table, "ALTER TABLE people ALTER COLUMN mail SET NOT NULL", 3, "NULL").await;
    refused(&table, "ALTER TABLE people ALTER COLUMN age TYPE INTEGER", 3, "age").await;
    refused(&table, "ALTER TABLE people ADD CONSTRAINT c CHECK (length(mail) > 9)", 3, "C007").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_are_refused_until_waived() {
    let table = Table::with_rows(50).await;
    let rename = "ALTER TABLE orders RENAME COLUMN note TO remark";
    refused(&table, rename, 3, "C004").await;
    let url = table.url();
    let waiver = "waive=C004 reason=\"nothing runs\"";
    run_beside(&["apply", "-t", &url, "-e", rename, "-D", waiver, "--yes"], &[]).await.exits(0);
    run_beside(&["apply", "-t", &url, "-e", rename, "-D", "waive=C004", "--yes"], &[])
        .await
        .exits(2)
        .says("reason");
}

#[test]
fn targets_that_cannot_be_meant_are_usage_errors_and_passwords_are_not_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = format!("sqlite:{}", folder.path().join("missing.db").display());
    run(&["apply", "-t", &missing, "-e", RETYPE, "--yes"]).exits(2).says("missing.db");
    assert!(!folder.path().join("missing.db").exists(), "a missing file is not created");
    run(&["history", "-t", "sqlite::memory:"]).exits(2);
    let secret = run(&["history", "-t", "oracle://scott:tiger@db/prod"]).exits(2).says("sqlite:");
    assert!(!secret.err.contains("tiger") && !secret.out.contains("tiger"), "{secret:?}");
    run(&["apply", "-e", RETYPE, "--yes"]).exits(2).says("DATABASE_URL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_a_change_needs_yes() {
    let table = Table::with_rows(50).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE], &[]).await.exits(2).says("--yes");
    let history = run(&["history", "-t", &url, "--json"]).exits(0);
    assert!(!history.out.contains("\"type\":\"run\""), "nothing was begun: {}", history.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_saves_its_checkpoint_and_goes_on() {
    let table = Table::with_rows(40_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed("interrupted"), 3).await;
    let mut command = slow_apply(&url);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let child = child.expect("the binary runs");
    wait_for_state(&url, "copying").await;
    signal(child.id(), "INT");
    let ended =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joins").expect("ends");
    crate::binary::Ended::of(ended).exits(130).says("resume");
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge("interrupted", &journal);
    table.check(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_runner_is_told_who_holds_the_table() {
    let table = Table::with_rows(40_000).await;
    let url = table.url();
    let mut command = slow_apply(&url);
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    wait_for_state(&url, "copying").await;
    let other = "ALTER TABLE orders ALTER COLUMN note TYPE BLOB";
    run_beside(&["apply", "-t", &url, "-e", other, "--yes"], &[]).await.exits(3).says("C032");
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("joins").expect("ends");
    assert!(ended.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_runner_that_wakes_up_after_another_took_over_changes_nothing() {
    let table = Table::with_rows(60_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed("stopped"), 2).await;
    let mut command = slow_apply(&url);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let child = child.expect("the binary runs");
    let stopped = child.id();
    wait_for_state(&url, "copying").await;
    stop_between_transactions(&table, stopped).await;
    // The process lives, so its lease has to expire first.
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    signal(stopped, "CONT");
    let ended =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joins").expect("ends");
    crate::binary::Ended::of(ended).exits(6);
    let journal = writers.stop().await;
    // A process that is stopped inside a transaction holds SQLite's only write lock, which no tool can help;
    // the test stops it outside, so no write fails.
    judge("stopped", &journal);
    table.check(&journal).await;
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ddl_by_somebody_else_stops_the_run_and_the_table_is_untouched() {
    let table = Table::with_rows(60_000).await;
    let url = table.url();
    let mut command = slow_apply(&url);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let child = child.expect("the binary runs");
    wait_for_state(&url, "copying").await;
    table.execute("ALTER TABLE orders ADD COLUMN surprise TEXT DEFAULT 'x'").await;
    let ended =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joins").expect("ends");
    crate::binary::Ended::of(ended).exits(1).says("orders");
    assert_eq!(table.text("SELECT count(surprise) FROM orders").await, "60000");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_somebody_removed_stops_the_run() {
    let table = Table::with_rows(60_000).await;
    let url = table.url();
    let mut command = slow_apply(&url);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let child = child.expect("the binary runs");
    wait_for_state(&url, "copying").await;
    let trigger = table
        .text("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'orders' ORDER BY name LIMIT 1")
        .await;
    let drop: &'static str = Box::leak(format!("DROP TRIGGER \"{trigger}\"").into_boxed_str());
    table.execute(drop).await;
    let ended =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joins").expect("ends");
    crate::binary::Ended::of(ended).exits(1).says("abort");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

/// An apply that copies for seconds, for whoever wants to meet it half-way.
pub fn slow_apply(url: &str) -> std::process::Command {
    let slowly = ["--throttle", "chunk_rows_max=200", "--throttle", "copy_percent=10"];
    replank(&[&["apply", "-t", url, "-e", RETYPE, "--yes"][..], &slowly].concat())
}

/// Until the run is in this state.
pub async fn wait_for_state(url: &str, state: &str) {
    for _ in 0..600 {
        let history = run_beside(&["history", "-t", url, "--json"], &[]).await;
        if history.out.contains(&format!("\"state\":\"{state}\"")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the run never was {state}");
}

/// Sends a signal to a process that this test started.
fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "signal {name} to {pid}");
}

/// Stops the process at a moment in which it holds no write lock.
pub async fn stop_between_transactions(table: &Table, pid: u32) {
    for _ in 0..200 {
        signal(pid, "STOP");
        let mut connection = table.connect().await;
        let free = sqlx::raw_sql("PRAGMA busy_timeout = 300; BEGIN IMMEDIATE; ROLLBACK")
            .execute(&mut connection)
            .await;
        if free.is_ok() {
            return;
        }
        signal(pid, "CONT");
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    panic!("the runner always held the write lock");
}
