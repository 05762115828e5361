//! Steps of the server itself: a set of words that were set.

use std::time::Duration;

use async_trait::async_trait;

use super::client::{Client, Kind};
use super::server::Server;
use crate::Result;
use crate::driver::{NativeDdl, Probe};
use crate::plan::Step;

#[async_trait]
impl NativeDdl for Client {
    async fn run(&self, step: &Step, _lock_budget: Duration) -> Result<()> {
        let statement = step.statement.clone();
        let run = |server: Server| async move {
            server.pause().await;
            server.step(|state| match statement.strip_suffix(" back") {
                Some(word) => {
                    state.steps_done.remove(word);
                }
                None => {
                    state.steps_done.insert(statement);
                }
            });
            Ok(())
        };
        self.call(Kind::Write, format!("run {}", step.statement), run).await
    }

    async fn cancel(&self, step: &Step) -> Result<()> {
        // A statement that was sent is one moment of the server's: it took place, or will.
        self.call(Kind::Read, format!("cancel {}", step.statement), |_| async { Ok(()) }).await
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let statement = step.statement.clone();
        let probe = |server: Server| async move {
            let is_done = server.look(|state| state.steps_done.contains(&statement));
            Ok(if is_done { Probe::Done } else { Probe::Absent })
        };
        self.call(Kind::Read, format!("probe {}", step.statement), probe).await
    }
}
