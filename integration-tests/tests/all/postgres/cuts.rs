//! Connections that break just when something is committed.

use tokio::task::JoinSet;

use super::application::{Application, Orders, assert_same};
use super::oracle::RETYPE;
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::proxy::{Fault, Proxy, Trigger};
use crate::random::seed;

/// Side by side: they mostly wait.
const ROUNDS: usize = 9;

/// Whether a message has these words.
fn holds(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|window| window == text.as_bytes())
}

const COMMIT: Trigger = |message| message.get(5..) == Some(b"COMMIT\0");
const ANY: Trigger = |_| true;
const NAMES: Trigger = |message| holds(message, "RENAME TO") && holds(message, "ALTER INDEX");

/// What is committed, by a COMMIT after another message, or by the message itself.
const COMMITS: [(&str, Trigger, Trigger); 10] = [
    ("creation", ANY, |message| holds(message, "INSERT INTO \"_replank\".\"runs\"")),
    ("shadow", |message| holds(message, "CREATE TABLE \"public\".\"_rp_"), COMMIT),
    ("triggers", |message| holds(message, "CREATE TRIGGER"), COMMIT),
    ("position", ANY, |message| holds(message, "pg_logical_emit_message")),
    ("chunk", ANY, |message| holds(message, "OVERRIDING SYSTEM VALUE") && !holds(message, "rp_keys")),
    ("batch", ANY, |message| holds(message, "OVERRIDING SYSTEM VALUE") && holds(message, "rp_keys")),
    ("index", ANY, |message| holds(message, "CREATE UNIQUE INDEX") || holds(message, "CREATE INDEX")),
    ("record", ANY, |message| holds(message, "UPDATE \"_replank\".\"runs\"")),
    ("names", ANY, NAMES),
    ("swap", NAMES, COMMIT),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_connection_cut_at_a_commit_loses_nothing() {
    for (name, first, trigger) in COMMITS {
        for fault in [Fault::CutBefore, Fault::CutAfter] {
            let orders = Orders::with_rows(300).await;
            let (url, before) = (orders.url(), orders.definition().await);
            let writers = Application::start(&orders, seed(name), 2).await;
            let proxy = Proxy::after(&url, first, trigger, fault).await;
            let through = proxy.url(&url);
            run_beside(&["apply", "-t", &through, "-e", RETYPE, "--yes"], &[]).await.exits(0);
            assert!(proxy.has_struck(), "{name}: the message never passed");
            writers.write_on(20).await;
            let journal = writers.stop().await;
            judge(name, &journal);
            orders.check_there_and_back(&journal, &before, RETYPE).await;
        }
    }
}

/// CRASH-08: whether it took place is asked, forward and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_the_answer_to_the_swaps_commit_may_be_lost_every_time() {
    let test = "on_postgres_the_answer_to_the_swaps_commit_may_be_lost_every_time";
    let seed = seed(test);
    let mut rounds = JoinSet::new();
    for round in 0..ROUNDS {
        rounds.spawn(async move {
            let fault = [Fault::CutAfter, Fault::Reset, Fault::CutBefore][round % 3];
            let orders = Orders::with_rows(30).await;
            let (url, before) = (orders.url(), orders.definition().await);
            let writers = Application::at_leisure(&orders, seed, 2).await;
            for args in [&["apply", "-e", RETYPE][..], &["revert", "last"][..]] {
                let proxy = Proxy::after(&url, NAMES, COMMIT, fault).await;
                let through = proxy.url(&url);
                run_beside(&[args, &["-t", &through, "--yes"]].concat(), &[]).await.exits(0);
                assert!(proxy.has_struck(), "{args:?}: the message never passed");
                writers.write_on(10).await;
            }
            let journal = writers.stop().await;
            judge(test, &journal);
            orders.check(&journal).await;
            assert_same(&orders.definition().await, &before, "the definition, before and after");
            orders.assert_no_helpers().await;
        });
    }
    while let Some(round) = rounds.join_next().await {
        round.expect("nothing is lost");
    }
}
