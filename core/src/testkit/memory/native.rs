//! Steps of the server itself: a set of words that were set.
//!
//! `deaf` is never set, whatever the answer says. `torn` fails and is left half done. `stubborn` goes on until it is asked to
//! end, and for a long time after. `ranges` writes a thousand rows by ranges.

use std::time::Duration;

use async_trait::async_trait;

use super::client::{Client, Kind};
use super::server::Server;
use crate::driver::{ByRanges, NativeDdl, Probe, Written};
use crate::ident::RunId;
use crate::plan::Step;
use crate::value::{Bounds, Key};
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

    fn by_ranges(&self, step: &Step) -> Option<&dyn ByRanges> {
        step.statement.ends_with(" ranges").then_some(self as &dyn ByRanges)
    }
}

/// Rows that there are to write.
pub const RANGED: u32 = 1_000;

fn number(key: Option<&Key>) -> Option<u32> {
    key.map(|key| key.0.parse().expect("a key is a number here"))
}

#[async_trait]
impl ByRanges for Client {
    async fn next_bound(&self, _step: &Step, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
        let bound = u64::from(number(after).unwrap_or(0)) + rows;
        let read = move |server: Server| async move {
            server.pause().await;
            Ok((bound < u64::from(RANGED)).then(|| Key(bound.to_string())))
        };
        self.call(Kind::Read, "bound".to_owned(), read).await
    }

    async fn write(
        &self,
        _run: &RunId,
        _step: &Step,
        bounds: &Bounds,
        _quarantine_max: u64,
    ) -> Result<Written> {
        let range =
            (number(bounds.lower.as_ref()).unwrap_or(0), number(bounds.upper.as_ref()).unwrap_or(RANGED));
        let write = move |server: Server| async move {
            // A real range takes its time.
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.step(|state| state.ranges_written.push(range));
            let rows = u64::from(range.1 - range.0);
            Ok(Written { rows, changed: rows })
        };
        self.call(Kind::Write, format!("write {range:?}"), write).await
    }

    async fn finish(&self, _run: &RunId, _step: &Step) -> Result<Option<String>> {
        Ok(None)
    }
}
