//! kill -9 of the tool at every boundary, under load, each followed by going on and a full comparison.

use replank_core::engine::boundary::Boundary;

use crate::binary::run_beside;
use crate::oracle::{RETYPE, judge};
use crate::random::seed;
use crate::sqlite::{Application, Table};

/// Transactions that are acknowledged between a kill and the next runner: they are what it must find.
pub const BETWEEN: u64 = 30;

/// Boundaries on the way forward, where a rebuild passes them on SQLite.
pub const FORWARD: [Boundary; 15] = [
    Boundary::LeaseTaken,
    Boundary::RunSaved,
    Boundary::ShadowCreated,
    Boundary::FeedOpened,
    Boundary::ChunkCommitted,
    Boundary::BatchCommitted,
    Boundary::CheckpointSaved,
    Boundary::VerifyChunkDone,
    Boundary::SwapIntended,
    Boundary::LockHeld,
    Boundary::Drained,
    Boundary::ReverseCreated,
    Boundary::SwapSent,
    Boundary::SwapAcknowledged,
    Boundary::Released,
];

/// The same on the way back. The second swap installs no reverse feed.
pub const BACKWARD: [Boundary; 6] = [
    Boundary::SwapIntended,
    Boundary::LockHeld,
    Boundary::Drained,
    Boundary::SwapSent,
    Boundary::SwapAcknowledged,
    Boundary::Released,
];

/// Boundaries that a removal passes.
pub const REMOVAL: [Boundary; 2] = [Boundary::DropBegun, Boundary::DropDone];

/// Boundaries of the server's own statements.
const NATIVE: [Boundary; 1] = [Boundary::StepDone];

/// Boundaries that SQLite never passes, and where they are killed instead.
const ELSEWHERE: [(Boundary, &str); 4] = [
    (
        Boundary::BatchWritten,
        "SQLite's transaction goes with its process; on MongoDB it stays on the server, and is killed there",
    ),
    (Boundary::Fencing, "SQLite's lock goes with its process; MongoDB's fence stays, and is killed there"),
    (Boundary::IndexBuilt, "SQLite builds no index after the copy; the simulator crashes there"),
    (
        Boundary::Moving,
        "SQLite's swap is one transaction; MySQL's foreign keys and triggers are killed there",
    ),
];

#[test]
fn every_boundary_has_a_kill_test() {
    for boundary in Boundary::ALL {
        let is_killed = FORWARD.contains(&boundary)
            || REMOVAL.contains(&boundary)
            || NATIVE.contains(&boundary)
            || ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == boundary);
        assert!(is_killed, "{} has no kill test", boundary.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_boundary_on_the_way_forward_it_goes_on_and_loses_nothing() {
    for boundary in FORWARD {
        let table = Table::with_rows(8_000).await;
        let url = table.url();
        let writers = Application::start(&table, seed(boundary.name()), 3).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        run_beside(&apply, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        // The name resolves and takes writes at every moment: the writers never stopped.
        run_beside(&go_on(&url, RETYPE, boundary), &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        table.check(&journal).await;
        let kind =
            table.text("SELECT type FROM pragma_table_info('orders') WHERE name = 'customer_id'").await;
        assert_eq!(kind, "INTEGER", "killed at {}", boundary.name());
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        table.assert_no_helpers().await;
        table.check(&journal).await;
    }
}

/// A run that was killed before its record was saved is simply started; one whose swap took place is gone
/// on with by name, since the same statement would be a new change.
pub fn go_on<'a>(url: &'a str, statement: &'a str, killed: Boundary) -> Vec<&'a str> {
    match killed {
        Boundary::SwapAcknowledged | Boundary::Released => vec!["resume", "last", "-t", url, "--yes"],
        _ => vec!["apply", "-t", url, "-e", statement, "--yes"],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_boundary_on_the_way_back_it_goes_on_and_loses_nothing() {
    for boundary in BACKWARD {
        let table = Table::with_rows(5_000).await;
        let url = table.url();
        let writers = Application::start(&table, seed(boundary.name()), 3).await;
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_beside(&revert, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        table.check(&journal).await;
        let kind =
            table.text("SELECT type FROM pragma_table_info('orders') WHERE name = 'customer_id'").await;
        assert_eq!(kind, "TEXT", "killed at {}", boundary.name());
        table.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_removing_what_it_made_it_removes_the_rest() {
    for boundary in REMOVAL {
        for passage in 1..=3 {
            let at = format!("{}:{passage}", boundary.name());
            let table = Table::with_rows(3_000).await;
            let url = table.url();
            let writers = Application::start(&table, seed(&at), 2).await;
            run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
            let finalize = ["finalize", "last", "-t", &url, "--yes"];
            let first = run_beside(&finalize, &[("REPLANK_KILL_AT", &at)]).await;
            if passage == 1 {
                first.was_killed();
            }
            writers.write_on(BETWEEN).await;
            run_beside(&finalize, &[]).await.exits(0);
            let journal = writers.stop().await;
            judge(&at, &journal);
            table.check(&journal).await;
            table.assert_no_helpers().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_an_abort_it_removes_the_rest() {
    for boundary in REMOVAL {
        let table = Table::with_rows(8_000).await;
        let url = table.url();
        let before = table.schema().await;
        let writers = Application::start(&table, seed(boundary.name()), 2).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed:3")]).await.was_killed();
        let abort = ["abort", "last", "-t", &url, "--yes"];
        writers.write_on(BETWEEN).await;
        run_beside(&abort, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        run_beside(&abort, &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        table.check(&journal).await;
        assert_eq!(table.schema().await, before, "nothing is left but the records");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_step_of_the_servers_own_it_knows_that_the_step_is_done() {
    let table = Table::with_rows(500).await;
    let url = table.url();
    let add = ["apply", "-t", &url, "-e", "ALTER TABLE orders ADD COLUMN extra TEXT", "--yes"];
    run_beside(&add, &[("REPLANK_KILL_AT", "step_done")]).await.was_killed();
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let columns = "SELECT count(*) FROM pragma_table_info('orders') WHERE name = 'extra'";
    assert_eq!(table.text(columns).await, "1");
    let revert = ["revert", "last", "-t", &url, "--no-revert", "--yes"];
    run_beside(&revert, &[("REPLANK_KILL_AT", "step_done")]).await.was_killed();
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(table.text(columns).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_to_an_added_column_is_kept_when_it_is_taken_back_and_killed_in_between() {
    let table = Table::with_rows(500).await;
    let url = table.url();
    let before = table.schema().await;
    let add = "ALTER TABLE orders ADD COLUMN extra TEXT DEFAULT 'none', ADD COLUMN more INT";
    run_beside(&["apply", "-t", &url, "-e", add, "--yes"], &[]).await.exits(0).says("keeps what was written");
    let added = table.schema().await;
    table.execute("UPDATE orders SET extra = 'of ' || id, more = id WHERE id % 2 = 0").await;
    let values = "SELECT group_concat(concat(id, ' ', extra, ' ', more)) FROM orders";
    let written = table.text(values).await;
    let history = run_beside(&["history", "-t", &url, "--json"], &[]).await.exits(0);
    let first: serde_json::Value =
        serde_json::from_str(history.out.lines().next().expect("a run")).expect("JSON");
    let revert = ["revert", first["run"].as_str().expect("an id"), "-t", &url, "--yes"];
    for boundary in ["chunk_committed", "swap_acknowledged", "step_done"] {
        run_beside(&revert, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
    }
    run_beside(&revert, &[]).await.exits(0).says("is as before").says("keeps what was written since");
    let mut now = table.schema().await;
    now.retain(|line| !line.contains("_rp_"));
    assert_eq!(now, before);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, added);
    assert_eq!(table.text(values).await, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_another_run_back_is_made_final_after_that_one_is_over() {
    let table = Table::with_rows(200).await;
    let url = table.url();
    let before = table.schema().await;
    make_final_what_takes_back(&url, "ALTER TABLE orders ADD COLUMN extra TEXT DEFAULT 'none'").await;
    let mut now = table.schema().await;
    now.retain(|line| !line.contains("_rp_"));
    assert_eq!(now, before);
}

/// Killed when the one run has swapped, and the other one does not know yet that it is over: without the old table nobody could tell.
pub async fn make_final_what_takes_back(url: &str, add: &str) {
    run_beside(&["apply", "-t", url, "-e", add, "--yes"], &[]).await.exits(0);
    let revert = ["revert", "last", "-t", url, "--yes"];
    run_beside(&revert, &[("REPLANK_KILL_AT", "lease_taken:2")]).await.was_killed();
    assert_eq!(states(url).await, ["reversible", "reversible"], "killed where it should be");
    let finalize = ["finalize", "last", "-t", url, "--yes"];
    for boundary in ["lease_taken", "drop_begun"] {
        run_beside(&finalize, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
    }
    run_beside(&finalize, &[]).await.exits(0);
    assert_eq!(states(url).await, ["reverted", "finalized"]);
}

/// How the runs stand, the oldest first.
pub async fn states(url: &str) -> Vec<String> {
    let history = run_beside(&["history", "-t", url, "--json"], &[]).await.exits(0);
    let lines = history.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter(|line| line["type"] == "run")
        .filter_map(|line| Some(line["state"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_in_the_copy_it_still_ends() {
    let table = Table::with_rows(20_000).await;
    let url = table.url();
    let writers = Application::start(&table, seed("again and again"), 3).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    for boundary in
        ["chunk_committed:2", "batch_committed:2", "chunk_committed:3", "checkpoint_saved", "drained"]
    {
        run_beside(&apply, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
    }
    run_beside(&apply, &[]).await.exits(0);
    let journal = writers.stop().await;
    judge("again and again", &journal);
    table.check(&journal).await;
}
