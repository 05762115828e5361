//! Every message that the tool sends to the server goes wrong once: a small change and its way back, again and again,
//! each time with another message that is lost, answered to nobody, reset, stuck or late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
const FAULTS: [Fault; 6] =
    [Fault::CutBefore, Fault::CutAfter, Fault::Reset, Fault::Silence, Fault::HalfOpen, Fault::Late];

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

/// A sample. `make soak CASE=roundtrips` does all: `REPLANK_ROUND_TRIPS=all`, or the names of faults.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_every_round_trip_may_fail_once() {
    let seed = seed("on_mysql_every_round_trip_may_fail_once");
    let mut places = BTreeMap::new();
    for leg in [Leg::Forward, Leg::Back] {
        let strike = Strike { leg, number: u64::MAX, fault: Fault::Late };
        let (commands, _) = broken(strike, seed).await;
        places.insert(leg as u8, commands);
        println!("{leg:?}: {commands} commands");
    }
    let wanted = std::env::var("REPLANK_ROUND_TRIPS").ok();
    let mut strikes = Vec::new();
    for (leg, fault) in [Leg::Forward, Leg::Back].into_iter().flat_map(|leg| FAULTS.map(|fault| (leg, fault)))
    {
        let count = places[&(leg as u8)];
        match wanted.as_deref() {
            Some(names) if names == "all" || names.contains(&format!("{fault:?}")) => {
                strikes.extend((1..=count).map(|number| Strike { leg, number, fault }));
            }
            Some(_) => {}
            None => {
                let mut random = Random::new(seed, strikes.len() as u64);
                strikes.push(Strike { leg, number: 1 + random.below(count), fault });
            }
        }
    }
    strike_all(strikes, seed, places.values().sum()).await;
}

async fn strike_all(strikes: Vec<Strike>, seed: u64, places: u64) {
    // They mostly wait.
    let side_by_side = std::env::var("REPLANK_SIDE_BY_SIDE").ok().and_then(|text| text.parse().ok());
    let turns = Arc::new(Semaphore::new(side_by_side.unwrap_or(4)));
    let (began, count) = (Instant::now(), strikes.len());
    let mut tasks = JoinSet::new();
    for strike in strikes {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            (strike, tokio::spawn(broken(strike, seed)).await)
        });
    }
    let (mut struck, mut failures) = (0, Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (strike, ended) = ended.expect("it catches panics");
        match ended {
            Ok((_, has_struck)) => struck += u64::from(has_struck),
            Err(panic) => {
                let panic = panic.into_panic();
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                println!("FAILED {strike:?}: {text}");
                failures.push(format!("{strike:?}"));
            }
        }
    }
    println!(
        "{places} places, {} faults: {count} chosen, {struck} struck in {:?}; failed: {}",
        FAULTS.len(),
        began.elapsed(),
        failures.len()
    );
    assert!(failures.is_empty(), "replay with REPLANK_SEED={seed}: {failures:#?}");
    assert!(struck * 10 >= count as u64 * 8, "the proxy strikes next to nothing");
}

/// A change and its way back, of which one leg goes through the proxy, and all that must hold. Answers with the leg's
/// commands, and whether one was struck.
async fn broken(strike: Strike, seed: u64) -> (u64, bool) {
    let table = Table::with_rows(ROWS).await;
    let url = table.url();
    let before = table.definition().await;
    let proxy = Proxy::at_command(&url, strike.number, strike.fault).await;
    let through = |leg| if leg == strike.leg { proxy.url(&url) } else { url.clone() };
    let (forward, back) = (through(Leg::Forward), through(Leg::Back));

    let writers = Application::start(&table, seed, 2).await;
    let began = Instant::now();
    let small = ["--throttle", "chunk_rows_max=10"];
    let apply = ["apply", "-t", &forward, "-e", RETYPE, "--yes"];
    let mut ended = run_within(LIMIT_SECONDS, &[&apply[..], &small].concat()).await;
    let mut journal = None;
    if strike.leg == Leg::Forward {
        told(strike, &proxy, began.elapsed(), &ended.err);
        ended = ended.exits(0);
        drop(ended);
        writers.write_on(10).await;
        let written = writers.stop().await;
        table.check(&written).await;
        table.check_against_blocking(&before, RETYPE).await;
        run_within(LIMIT_SECONDS, &["revert", "last", "-t", &url, "--yes"]).await.exits(0);
        journal = Some(written);
    } else {
        ended.exits(0);
        let began = Instant::now();
        let ended = run_within(LIMIT_SECONDS, &["revert", "last", "-t", &back, "--yes"]).await;
        told(strike, &proxy, began.elapsed(), &ended.err);
        ended.exits(0);
        writers.write_on(10).await;
        journal = journal.or(Some(writers.stop().await));
    }
    let journal = journal.expect("written");
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

fn told(strike: Strike, proxy: &Proxy, took: Duration, err: &str) {
    let said: Vec<&str> =
        err.lines().filter(|line| line.contains("lost") || line.contains("error")).collect();
    let struck: Vec<String> = proxy.struck().split_whitespace().map(ToOwned::to_owned).collect();
    let struck: String = struck.join(" ").chars().take(200).collect();
    println!("{strike:?} at `{struck}` took {took:?}: {}", said.join(" | "));
}
