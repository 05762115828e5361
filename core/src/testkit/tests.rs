//! The simulations that run with the tests.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::Mutant;
use super::simulator::{Outcome, replay_seed, run_seed};

/// Enough that every rule's mutant is found many times over. Chosen.
const SEEDS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

fn report(outcome: &Outcome) -> String {
    format!(
        "seed {} broke {:?}\nreplay: REPLANK_SIM_SEED={} cargo test -p replank-core --lib testkit::tests::simulation -- --nocapture",
        outcome.seed, outcome.violations, outcome.seed
    )
}

#[test]
fn simulation_keeps_every_promise() {
    if let Some(seed) = number("REPLANK_SIM_SEED") {
        let outcome = replay_seed(seed);
        println!("{:#?}", outcome.statistics);
        assert!(outcome.violations.is_empty(), "{}", report(&outcome));
        return;
    }
    let seeds = number("REPLANK_SIM_SEEDS").unwrap_or(SEEDS);
    let mut broken = Vec::new();
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    let (mut crashes, mut freezes, mut calls, mut transactions) = (0, 0, 0, 0);
    let mut stall = Duration::ZERO;
    let from = number("REPLANK_SIM_FROM").unwrap_or(0);
    for seed in from..from + seeds {
        let outcome = run_seed(seed, None);
        *states.entry(format!("{:?}", outcome.state)).or_default() += 1;
        for (end, times) in &outcome.statistics.ends {
            *ends.entry(end.clone()).or_default() += times;
        }
        crashes += outcome.statistics.crashes;
        freezes += outcome.statistics.freezes;
        calls += outcome.statistics.calls;
        transactions += outcome.statistics.transactions;
        stall = stall.max(outcome.statistics.longest_stall);
        if !outcome.violations.is_empty() {
            println!("{}", report(&outcome));
            broken.push(outcome.seed);
        }
    }
    println!(
        "{seeds} seeds: {states:?}; {crashes} crashes, {freezes} freezes, {calls} calls, {transactions} \
         transactions, longest stall {stall:?}, runners ended {ends:?}"
    );
    assert!(broken.is_empty(), "{} of {seeds} seeds broke a promise: {broken:?}", broken.len());
}

#[test]
fn the_same_seed_is_the_same_simulation() {
    for seed in 0..40 {
        let (one, two) = (run_seed(seed, None), run_seed(seed, None));
        let parted = one.trace.iter().zip(&two.trace).position(|(one, two)| one != two);
        assert_eq!(parted.map(|line| (&one.trace[line], &two.trace[line])), None, "seed {seed} parts");
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed}");
        assert!(one.trace.len() > 100, "seed {seed} does something");
    }
}

/// A simulator that does not find a driver that breaks a rule would not find an engine that does.
#[test]
fn simulation_finds_drivers_that_break_a_rule() {
    for (mutant, within) in [
        (Mutant::FeedUnsettled, 50),
        (Mutant::HeadUnsettled, 300),
        (Mutant::ApplyKeepsDeleted, 20),
        (Mutant::ApplyAnswersEarly, 300),
        (Mutant::FenceKeepsName, 100),
        (Mutant::ForgetsDisplaced, 100),
        (Mutant::ReverseInstalledLate, 100),
        (Mutant::OwnerGuesses, 300),
    ] {
        let outcomes = (0..within).map(|seed| run_seed(seed, Some(mutant)));
        let found = outcomes.map(|outcome| outcome.violations).find(|violations| !violations.is_empty());
        println!("{mutant:?}: {:?}", found.as_ref().and_then(|violations| violations.first()));
        assert!(found.is_some(), "{mutant:?} is not found within {within} seeds");
    }
}
