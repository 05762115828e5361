//! Every message that the tool sends to the server goes wrong once: a small change and its way back, again and again,
//! each time with another message that is lost, answered to nobody, reset, stuck or late.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_within;
use crate::oracle::judge;
use crate::proxy::{Fault, Proxy};
use crate::random::{Random, seed};

const ROWS: u64 = 30;
/// A run that takes longer has come to a stand.
const LIMIT_SECONDS: u64 = 150;
/// They mostly wait.
const SIDE_BY_SIDE: usize = 8;
/// Each fault, and how many of its places a sample has on each leg: those that are waited for take longer.
const FAULTS: [(Fault, usize); 6] = [
    (Fault::CutBefore, 2),
    (Fault::CutAfter, 2),
    (Fault::Reset, 2),
    (Fault::Silence, 1),
    (Fault::HalfOpen, 1),
    (Fault::Late, 1),
];

/// What goes through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Forward,
    Back,
}

#[derive(Debug, Clone, Copy)]
struct Strike {
    leg: Leg,
    number: u64,
    fault: Fault,
}

/// A sample of the places. `make soak CASE=roundtrips` does all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_every_round_trip_may_fail_once() {
    let seed = seed("on_mysql_every_round_trip_may_fail_once");
    // `all`, or names as `Reset,Back:HalfOpen`: every place of these.
    let wanted = std::env::var("REPLANK_ROUND_TRIPS").ok();
    let (mut strikes, mut places) = (Vec::new(), 0);
    for leg in [Leg::Forward, Leg::Back] {
        let (count, _) = broken(Strike { leg, number: u64::MAX, fault: Fault::Late }, seed).await;
        println!("{leg:?}: {count} commands");
        places += count;
        for (fault, sample) in FAULTS {
            let mut random = Random::new(seed, strikes.len() as u64);
            let numbers: Vec<u64> = match wanted.as_deref() {
                None => (0..sample).map(|_| 1 + random.below(count)).collect(),
                Some(names) if is_named(names, leg, fault) => (1..=count).collect(),
                Some(_) => Vec::new(),
            };
            strikes.extend(numbers.into_iter().map(|number| Strike { leg, number, fault }));
        }
    }
    let chosen = strikes.len();
    let (struck, failed) = strike(strikes, seed).await;
    println!(
        "{places} places and {} faults: {chosen} chosen, {struck} struck, {} failed",
        FAULTS.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "replay with REPLANK_SEED={seed}: {failed:#?}");
    // A run has some messages more or less than the one that was counted.
    assert!(struck * 10 >= chosen * 8, "the proxy strikes next to nothing");
}

fn is_named(names: &str, leg: Leg, fault: Fault) -> bool {
    let (both, one) = (format!("{fault:?}"), format!("{leg:?}:{fault:?}"));
    names.split(',').any(|name| name == "all" || name == both || name == one)
}

/// Each strike on a table of its own. Answers with how many met a message, and those after which something did not hold.
async fn strike(strikes: Vec<Strike>, seed: u64) -> (usize, Vec<Strike>) {
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut tasks = JoinSet::new();
    for strike in strikes {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            (strike, tokio::spawn(broken(strike, seed)).await)
        });
    }
    let (mut struck, mut failed) = (0, Vec::new());
    while let Some(ended) = tasks.join_next().await {
        match ended.expect("it catches panics") {
            (_, Ok((_, has_struck))) => struck += usize::from(has_struck),
            (strike, Err(panic)) => {
                let text = panic.into_panic().downcast_ref::<String>().cloned().unwrap_or_default();
                println!("FAILED {strike:?}: {text}");
                failed.push(strike);
            }
        }
    }
    (struck, failed)
}

/// A change and its way back, of which one leg goes through the proxy, and all that must hold. Answers with the leg's
/// commands, and whether one was struck.
async fn broken(strike: Strike, seed: u64) -> (u64, bool) {
    let table = Table::with_rows(ROWS).await;
    let (url, before) = (table.url(), table.definition().await);
    let proxy = Proxy::at_command(&url, strike.number, strike.fault).await;
    let through = proxy.url(&url);
    let writers = Application::at_leisure(&table, seed, 2).await;
    let change = |url| ["apply", "-t", url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=10"];
    let revert = |url| ["revert", "last", "-t", url, "--yes"];
    let journal = match strike.leg {
        Leg::Forward => {
            told(strike, &proxy, &change(&through)).await;
            writers.write_on(10).await;
            let journal = writers.stop().await;
            table.check(&journal).await;
            table.check_against_blocking(&before, RETYPE).await;
            run_within(LIMIT_SECONDS, &revert(&url)).await.exits(0);
            journal
        }
        Leg::Back => {
            run_within(LIMIT_SECONDS, &change(&url)).await.exits(0);
            told(strike, &proxy, &revert(&through)).await;
            writers.write_on(10).await;
            writers.stop().await
        }
    };
    judge(&format!("{strike:?}"), &journal);
    table.check(&journal).await;
    assert_eq!(table.definition().await, before, "the definition is as it was");
    table.assert_no_helpers().await;
    let answer = (proxy.commands(), proxy.has_struck());
    drop(proxy);
    // Thousands of them would be in each other's way.
    for database in [format!("_replank_{}", table.name()), table.name().to_owned()] {
        table.execute_again(&format!("DROP DATABASE IF EXISTS `{database}`")).await;
    }
    answer
}

/// Runs a command that ends well by itself, and says what became of it.
async fn told(strike: Strike, proxy: &Proxy, args: &[&str]) {
    let began = Instant::now();
    let ended = run_within(LIMIT_SECONDS, args).await;
    let struck = proxy.struck();
    let struck = struck.split_whitespace().collect::<Vec<_>>().join(" ");
    let struck: String = struck.chars().take(200).collect();
    println!("{strike:?} at `{struck}`: {:?} after {:?}", ended.code, began.elapsed());
    ended.exits(0);
}
