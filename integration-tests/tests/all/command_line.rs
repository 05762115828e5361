//! The command line as scripts count on it: exit codes, JSON lines, commands from another process.

use std::time::Duration;

use serde_json::Value;

use crate::abuse::{slow_apply, stop_between_transactions, wait_for_state};
use crate::binary::{replank, run, run_beside};
use crate::oracle::{RETYPE, judge};
use crate::random::seed;
use crate::sqlite::{Application, Table};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_have_version_time_and_type_and_end_with_the_result() {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    let ended = run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes", "--json"], &[]).await.exits(0);
    let lines = lines(&ended.out);
    for line in &lines {
        assert_eq!(line["v"], 1, "{line}");
        assert!(line["ts"].is_string() && line["type"].is_string(), "{line}");
    }
    let last = lines.last().expect("a line");
    assert_eq!(
        (&last["type"], &last["state"], &last["exit"]),
        (&"result".into(), &"reversible".into(), &0.into())
    );
    let phases: Vec<&str> = lines
        .iter()
        .filter(|line| line["type"] == "phase")
        .filter_map(|line| line["state"].as_str())
        .collect();
    for phase in ["copying", "catching_up", "verifying", "waiting_cutover", "cutting_over", "reversible"] {
        assert!(phases.contains(&phase), "{phase} is not among {phases:?}");
    }
    assert!(lines.iter().any(|line| line["type"] == "plan"));

    let history = lines_of(&["history", "-t", &url, "--json"]);
    let runs: Vec<&Value> = history.iter().filter(|line| line["type"] == "run").collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["table"], "orders");
    assert_eq!(runs[0]["statement"], RETYPE);
    assert_eq!(runs[0]["run"].as_str().map(str::len), Some(16));
}

fn lines_of(args: &[&str]) -> Vec<Value> {
    lines(&run(args).exits(0).out)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_changes_nothing_and_refuses_what_apply_would_refuse() {
    let table = Table::with_rows(500).await;
    let (url, before) = (table.url(), table.schema().await);
    run_beside(&["plan", "-t", &url, "-e", RETYPE], &[]).await.exits(0).says("shadow");
    run_beside(&["plan", "-t", &url, "-e", RETYPE, "--format", "json"], &[])
        .await
        .exits(0)
        .says("\"strategy\"");
    let rename = "ALTER TABLE orders RENAME TO purchases";
    run_beside(&["plan", "-t", &url, "-e", rename], &[]).await.exits(3).says("C003");
    assert_eq!(table.schema().await, before);
    let records =
        table.text("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_replank%' ESCAPE '\\'").await;
    assert_eq!(records, "0", "not even the journal is created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manual_cut_over_waits_for_the_word() {
    let test = "a_manual_cut_over_waits_for_the_word";
    let table = Table::with_rows(5_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed(test), 2).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--cutover", "manual", "--yes"];
    run_beside(&apply, &[]).await.exits(5).says("replank cutover");
    let kind = "SELECT type FROM pragma_table_info('orders') WHERE name = 'customer_id'";
    assert_eq!(table.text(kind).await, "TEXT");
    tokio::time::sleep(Duration::from_millis(300)).await;
    run_beside(&["cutover", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(kind).await, "INTEGER");
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_pauses_throttles_and_resumes_a_run() {
    let test = "another_process_pauses_throttles_and_resumes_a_run";
    let table = Table::with_rows(60_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed(test), 2).await;
    let mut command = slow_apply(&url);
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    wait_for_state(&url, "copying").await;
    run_beside(&["pause", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says("paused");
    let faster = ["throttle", "last", "chunk_rows_max=2000", "copy_percent=100", "-t", &url, "--yes"];
    run_beside(&faster, &[]).await.exits(0);
    run_beside(&["throttle", "last", "speed=9", "-t", &url, "--yes"], &[])
        .await
        .exits(2)
        .says("chunk_rows_max");
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("joins").expect("ends");
    assert!(ended.success());
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_a_runner_that_ends_before_it_looks_is_withdrawn() {
    let table = Table::with_rows(60_000).await;
    let url = table.url();
    let mut command = slow_apply(&url);
    let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let mut runner = child.expect("runs");
    wait_for_state(&url, "copying").await;
    stop_between_transactions(&table, runner.id()).await;
    let pause = ["pause", "last", "-t", &url, "--yes"];
    let asking = run_beside(&pause, &[]);
    let ending = async {
        while table.text("SELECT count(*) FROM _replank_control").await == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        runner.kill().expect("it was stopped");
        runner.wait().expect("ends");
    };
    let (asked, ()) = tokio::join!(asking, ending);
    asked.exits(3).says("its runner ended before it saw this").says("copying");
    // Whoever goes on is not paused by it.
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0).says("can be taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applied_run_cannot_be_paused_into_a_revert() {
    let table = Table::with_rows(2_000).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    let mut keeper = replank(&["resume", "last", "-t", &url, "--yes"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    let held = "SELECT count(*) FROM _replank_leases WHERE holder IS NOT NULL";
    while table.text(held).await == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run_beside(&["pause", "last", "-t", &url, "--yes"], &[]).await;
    run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says("reversible");
    keeper.kill().expect("it still keeps the run warm");
    keeper.wait().expect("ends");
    // Whoever goes on keeps it warm again, and swaps nothing back.
    let mut keeper = replank(&["resume", "last", "-t", &url, "--yes"]).spawn().expect("runs");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kind = "SELECT type FROM pragma_table_info('orders') WHERE name = 'customer_id'";
    assert_eq!(table.text(kind).await, "INTEGER");
    keeper.kill().expect("it still keeps the run warm");
    keeper.wait().expect("ends");
    run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says("reversible");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_table_is_really_gone_without_a_way_back() {
    let table = Table::with_rows(60_000).await;
    let url = table.url();
    // A budget that the drop itself would not keep, so that the table is first renamed aside.
    let drop =
        ["apply", "-t", &url, "-e", "DROP TABLE orders", "--no-revert", "--lock-budget", "2ms", "--yes"];
    let waive = ["-D", "waive=C001 reason=\"its rows are archived\" until=2099-12-31"];
    run_beside(&[&drop[..], &waive[..]].concat(), &[]).await.exits(0).says("out of the way");
    run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says("finalized");
    let left =
        "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_rp\\_%' ESCAPE '\\' OR name = 'orders'";
    assert_eq!(table.text(left).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_found_by_prefix_and_unknown_ones_are_usage_errors() {
    let table = Table::with_rows(500).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE orders ADD COLUMN extra TEXT", "--yes"], &[])
        .await
        .exits(0);
    let history = lines_of(&["history", "-t", &url, "--json"]);
    let id = history[0]["run"].as_str().expect("an id").to_owned();
    run_beside(&["status", &id[..4], "-t", &url], &[]).await.exits(0).says("reversible");
    run_beside(&["status", "zzzz", "-t", &url], &[]).await.exits(2);
    run_beside(&["status", &id[..3], "-t", &url], &[]).await.exits(2);
    run_beside(&["revert", "0000000000000000", "-t", &url, "--yes"], &[]).await.exits(2);
}

#[test]
fn rules_are_listed_and_explained() {
    run(&["explain", "--list"]).exits(0).says("C010");
    run(&["explain", "C010"]).exits(0).says("unique-on-existing");
    run(&["explain", "C999"]).exits(2);
    run(&["drivers"]).exits(0).says("sqlite");
    run(&["completions", "bash"]).exits(0).says("replank");
    run(&["man"]).exits(0).says("replank");
    run(&["--version"]).exits(0).says("replank");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_what_must_be_mended_with_the_statement() {
    let table = Table::with_rows(50).await;
    let url = table.url();
    run_beside(&["doctor", "-t", &url], &[]).await.exits(0);
    table.execute("PRAGMA journal_mode = DELETE").await;
    run_beside(&["doctor", "-t", &url], &[]).await.exits(3).says("journal_mode");
}

#[test]
fn the_demo_ends_well() {
    let demo = run(&["demo", "--rows", "30000"]).exits(0);
    assert!(demo.out.lines().count() <= 24, "more than a screenful:\n{}", demo.out);
    assert!(demo.out.lines().all(|line| line.chars().count() <= 80), "wider than 80 columns:\n{}", demo.out);
}
