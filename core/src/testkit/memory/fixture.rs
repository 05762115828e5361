//! The in-memory database as a fixture for the conformance cases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::config::Config;
use super::server::{Server, TABLE};
use super::transaction::{Op, perform};
use crate::driver::{Request, Session};
use crate::ident::TableId;
use crate::testkit::conformance::{Fixture, Hold, Write};

/// A server of its own.
pub struct MemoryFixture {
    server: Server,
}

impl MemoryFixture {
    /// A fixture on a fresh server.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { server: Server::start(config) }
    }
}

fn op(write: &Write) -> Op {
    match write {
        Write::Insert(key, value) | Write::Update(key, value) => Op::put(key, *value),
        Write::Delete(key) => Op::delete(key),
        Write::Rekey(old, new) => Op::rekey(old, new),
    }
}

#[async_trait]
impl Fixture for MemoryFixture {
    async fn session(&self) -> Arc<dyn Session> {
        Arc::new(self.server.connect())
    }

    fn table(&self) -> TableId {
        TableId::new(TABLE)
    }

    fn change(&self) -> Request {
        Request::Statement {
            text: format!("retype {TABLE}"),
            forward: Vec::new(),
            reverse: Vec::new(),
            capture: None,
        }
    }

    async fn write(&self, table: &TableId, writes: &[Write]) {
        let ops: Vec<Op> = writes.iter().map(op).collect();
        if table.name == TABLE {
            self.server.write(ops).await.expect("the application can write");
            return;
        }
        // A helper table is written behind the log's back: it has no applications.
        self.server.step(|state| {
            let identity = state.identity(&table.name).expect("the helper table is there");
            let table = state.table_mut(identity);
            perform(&ops, Arc::make_mut(&mut table.rows), table.shape, table.is_unique);
        });
    }

    async fn rows(&self, table: &TableId) -> Vec<(String, String)> {
        let mut rows: Vec<_> = self.server.look(|state| {
            let table = state.table(state.identity(&table.name).expect("the table is there"));
            table.rows.values().map(|row| (row.key.0.clone(), table.shape.read(&row.value))).collect()
        });
        rows.sort();
        rows
    }

    async fn hold(&self) -> Box<dyn Hold> {
        let (release, released) = oneshot::channel();
        let server = self.server.clone();
        let holding = tokio::spawn(async move {
            let (_, lock) = server.share(|state| state.identity(TABLE)).await.expect("the table is there");
            let number = server.look(|state| {
                let live = state.identity(TABLE).expect("the table is there");
                let number = state.chance.draw();
                state.open.insert(number, (live, tokio::time::Instant::now()));
                number
            });
            // An error is a holder that was dropped: it ends as well.
            drop(released.await);
            server.look(|state| state.open.remove(&number));
            drop(lock);
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        Box::new(MemoryHold { release, holding })
    }
}

struct MemoryHold {
    release: oneshot::Sender<()>,
    holding: tokio::task::JoinHandle<()>,
}

#[async_trait]
impl Hold for MemoryHold {
    async fn release(self: Box<Self>) {
        drop(self.release);
        self.holding.await.expect("the transaction ends");
    }
}

#[cfg(test)]
mod tests {
    use super::super::application::Transaction;
    use super::super::config::{Mutant, Unique};
    use super::*;
    use crate::testkit::conformance::cases;

    /// Runs every case; gives back the names of those that failed.
    fn failures(configure: impl Fn(u64) -> Config) -> Vec<&'static str> {
        let mut failed = Vec::new();
        for (seed, case) in (0..).zip(cases()) {
            let config = configure(seed);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .start_paused(true)
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    (case.run)(&MemoryFixture::new(config)).await;
                });
            }));
            if result.is_err() {
                failed.push(case.name);
            }
        }
        failed
    }

    #[test]
    fn the_driver_conforms() {
        assert_eq!(failures(|_| Config::default()), Vec::<&str>::new());
    }

    #[test]
    fn the_driver_conforms_slowly_and_in_one_transaction() {
        let kinds = [(Unique::Both, true), (Unique::Both, false), (Unique::New, true)];
        for (round, (unique, is_deferred)) in (0..).zip(kinds) {
            let configure = |seed| Config {
                seed: seed + 100 * round,
                unique,
                is_deferred,
                has_delays: true,
                swap_is_transaction: round % 2 == 0,
                swap_locks_state: true,
                ..Config::default()
            };
            assert_eq!(failures(configure), Vec::<&str>::new(), "{unique:?}, deferred: {is_deferred}");
        }
    }

    /// What the cases are for: each names what is wrong with a driver that breaks the contract.
    #[test]
    fn bad_drivers_fail_the_case_of_the_sentence_that_they_break() {
        for (mutant, case) in [
            (Mutant::CopyOverwrites, "copying::copy_never_overwrites"),
            (Mutant::ApplyKeepsDeleted, "writing::apply_removes_rows_that_are_gone"),
            (Mutant::FenceKeepsName, "fence::write_under_an_old_token_changes_nothing"),
            (Mutant::ReverseInstalledLate, "cut_over::reverse_feed_sees_the_first_write_after_the_release"),
            (Mutant::OwnerGuesses, "cut_over::swap_keeps_the_name_and_the_owner_is_the_shadow"),
        ] {
            let failed = failures(|seed| Config { seed, mutant: Some(mutant), ..Config::default() });
            assert!(failed.contains(&case), "{mutant:?} fails {case}, not only {failed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_is_in_the_log_before_it_can_be_read() {
        let server = Server::start(Config::default());
        let transaction = Transaction {
            number: 1,
            table: TABLE.to_owned(),
            ops: vec![Op::put("a", "1")],
            think: Duration::ZERO,
            gap: Duration::from_millis(10),
            loses_answer: false,
        };
        let writer = server.clone();
        let running = tokio::spawn(async move { writer.transact(transaction).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(server.look(|state| (state.log.len(), state.settled())), (1, 0));
        assert_eq!(server.rows(TABLE).expect("the table is there").len(), 0);
        running.await.expect("it ran").expect("it committed");
        assert_eq!(server.rows(TABLE).expect("the table is there").len(), 1);
    }
}
