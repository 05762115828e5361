//! kill -9 of the server at the most dangerous boundaries, under load, each followed by going on and a full
//! comparison.

use replank_core::engine::boundary::Boundary;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::kills::BETWEEN;
use crate::random::seed;
use crate::server::mysql_own_server;
use crate::stopped::Stopped;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_the_server_killed_at_dangerous_boundaries_loses_nothing() {
    let server = mysql_own_server(&[]).await;
    for boundary in Boundary::ALL.into_iter().filter(|boundary| boundary.is_dangerous()) {
        let table = Table::within(server.database().await, 3_000).await;
        let before = table.definition().await;
        let url = table.url();
        let writers = Application::start(&table, seed(boundary.name()), 3).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        let stopped = Stopped::at(boundary.name(), &apply).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        let ended = stopped.end().await;
        println!("{}: the runner ended with {:?}", boundary.name(), ended.code);
        writers.write_on(BETWEEN).await;
        ended.exits(0);
        let journal = writers.stop().await;
        println!("{}: {:?}", boundary.name(), journal.summary());
        assert!(journal.summary().acknowledged > 20, "the writers wrote next to nothing");
        table.check_there_and_back(&journal, &before, RETYPE).await;
    }
}
