//! Steps of the server itself: a set of words that were set.
//!
//! `deaf` is never set, whatever the answer says. `torn` fails and is left half done. `stubborn` goes on until it is asked to
//! end, and for a long time after.

use std::time::Duration;

use async_trait::async_trait;

use super::client::{Client, Kind};
use super::server::Server;
use crate::driver::{NativeDdl, Probe};
use crate::plan::Step;
use crate::{Error, ErrorKind, Result};

/// Longer than a lease lasts.
const STUBBORN: Duration = Duration::from_secs(100);

#[async_trait]
impl NativeDdl for Client {
    async fn run(&self, step: &Step, _lock_budget: Duration) -> Result<()> {
        let statement = step.statement.clone();
        let run = |server: Server| async move {
            server.pause().await;
            match statement.split(' ').next_back() {
                Some("deaf") => return Ok(()),
                Some("torn") => {
                    server.step(|state| state.steps_torn.insert(statement));
                    return Err(Error::new(ErrorKind::Server, "it was torn"));
                }
                Some("stubborn") => {
                    let is_ended = |state: &mut super::catalogue::State| {
                        state.steps_canceled.contains(&statement).then_some(())
                    };
                    server.until(None, is_ended).await;
                    tokio::time::sleep(STUBBORN).await;
                    return Err(Error::new(ErrorKind::LockTimeout, "it was ended"));
                }
                _ => {}
            }
            server.step(|state| match statement.strip_suffix(" back") {
                Some(word) => {
                    state.steps_done.remove(word);
                    state.steps_torn.remove(word);
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
        // Other statements are one moment of the server's: it took place, or will.
        let statement = step.statement.clone();
        let cancel = |server: Server| async move {
            server.step(|state| state.steps_canceled.insert(statement));
            Ok(())
        };
        self.call(Kind::Read, format!("cancel {}", step.statement), cancel).await
    }

    async fn probe(&self, step: &Step) -> Result<Probe> {
        let statement = step.statement.clone();
        let probe = |server: Server| async move {
            let word = statement.strip_suffix(" back");
            Ok(server.look(|state| {
                let forward = word.unwrap_or(&statement);
                let is_done = state.steps_done.contains(forward);
                match state.steps_torn.contains(forward) {
                    true => Probe::Broken,
                    false if is_done == word.is_none() => Probe::Done,
                    false => Probe::Absent,
                }
            }))
        };
        self.call(Kind::Read, format!("probe {}", step.statement), probe).await
    }
}
