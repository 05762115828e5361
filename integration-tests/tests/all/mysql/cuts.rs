//! Connections that break, or go silent, just when something is committed.

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::proxy::{Fault, Proxy, Trigger};
use crate::random::seed;

/// Whether a message has these words.
pub fn holds(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|window| window == text.as_bytes())
}

const SWAP: Trigger = |message| holds(message, "RENAME TABLE");
const CHUNK: Trigger = |message| holds(message, "INSERT INTO") && holds(message, "_shadow` (");
const BATCH: Trigger = |message| message.get(5..) == Some(b"COMMIT");
const RECORD: Trigger = |message| holds(message, "UPDATE `_replank") && holds(message, "runs");
const CREATION: Trigger = |message| holds(message, "INSERT INTO `_replank") && holds(message, "`runs`");
const INDEXES: Trigger = |message| holds(message, "ADD KEY");
/// What is saved under the lock: where the way back begins.
const SWAP_RECORD: Trigger = |message| {
    RECORD(message) && holds(message, "\"reverse_position\":") && !holds(message, "\"reverse_position\":null")
};
/// Whether the server is still the one that takes the writes: asked before the lease is taken.
const FIRST_LOOK: Trigger = |message| holds(message, "@@GLOBAL.read_only = 0");
/// COM_BINLOG_DUMP_GTID, or COM_BINLOG_DUMP for MariaDB, the first message of its exchange.
const LOG: Trigger = |message| matches!(message.get(3..5), Some([0, 0x1e | 0x12]));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_connection_cut_at_a_commit_loses_nothing() {
    for (name, trigger) in [
        ("swap", SWAP),
        ("chunk", CHUNK),
        ("batch", BATCH),
        ("creation", CREATION),
        ("record", RECORD),
        ("indexes", INDEXES),
    ] {
        for fault in [Fault::CutBefore, Fault::CutAfter] {
            broken_at(name, trigger, fault).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_log_that_goes_silent_is_noticed() {
    broken_at("log", LOG, Fault::Silence).await;
}

/// The attempt is given up meanwhile, and its record must not turn up in the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_record_that_is_late_for_its_lock_is_never_saved() {
    broken_at("late record", SWAP_RECORD, Fault::Late).await;
}

/// A look changes nothing, and is taken again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_revert_goes_on_by_itself_when_its_first_look_is_cut() {
    let table = Table::with_rows(100).await;
    let (url, before) = (table.url(), table.definition().await);
    for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Reset] {
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
        let proxy = Proxy::before(&url, FIRST_LOOK, fault).await;
        run_beside(&["revert", "last", "-t", &proxy.url(&url), "--yes"], &[]).await.exits(0);
        assert!(proxy.has_struck(), "{fault:?}: the message never passed");
        assert_eq!(table.definition().await, before, "{fault:?}");
    }
    table.assert_no_helpers().await;
}

/// A change whose connection breaks at a message, and everything that must hold all the same.
pub async fn broken_at(name: &str, trigger: Trigger, fault: Fault) {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    let before = table.definition().await;
    let writers = Application::start(&table, seed(name), 3).await;
    let proxy = Proxy::before(&url, trigger, fault).await;
    let through = proxy.url(&url);
    let began = std::time::Instant::now();
    let ended = run_beside(&["apply", "-t", &through, "-e", RETYPE, "--yes"], &[]).await;
    println!("{name} {fault:?}: {:?} after {:?}: {}", ended.code, began.elapsed(), ended.err.trim());
    assert!(proxy.has_struck(), "{name}: the message never passed");
    if ended.code != Some(0) {
        assert!(ended.err.contains("hint: "), "no hint:\n{}", ended.err);
        // The same again goes on, as the hint says.
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    }
    writers.write_on(30).await;
    let journal = writers.stop().await;
    judge(name, &journal);
    table.check_there_and_back(&journal, &before, RETYPE).await;
}
