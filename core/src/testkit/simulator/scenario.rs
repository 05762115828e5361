//! What a seed decides before anything happens.

use std::time::Duration;

use crate::driver::Pace;
use crate::run::{CutoverGate, RunOptions};
use crate::testkit::chance::Chance;
use crate::testkit::memory::{Config, Faults, Mutant, Unique};
use crate::testkit::workload::Habits;
use crate::throttle::Limits;

/// How the person goes on once the run is reversible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not at all.
    Stay,
    /// The run is kept warm for a while, and then stays.
    Warm,
    /// It is taken back.
    Revert,
    /// It is made final.
    Finalize,
}

/// What else goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Trouble {
    /// Somebody alters the table after this time.
    pub alter_after: Option<Duration>,
    /// The log is cut off after this time.
    pub purge_after: Option<Duration>,
    /// The server restarts after this time.
    pub restart_after: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub config: Config,
    pub habits: Habits,
    pub options: RunOptions,
    pub ending: Ending,
    pub trouble: Trouble,
    /// Rows collide under the new unique index, for good or for a while.
    pub collides: bool,
    /// How many runners are killed, at the most.
    pub crashes: u32,
    /// How many stand still for longer than a lease.
    pub freezes: u32,
    /// A runner that starts gives the run up instead, once in so many times.
    pub aborts_one_in: u64,
    /// A runner is paused, resumed and stopped by commands, once in so many times.
    pub commands_one_in: u64,
    /// A runner is interrupted, once in so many times.
    pub interrupts_one_in: u64,
}

impl Scenario {
    pub fn draw(seed: u64, mutant: Option<Mutant>) -> (Self, Chance) {
        let mut chance = Chance::new(seed);
        let collides = chance.one_in(12);
        let unique = match chance.below(5) {
            _ if collides => Unique::New,
            0 | 1 => Unique::Both,
            _ => Unique::None,
        };
        let is_deferred = chance.one_in(2);
        let displaces = unique != Unique::None && !is_deferred;
        let config = Config {
            seed: chance.draw(),
            unique,
            is_deferred,
            pace: Pace {
                chunk_target: Duration::from_millis(500),
                copy_workers: usize::try_from(chance.between(1, 3)).expect("small"),
                lanes: u16::try_from(chance.between(1, 4)).expect("small"),
                batch_keys: usize::try_from(chance.between(1, 6)).expect("small"),
                apply_during_build: chance.one_in(2),
                apply_during_copy: displaces || chance.one_in(2),
                write_percent: chance.pick(&[100, 100, 60]),
            },
            swap_is_transaction: chance.one_in(2),
            swap_locks_state: chance.one_in(2),
            has_delays: !chance.one_in(8),
            faults: Faults { one_in: chance.pick(&[0, 150, 60, 25]), budget: 12 },
            mutant,
            is_loud: false,
        };
        let habits = Habits {
            writers: chance.between(1, 3),
            keys: chance.between(5, 36),
            claims: unique != Unique::None,
            long_transactions: chance.one_in(6),
        };
        let options = RunOptions {
            cutover: if chance.one_in(6) { CutoverGate::Manual } else { CutoverGate::Auto },
            revertible: !chance.one_in(10),
            lock_budget_ms: 200,
            fence_budget_ms: 500,
            limits: Limits { copy_workers: 3, chunk_rows_max: chance.between(2, 12), ..Limits::default() },
        };
        let mut once_in = |n| {
            let after = Duration::from_millis(chance.between(0, 20_000));
            chance.one_in(n).then_some(after)
        };
        let trouble =
            Trouble { alter_after: once_in(25), purge_after: once_in(25), restart_after: once_in(6) };
        let scenario = Self {
            config,
            habits,
            options,
            ending: chance.pick(&[
                Ending::Stay,
                Ending::Warm,
                Ending::Revert,
                Ending::Revert,
                Ending::Finalize,
            ]),
            trouble,
            collides,
            crashes: u32::try_from(chance.below(5)).expect("small"),
            freezes: u32::from(chance.one_in(4)),
            aborts_one_in: chance.pick(&[0, 0, 0, 8]),
            commands_one_in: chance.pick(&[0, 0, 0, 2]),
            interrupts_one_in: chance.pick(&[0, 0, 6]),
        };
        (scenario, chance)
    }
}
