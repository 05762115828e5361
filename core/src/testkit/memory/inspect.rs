//! What only the server itself can know, for whoever judges a simulation.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::catalogue::{Build, State};
use super::config::Unique;
use super::log;
use super::row::{Place, Row, Shape, convert};
use super::server::{Server, TABLE};
use super::transaction::Op;
use crate::Result;
use crate::driver::EventRecord;
use crate::run::{Direction, Run};

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The number that the application gave it.
    pub number: u64,
    /// The table that it named.
    pub table: String,
    /// What it did, without what was skipped.
    pub done: Vec<Op>,
}

impl Server {
    /// Ranges that a step of the server's own has written, in their order: above the first number, up to the second.
    #[must_use]
    pub fn ranges_written(&self) -> Vec<(u32, u32)> {
        self.look(|state| state.ranges_written.clone())
    }

    /// Judges every save of a run from now on: what it claims must be so.
    pub fn watch(&self) {
        self.look(|state| state.is_watched = true);
    }

    /// The person says that the change is final. From now on nothing is expected of the way back.
    pub fn want_final(&self) {
        self.look(|state| state.is_final_wanted = true);
    }

    /// Promises that were found broken.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.look(|state| state.violations.clone())
    }

    /// Notes a broken promise.
    pub fn blame(&self, what: impl Into<String>) {
        self.look(|state| state.blame(what));
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: &str) {
        self.look(|state| state.note(line));
    }

    /// Every committed transaction, in log order.
    #[must_use]
    pub fn logged(&self) -> Vec<Logged> {
        self.look(|state| {
            let logged = |entry: &log::Committed| Logged {
                number: entry.number,
                table: entry.name.clone(),
                done: entry.done.clone(),
            };
            state.log.iter().map(logged).collect()
        })
    }

    /// The rows of a table, with plain values.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn plain_rows(&self, table: &str) -> Result<Vec<Row>> {
        self.look(|state| {
            let table = state.table(state.identity(table)?);
            Ok(table.rows.values().map(|row| convert(row, table.shape, Shape::Old)).collect())
        })
    }

    /// The shape of a table.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn shape(&self, table: &str) -> Result<Shape> {
        self.look(|state| Ok(state.table(state.identity(table)?).shape))
    }

    /// Everything that runs left behind: helper tables, captures, records of objects.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        self.look(|state| state.leftovers())
    }

    /// Every run, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        self.look(|state| state.records.runs())
    }

    /// Every record, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<EventRecord> {
        self.look(|state| state.records.events(None))
    }

    /// The longest time that an application's statement waited for the table's lock.
    #[must_use]
    pub fn longest_stall(&self) -> Duration {
        self.look(|state| state.longest_stall)
    }

    /// The log is cut off here: no feed can be opened before, and none goes on that is not at its end.
    pub fn purge_log(&self) {
        self.step(|state| {
            state.note("the log is purged");
            let end = state.log.len();
            state.captures.iter_mut().for_each(|capture| capture.forgotten = end);
        });
    }

    /// Some runner is at work, and not only waiting for a lease.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.look(|state| state.last_call.elapsed() < Duration::from_secs(1))
    }

    /// When the server was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.look(|state| state.started)
    }

    /// What is wrong with the live table and with what the run claims, if anything is.
    #[must_use]
    pub fn judge(&self, run: &Run) -> Option<String> {
        self.look(|state| state.lost_write().or_else(|| state.overclaim(run)))
    }
}

impl State {
    pub(super) fn judge_save(&mut self, run: &Run) {
        if !self.is_watched {
            return;
        }
        let found =
            self.lost_write().or_else(|| self.overclaim(run)).or_else(|| self.unexplained_repair(run));
        if let Some(found) = found {
            self.blame(found);
        }
    }

    /// Promise 1: the live table is what the committed transactions left, at every moment.
    fn lost_write(&self) -> Option<String> {
        let Ok(live) = self.identity(TABLE) else { return Some("the live name does not resolve".to_owned()) };
        let table = self.table(live);
        let mut places: BTreeSet<&Place> = table.rows.keys().collect();
        places.extend(self.truth.keys());
        places.into_iter().find_map(|place| {
            let there = table.rows.get(place).map(|row| convert(row, table.shape, Shape::Old));
            let truth = self.truth.get(place).map(|row| &**row);
            (there.as_ref() != truth)
                .then(|| format!("the live table has {there:?}, committed was {truth:?}"))
        })
    }

    /// R4: with everything behind the saved position applied, each row that counts as copied is right.
    fn overclaim(&self, run: &Run) -> Option<String> {
        let position = run.checkpoint.position.as_ref()?;
        let build: &Build = self.build(&run.id)?;
        let (source, written) = (build.source(run.direction), build.written(run.direction));
        let is_over = self.is_final_wanted || self.identity(TABLE).ok() != Some(source);
        if is_over || !self.tables.contains_key(&written) {
            return None;
        }
        let Ok(from) = log::index(position) else { return Some("the position is none of ours".to_owned()) };
        let capture = |direction| {
            self.captures.iter().find(|capture| capture.run == run.id && capture.direction == direction)
        };
        let Some(capture) = capture(run.direction) else {
            return Some(format!("position {position} is saved and nothing captures changes"));
        };
        // What a driver does that begins late is to be seen in the rows.
        if from < capture.start && self.config.mutant.is_none() {
            return Some(format!("position {position} is older than the capture"));
        }
        let later = self.log.iter().skip(from).filter(|entry| entry.table == source);
        let touched: BTreeSet<Place> =
            later.flat_map(|entry| entry.touched.iter().map(|touched| Place::of(&touched.key))).collect();
        let watermark = run.checkpoint.copied.watermark.as_ref().map(Place::of);
        let is_claimed = |place: &Place| {
            run.direction == Direction::Reverse
                || run.checkpoint.copied.done
                || watermark.as_ref().is_some_and(|watermark| place <= watermark)
        };
        let (source, written) = (self.table(source), self.table(written));
        let collides = |row: &Row| {
            self.config.unique == Unique::New
                && row.unique.is_some()
                && source.rows.values().filter(|other| other.unique == row.unique).count() > 1
        };
        let places: BTreeSet<&Place> = source.rows.keys().chain(written.rows.keys()).collect();
        places.into_iter().filter(|place| is_claimed(place) && !touched.contains(place)).find_map(|place| {
            let expected = source.rows.get(place).map(|row| convert(row, source.shape, written.shape));
            let there = written.rows.get(place).map(|row| &**row);
            let is_excused = source.rows.get(place).is_some_and(|row| collides(row));
            (expected.as_ref() != there && !is_excused).then(|| {
                format!(
                    "the checkpoint of a run {} claims {expected:?} at {position}, written is {there:?}",
                    run.state
                )
            })
        })
    }

    fn unexplained_repair(&self, run: &Run) -> Option<String> {
        let is_explained = run.checkpoint.repaired == 0 || self.config.unique == Unique::New;
        (!is_explained).then(|| format!("verify repaired {} rows", run.checkpoint.repaired))
    }
}
