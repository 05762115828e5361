//! What the writers were told.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a transaction ended, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// COMMIT was acknowledged.
    Acknowledged,
    /// It was rolled back, by the writer's own will.
    RolledBack,
    /// The server ended it to break a deadlock, and said so: every application tries again then.
    Deadlocked,
    /// An error came before COMMIT was sent.
    Failed(String),
    /// The answer to COMMIT was lost.
    Unknown(String),
}

/// The journal of one writer, or of all.
#[derive(Debug, Default)]
pub struct Journal {
    outcomes: BTreeMap<String, Outcome>,
    longest: Duration,
}

/// What a test prints and judges.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// Transactions acknowledged.
    pub acknowledged: usize,
    /// Ended by the server to break a deadlock.
    pub deadlocked: usize,
    /// Failed, with the first reason.
    pub failed: Option<String>,
    /// Longest time of one transaction.
    pub longest: Duration,
}

impl Journal {
    /// One transaction ended.
    pub fn record(&mut self, id: String, outcome: Outcome, took: Duration) {
        self.outcomes.insert(id, outcome);
        self.longest = self.longest.max(took);
    }

    /// Takes in another writer's journal.
    pub fn merge(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        self.longest = self.longest.max(other.longest);
    }

    /// Compares with the transactions that the server has.
    ///
    /// # Panics
    /// When an acknowledged transaction is missing, or one that was not sent, failed or was rolled back is
    /// there.
    #[track_caller]
    pub fn hold_against(&self, committed: &std::collections::BTreeSet<String>) {
        for (id, outcome) in &self.outcomes {
            match outcome {
                Outcome::Acknowledged => assert!(committed.contains(id), "{id} was acknowledged and is lost"),
                Outcome::RolledBack | Outcome::Deadlocked | Outcome::Failed(_) => {
                    assert!(!committed.contains(id), "{id} was not committed and is there: {outcome:?}");
                }
                Outcome::Unknown(_) => {}
            }
        }
        for id in committed {
            assert!(self.outcomes.contains_key(id), "{id} is there and was never sent");
        }
    }

    /// The figures.
    pub fn summary(&self) -> Summary {
        Summary {
            acknowledged: self.outcomes.values().filter(|outcome| **outcome == Outcome::Acknowledged).count(),
            deadlocked: self.outcomes.values().filter(|outcome| **outcome == Outcome::Deadlocked).count(),
            failed: self.outcomes.iter().find_map(|(id, outcome)| match outcome {
                Outcome::Failed(why) | Outcome::Unknown(why) => Some(format!("{id}: {why}")),
                Outcome::Acknowledged | Outcome::RolledBack | Outcome::Deadlocked => None,
            }),
            longest: self.longest,
        }
    }
}
