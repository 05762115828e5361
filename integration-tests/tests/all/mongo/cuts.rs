//! Connections that break at any message of a whole run, wherever that is.

use mongodb::bson::Document;

use super::change::{Change, assert_no_helpers, settings};
use super::orders::{Orders, retyped};
use super::{Load, Settings};
use crate::binary::{run_beside, run_within};
use crate::proxy::{Fault, Proxy};
use crate::random::{Random, seed};

/// A run that takes longer has come to a stand.
const LIMIT_SECONDS: u64 = 60;
const FAULTS: [Fault; 3] = [Fault::CutBefore, Fault::CutAfter, Fault::Reset];

/// A change through the proxy beside a writer, and its way back by itself. Answers with how many commands there were.
async fn broken(number: u64, fault: Fault, seed: u64) -> u64 {
    let orders = Orders::with_documents(40).await;
    let proxy = Proxy::at_command(&orders.url(), number, fault).await;
    let settings = Settings { writers: 1, ..settings(&orders).await };
    let load = Load::start(&orders, seed, settings).await;
    let change = Change::new();
    let args = change.args(&proxy.url(&orders.url()), &orders, &[]).await;
    let ended = run_within(LIMIT_SECONDS, &args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let at: String = proxy.struck().chars().filter(|sign| !sign.is_control()).skip(8).take(60).collect();
    println!("{fault:?} at {number}, `{at}`: {:?}", ended.code);
    // The first looks are not repeated, and nothing was begun then.
    let is_told = ended.code == Some(1) && number < FIRST_LOOKS;
    if is_told {
        load.stop().await.check(&orders, Document::clone).await;
        return proxy.commands();
    }
    ended.exits(0);
    load.write_on(3).await;
    let journal = load.stop().await;
    journal.check_swapped(&orders, retyped).await;
    let url = orders.url();
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    journal.check(&orders, Document::clone).await;
    assert_no_helpers(&orders).await;
    proxy.commands()
}

/// Before the run is in the records a command that meets no server ends, and can be typed again.
const FIRST_LOOKS: u64 = 60;

/// A spread over the run: of each third one place, by three seeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_connection_cut_at_any_message_of_a_run_loses_nothing() {
    let seed = seed("on_mongo_a_connection_cut_at_any_message_of_a_run_loses_nothing");
    let count = broken(u64::MAX, Fault::Late, seed).await;
    println!("{count} commands");
    for round in 0..3 {
        let seed = seed.wrapping_add(round);
        println!("REPLANK_SEED={seed}");
        let mut random = Random::new(seed, 0);
        for third in 0..3 {
            let number = 1 + third * count / 3 + random.below(count / 3);
            let fault = FAULTS[usize::try_from((round + third) % 3).expect("small")];
            broken(number, fault, seed).await;
        }
    }
}
