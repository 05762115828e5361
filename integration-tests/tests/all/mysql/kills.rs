//! kill -9 of the tool at every boundary, under load on a real server, each followed by going on and a full
//! comparison.

use replank_core::engine::boundary::Boundary;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::kills::{BACKWARD, BETWEEN, FORWARD, REMOVAL, go_on};
use crate::oracle::judge;
use crate::random::seed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_killed_at_every_boundary_on_the_way_forward_it_goes_on_and_loses_nothing() {
    for boundary in FORWARD.into_iter().chain([Boundary::IndexBuilt]) {
        let table = Table::with_rows(3_000).await;
        let before = table.definition().await;
        let url = table.url();
        let writers = Application::start(&table, seed(boundary.name()), 3).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        run_beside(&apply, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        run_beside(&go_on(&url, RETYPE, boundary), &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        table.check(&journal).await;
        table.check_against_blocking(&before, RETYPE).await;
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        table.assert_no_helpers().await;
        table.check(&journal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_killed_at_every_boundary_on_the_way_back_it_goes_on_and_loses_nothing() {
    for boundary in BACKWARD {
        let table = Table::with_rows(2_000).await;
        let before = table.definition().await;
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
        assert_eq!(table.definition().await, before, "killed at {}", boundary.name());
        table.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_killed_while_removing_what_it_made_it_removes_the_rest() {
    for boundary in REMOVAL {
        let table = Table::with_rows(1_000).await;
        let before = table.tables().await;
        let url = table.url();
        let writers = Application::start(&table, seed(boundary.name()), 2).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
        writers.write_on(BETWEEN).await;
        let abort = ["abort", "last", "-t", &url, "--yes"];
        run_beside(&abort, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        run_beside(&abort, &[]).await.exits(0);
        assert_eq!(table.tables().await, before, "nothing is left but the records");
        run_beside(&apply, &[]).await.exits(0);
        let finalize = ["finalize", "last", "-t", &url, "--yes"];
        run_beside(&finalize, &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        run_beside(&finalize, &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        table.check(&journal).await;
        table.assert_no_helpers().await;
    }
}
