//! Applications that write while a change goes on, and their own exact journal of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::chance::Chance;
use super::memory::{OTHER, Op, Server, TABLE, Transaction};
use crate::{ErrorKind, Result};

/// What an application knows of a transaction of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It committed.
    Acknowledged,
    /// The answer got lost.
    Unknown,
    /// It was refused, and wrote nothing.
    Refused(ErrorKind),
}

/// What the applications write down, each transaction with its answer.
pub type Journal = Arc<Mutex<Vec<(u64, Answer)>>>;

/// Running applications.
pub struct Workload {
    writers: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    /// What they wrote down so far.
    pub journal: Journal,
}

/// What the applications are like.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// How many there are.
    pub writers: u64,
    /// Keys that they share.
    pub keys: u64,
    /// They take unique values.
    pub claims: bool,
    /// Some transactions stay open for seconds.
    pub long_transactions: bool,
}

impl Workload {
    /// Starts writing.
    #[must_use]
    pub fn start(server: &Server, habits: Habits, chance: &mut Chance) -> Self {
        let journal: Journal = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 1..=habits.writers {
            let mut writer = Writer {
                server: server.clone(),
                journal: Arc::clone(&journal),
                habits,
                chance: chance.split(),
                name: writer,
                written: 0,
            };
            let is_over = Arc::clone(&is_over);
            writers.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    tokio::time::sleep(writer.pause()).await;
                    writer.write().await;
                }
            });
        }
        Self { writers, is_over, journal }
    }

    /// Lets every transaction end, and starts no more.
    pub async fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer does not panic");
        }
    }
}

/// The rows that a simulation begins with.
pub fn first_rows(keys: u64, claims: bool) -> Vec<Op> {
    let puts = (0..keys).map(|number| Op::put(&format!("k{number}"), format!("first {number}")));
    let claimed =
        (0..keys.min(4)).map(|number| Op::claim(&format!("k{number}"), Some(&format!("u{number}"))));
    if claims { puts.chain(claimed).collect() } else { puts.collect() }
}

struct Writer {
    server: Server,
    journal: Journal,
    habits: Habits,
    chance: Chance,
    name: u64,
    written: u64,
}

impl Writer {
    /// The application is quiet at night, when a change gets done that did not come through by day.
    fn is_night(&self) -> bool {
        self.server.started().elapsed() > Duration::from_mins(5)
    }

    /// Busy while a runner is at work; waiting for leases to expire costs little.
    fn pause(&mut self) -> Duration {
        Duration::from_millis(if !self.server.is_busy() || self.is_night() {
            self.chance.between(500, 5_000)
        } else if self.chance.one_in(6) {
            self.chance.between(20, 150)
        } else {
            // A change that takes long is written to as often in the end.
            self.chance.between(0, if self.written < 200 { 12 } else { 60 })
        })
    }

    async fn write(&mut self) {
        self.written += 1;
        let number = self.name * 1_000_000 + self.written;
        let is_long = self.habits.long_transactions && !self.is_night();
        let chance = &mut self.chance;
        let think = if is_long && chance.one_in(50) {
            chance.between(500, 3_000)
        } else if chance.one_in(3) {
            chance.between(0, 15)
        } else {
            0
        };
        let gap = match chance.below(30) {
            0 => chance.between(50, 400),
            1..12 => chance.between(1, 25),
            _ => 0,
        };
        let transaction = Transaction {
            number,
            table: if chance.one_in(12) { OTHER } else { TABLE }.to_owned(),
            ops: self.ops(),
            think: Duration::from_millis(think),
            gap: Duration::from_millis(gap),
            loses_answer: self.chance.one_in(40),
        };
        let answer = answer(self.server.transact(transaction).await);
        self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, answer));
    }

    fn key(&mut self) -> String {
        let number = self.chance.below(self.habits.keys + 4);
        match self.chance.below(8) {
            // Keys of its own, among everybody's in the server's order.
            0 => format!("own{}k{number}", self.name),
            // The same key, spelled otherwise.
            1 => format!("K{number}"),
            _ => format!("k{number}"),
        }
    }

    fn ops(&mut self) -> Vec<Op> {
        let statements = self.chance.pick(&[1, 1, 1, 2, 3]);
        (0..statements).flat_map(|_| self.statement()).collect()
    }

    fn statement(&mut self) -> Vec<Op> {
        let key = self.key();
        let value = format!("{}.{}", self.name, self.written);
        match self.chance.below(10) {
            0..4 => vec![Op::put(&key, value)],
            4 | 5 => vec![Op::delete(&key)],
            6 | 7 => vec![Op::rekey(&key, &self.key())],
            // A value that moves from row to row: rows of different moments collide.
            8 if self.habits.claims => {
                let unique = format!("u{}", self.chance.below(4));
                let from = self.key();
                vec![Op::claim(&from, None), Op::claim(&key, Some(&unique))]
            }
            9 if self.habits.claims => {
                let unique = format!("u{}", self.chance.below(4));
                vec![Op::claim(&key, Some(&unique))]
            }
            // Gone and back: the feed tells of it once or twice, the row is there.
            _ => vec![Op::delete(&key), Op::put(&key, value)],
        }
    }
}

fn answer(result: Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Acknowledged,
        Err(error) if error.kind() == ErrorKind::ConnectionLost => Answer::Unknown,
        Err(error) => Answer::Refused(error.kind()),
    }
}
