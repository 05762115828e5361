//! Every message that the tool sends to the server goes wrong once: a small change and its way back, again and again,
//! each time with another message that is lost, answered to nobody, reset, stuck or late.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::binary::run_within;
use crate::proxy::{Fault, Proxy};
use crate::random::{Random, seed};

/// A run that takes longer has come to a stand.
pub const LIMIT_SECONDS: u64 = 150;
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
pub enum Leg {
    Forward,
    Back,
}

/// One message that goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    pub leg: Leg,
    pub number: u64,
    pub fault: Fault,
}

/// A sample of the places. `make soak CASE=roundtrips` does all. `broken` makes a change and its way back, of which one leg
/// goes through a proxy, and looks at all that must hold; it answers with the leg's commands, and whether one was struck.
pub async fn every_round_trip<F>(test: &str, broken: fn(Strike, u64) -> F)
where
    F: Future<Output = (u64, bool)> + Send + 'static,
{
    let seed = seed(test);
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
    let (struck, failed) = strike(strikes, seed, broken).await;
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
async fn strike<F>(strikes: Vec<Strike>, seed: u64, broken: fn(Strike, u64) -> F) -> (usize, Vec<Strike>)
where
    F: Future<Output = (u64, bool)> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut tasks = JoinSet::new();
    for strike in strikes {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            let ended = tokio::spawn(broken(strike, seed)).await;
            // The one that was counted had more of them, as where the machine has much to do: again, among those there are.
            match ended {
                Ok((commands, false)) if commands > 0 => {
                    let strike = Strike { number: 1 + strike.number % commands, ..strike };
                    (strike, tokio::spawn(broken(strike, seed)).await)
                }
                ended => (strike, ended),
            }
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

/// Runs a command that ends well by itself, and says what became of it.
pub async fn told(strike: Strike, proxy: &Proxy, args: &[&str]) {
    let began = Instant::now();
    let ended = run_within(LIMIT_SECONDS, args).await;
    let struck = proxy.struck();
    let struck = struck.split_whitespace().collect::<Vec<_>>().join(" ");
    let struck: String = struck.chars().take(200).collect();
    println!("{strike:?} at `{struck}`: {:?} after {:?}", ended.code, began.elapsed());
    ended.exits(0);
}
