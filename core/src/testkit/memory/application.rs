//! Applications: transactions that are logged first and become visible later.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::catalogue::{Identity, State};
use super::error;
use super::log::Committed;
use super::row::{Place, Row, RowMap};
use super::server::Server;
use super::transaction::{Op, perform, row_locks};
use crate::driver::Holder;
use crate::{Error, ErrorKind, Result};

/// A transaction of an application.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its number, chosen by the application.
    pub number: u64,
    /// The table's name.
    pub table: String,
    /// Its statements.
    pub ops: Vec<Op>,
    /// How long it stays open before it commits.
    pub think: Duration,
    /// How long it is in the log before a new read sees it. What it locked stays locked for so long.
    pub gap: Duration,
    /// The commit's acknowledgement gets lost.
    pub loses_answer: bool,
}

/// What a polite tool lets others wait.
const DDL_WAIT_MAX: Duration = Duration::from_millis(100);

// What a patient application waits for a lock. Chosen; MySQL waits 50 s for a row.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(60);

impl Server {
    /// Runs a transaction. Dropping the call does not stop it.
    ///
    /// # Errors
    /// `LockTimeout` and `NotFound` when it was refused: nothing is written. `ConnectionLost` when the
    /// application cannot know.
    pub async fn transact(&self, transaction: Transaction) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let server = self.clone();
        let loses_answer = transaction.loses_answer;
        self.spawn(async move {
            let result = server.run(transaction).await;
            drop(answer.send(result));
        });
        let result = answered.await.unwrap_or_else(|_| Err(error::lost()));
        if loses_answer { Err(error::lost()) } else { result }
    }

    async fn run(&self, transaction: Transaction) -> Result<()> {
        let Transaction { number, table, ops, think, gap, .. } = transaction;
        let asked = Instant::now();
        let shared = tokio::time::timeout(LOCK_WAIT_MAX, self.share(|state| state.identity(&table))).await;
        let (identity, lock) = match shared {
            Ok(shared) => shared?,
            Err(_) => return Err(error::locked(&table)),
        };
        let opened = self.look(|state| {
            state.longest_stall = state.longest_stall.max(asked.elapsed());
            state.open.insert(number, (identity, Instant::now()))
        });
        debug_assert!(opened.is_none(), "transactions have different numbers");
        let locks = row_locks(&ops);
        let locked = self
            .until(Some(asked + LOCK_WAIT_MAX), |state| {
                let is_free = state.row_locks.is_disjoint(&locks);
                is_free.then(|| state.row_locks.extend(locks.iter().cloned()))
            })
            .await;
        if locked.is_none() {
            self.look(|state| state.open.remove(&number));
            return Err(Error::new(ErrorKind::LockTimeout, "a row stayed locked"));
        }
        tokio::time::sleep(think).await;
        let index = self.step(|state| state.log_transaction(number, &table, identity, &ops));
        if gap.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(gap).await;
        }
        self.step(|state| {
            state.show(index);
            for lock in &locks {
                state.row_locks.remove(lock);
            }
            state.open.remove(&number);
        });
        drop(lock);
        Ok(())
    }

    /// Runs a transaction at once: logged and visible.
    ///
    /// # Errors
    /// As [`Server::transact`].
    pub async fn write(&self, ops: Vec<Op>) -> Result<()> {
        let number = self.look(|state| state.chance.draw());
        let table = super::server::TABLE.to_owned();
        let (think, gap) = (Duration::ZERO, Duration::ZERO);
        self.transact(Transaction { number, table, ops, think, gap, loses_answer: false }).await
    }

    /// The rows of a table by name, in its own shape.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn rows(&self, table: &str) -> Result<Vec<Row>> {
        self.look(|state| {
            let identity = state.identity(table)?;
            Ok(state.table(identity).rows.values().map(|row| (**row).clone()).collect())
        })
    }

    /// Somebody else's DDL on a table, by a tool that lets nobody wait behind it for long.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn alter(&self, table: &str) -> Result<()> {
        let identity = self.look(|state| state.identity(table))?;
        let lock = loop {
            match self.exclude(identity, Instant::now() + DDL_WAIT_MAX).await {
                Some(lock) => break lock,
                None => tokio::time::sleep(DDL_WAIT_MAX).await,
            }
        };
        self.step(|state| {
            state.note("somebody alters the table");
            if let Some(table) = state.tables.get_mut(&identity) {
                table.definition += 1;
            }
        });
        drop(lock);
        Ok(())
    }
}

impl State {
    fn log_transaction(&mut self, number: u64, name: &str, identity: Identity, ops: &[Op]) -> usize {
        let table = self.table(identity);
        let mut rows: RowMap = (*table.rows).clone();
        let effect = perform(ops, &mut rows, table.shape, table.is_unique);
        let places = effect.touched.iter().map(|touched| Place::of(&touched.key));
        let images = places.map(|place| (place.clone(), rows.get(&place).cloned())).collect();
        self.note(&format!("transaction {number}: {:?}", effect.done));
        self.log.push(Committed {
            number,
            table: identity,
            name: name.to_owned(),
            done: effect.done,
            touched: effect.touched,
            images,
            at: Instant::now(),
            is_visible: false,
        });
        self.log.len() - 1
    }

    /// Transactions that have been open on a table for longer than `age`.
    pub(super) fn holders(&self, table: Identity, age: Duration) -> Vec<Holder> {
        let old = self.open.iter().filter(|(_, (held, since))| *held == table && since.elapsed() > age);
        old.map(|(number, (_, since))| Holder {
            id: number.to_string(),
            about: format!("open for {} ms", since.elapsed().as_millis()),
        })
        .collect()
    }
}
