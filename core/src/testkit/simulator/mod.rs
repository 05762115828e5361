//! The simulator: a whole change, with writers, crashes and all kinds of trouble, from one seed.
//!
//! Time is virtual: a lease that expires costs nothing. The same seed gives the same simulation, call by
//! call; its trace tells what happened.

mod course;
mod meddle;
mod person;
mod scenario;

use std::collections::BTreeMap;
use std::time::Duration;

use self::scenario::Scenario;
use super::chance::Chance;
use super::memory::Mutant;
use crate::run::RunState;

/// How a simulation ended.
#[derive(Debug)]
pub struct Outcome {
    /// What it was made from.
    pub seed: u64,
    /// How the run ended; `None` if there never was one.
    pub state: Option<RunState>,
    /// Promises that were broken. None is how it should be.
    pub violations: Vec<String>,
    /// Every call and what became of it.
    pub trace: Vec<String>,
    /// What happened, in figures.
    pub statistics: Statistics,
}

/// What happened, in figures.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    /// Runners that were started.
    pub runners: u32,
    /// Runners that were killed.
    pub crashes: u32,
    /// Runners that stood still for longer than a lease.
    pub freezes: u32,
    /// Committed transactions of applications.
    pub transactions: u64,
    /// Calls that runners made.
    pub calls: u64,
    /// The longest time that an application's statement waited for the table.
    pub longest_stall: Duration,
    /// Virtual time.
    pub lasted: Duration,
    /// How runners ended that were not killed.
    pub ends: BTreeMap<String, u32>,
}

/// Runs the simulation of a seed.
///
/// # Panics
/// If there is no runtime to be had.
#[must_use]
pub fn run_seed(seed: u64, mutant: Option<Mutant>) -> Outcome {
    run(Scenario::draw(seed, mutant), seed)
}

/// The same, and prints the trace as it is made.
///
/// # Panics
/// If there is no runtime to be had.
#[must_use]
pub fn replay_seed(seed: u64) -> Outcome {
    let (mut scenario, chance) = Scenario::draw(seed, None);
    scenario.config.is_loud = true;
    eprintln!("{scenario:#?}");
    run((scenario, chance), seed)
}

fn run((scenario, chance): (Scenario, Chance), seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be built");
    runtime.block_on(course::run(scenario, chance, seed))
}
