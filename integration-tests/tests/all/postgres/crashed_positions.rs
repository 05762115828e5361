//! What a crash takes back: transactions whose clients did not wait for the disk, and whose numbers are given again.

use std::time::Duration;

use replank_core::testkit::conformance::Rig;

use super::conformance::Postgres;
use super::table::{connect, run};
use crate::server::postgres_own_server;

/// Positions are of such a transaction: one that a feed has handed out, and one that a feed would begin at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_position_from_before_a_crash_passes_nothing_by_that_comes_after_it() {
    // The server takes it to the disk by itself before long.
    let server = postgres_own_server(&["-c", "wal_writer_delay=10s", "-c", "autovacuum=off"]).await;
    for is_of_a_feed in [true, false] {
        let fixture = Postgres::new(server.url_of("").trim_end_matches('/'), "trigger").await;
        let rig = Rig::prepared(&fixture, &[]).await;
        let from = rig.head().await;
        let mut feed = rig.feed(&from).await;
        let mut writer = connect(&fixture.database.url).await;
        run(&mut writer, "SET synchronous_commit = off; INSERT INTO t VALUES ('a', '1')")
            .await
            .expect("written");
        let position = match is_of_a_feed {
            true => {
                let batch = feed.next(100, Duration::from_secs(1)).await.expect("the feed goes on");
                assert_eq!(batch.changes.len(), 1);
                batch.position.expect("all was handed out")
            }
            false => rig.head().await,
        };
        server.kill().await;
        server.start().await;
        // The next number is that of the transaction which is lost, if it is lost.
        let mut writer = connect(&fixture.database.url).await;
        run(&mut writer, "INSERT INTO t VALUES ('b', '2')").await.expect("written");
        // Sessions from before that nobody used for a while are asked first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut feed = rig.feed(&position).await;
        let (changes, _) = rig.drain(feed.as_mut()).await;
        assert_eq!(changes.len(), 1, "`b` was passed by: {changes:?}");
    }
}
