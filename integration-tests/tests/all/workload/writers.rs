//! Writers that run until they are stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Journal, Outcome, Transaction, draw};
use crate::random::Random;

/// An application that is busy.
const REST_MS: u64 = 4;

/// An application's connection.
pub trait Client: Send + 'static {
    /// Carries a transaction out, and says what it was told.
    fn carry_out(&mut self, transaction: &Transaction) -> impl Future<Output = Outcome> + Send;
}

/// Writers at work.
pub struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<Journal>,
}

#[derive(Default)]
struct Shared {
    is_stopped: AtomicBool,
    acknowledged: AtomicU64,
    /// For the report of a test that fails.
    last_trouble: Mutex<Option<Outcome>>,
}

impl Writers {
    /// Starts one writer a client, on the shared keys `1..=rows`.
    pub fn start(clients: Vec<impl Client>, seed: u64, rows: u64) -> Self {
        Self::resting(clients, seed, rows, REST_MS)
    }

    /// The same, each resting for up to so many milliseconds after a transaction.
    pub fn resting(clients: Vec<impl Client>, seed: u64, rows: u64, rest_ms: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for (writer, client) in (0..).zip(clients) {
            tasks.spawn(write(client, Arc::clone(&shared), Random::new(seed, writer), writer, rows, rest_ms));
        }
        Self { shared, tasks }
    }

    /// Until so many more transactions are acknowledged. With no runner alive they come between what one
    /// saw and what the next one finds.
    pub async fn write_on(&self, transactions: u64) {
        let goal = self.shared.acknowledged.load(Ordering::SeqCst) + transactions;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.shared.acknowledged.load(Ordering::SeqCst) < goal {
            if Instant::now() > deadline {
                let trouble = self.shared.last_trouble.lock().expect("nobody panics under it").clone();
                panic!("the writers stand still: {trouble:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops them, after the transaction that each is at.
    pub async fn stop(mut self) -> Journal {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let mut journal = Journal::default();
        while let Some(ended) = self.tasks.join_next().await {
            journal.merge(ended.expect("a writer ended in a panic"));
        }
        journal
    }
}

async fn write(
    mut client: impl Client,
    shared: Arc<Shared>,
    mut random: Random,
    writer: u64,
    rows: u64,
    rest_ms: u64,
) -> Journal {
    let mut journal = Journal::default();
    let mut number = 0;
    while !shared.is_stopped.load(Ordering::SeqCst) {
        let transaction = draw(&mut random, writer, number, rows);
        let began = Instant::now();
        let outcome = client.carry_out(&transaction).await;
        match &outcome {
            Outcome::Acknowledged => {
                shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Outcome::RolledBack | Outcome::Deadlocked => {}
            trouble => *shared.last_trouble.lock().expect("nobody panics under it") = Some(trouble.clone()),
        }
        journal.record(transaction.id, outcome, began.elapsed());
        number += 1;
        tokio::time::sleep(Duration::from_millis(1 + random.below(rest_ms))).await;
    }
    journal
}
