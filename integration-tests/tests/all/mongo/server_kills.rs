//! kill -9 of the server while documents are copied and changes applied, under load: the run waits for it, and goes on by itself.
//!
//! Never within a swap: SecantusDB's own rename is not safe against that.

use mongodb::bson::Document;
use replank_core::engine::boundary::Boundary;

use super::change::{Change, adorn, assert_no_helpers, definition, settings};
use super::orders::{Orders, retyped};
use super::{Load, Settings};
use crate::binary::run_beside;
use crate::kills::BETWEEN;
use crate::random::seed;
use crate::server::mongo_own_server;

/// Up to the comparison.
const BEFORE_THE_SWAP: [Boundary; 6] = [
    Boundary::ChunkCommitted,
    Boundary::BatchWritten,
    Boundary::BatchCommitted,
    Boundary::CheckpointSaved,
    Boundary::IndexBuilt,
    Boundary::VerifyChunkDone,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_server_killed_in_copy_and_apply_loses_nothing_and_the_run_goes_on_by_itself() {
    let server = mongo_own_server(&[]).await;
    for boundary in BEFORE_THE_SWAP {
        let name = boundary.name();
        let orders = Orders::within(server.database().await, 300).await;
        adorn(&orders).await;
        let before = definition(&orders).await;
        let settings = Settings { writers: 3, ..settings(&orders).await };
        let load = Load::start(&orders, seed(name), settings).await;
        let stopped = Change::new().stopped_at(name, &orders, &[]).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        stopped.end().await.exits(0);
        load.write_on(BETWEEN).await;
        let journal = load.stop().await;
        println!("{name}: {:?}", journal.summary);
        assert!(journal.summary.acknowledged > 20, "the writers wrote next to nothing");
        journal.check_swapped(&orders, retyped).await;
        assert_eq!(definition(&orders).await, before, "{name}");
        let url = orders.url();
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        journal.check(&orders, Document::clone).await;
        assert_no_helpers(&orders).await;
    }
}
