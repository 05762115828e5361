//! The oracle: what must be so at the end, whatever happened on the way.

use std::collections::BTreeMap;

use super::memory::{Server, Shape, TABLE};
use super::workload::{Answer, Journal};
use crate::journal::chain;
use crate::run::{Run, RunState};

/// Judges a simulation at its end: nothing runs any more, and writers have stopped. Gives back every promise
/// that was broken.
#[must_use]
pub fn judge(server: &Server, journal: &Journal) -> Vec<String> {
    let mut broken = Vec::new();
    broken.extend(journal_against_log(server, journal));
    if let Some(record) = chain::first_break(&server.events()) {
        broken.push(format!("the chain of records breaks at {record}"));
    }
    let runs = server.runs();
    // A runner that stood still may do the whole change once more, when the first run is over.
    if let Some((run, earlier)) = runs.split_last() {
        broken.extend(server.judge(run));
        broken.extend(as_the_run_says(server, run, earlier));
    }
    if runs.is_empty() {
        broken.extend(unchanged(server));
    }
    broken
}

/// What was acknowledged is there, what was refused is not, and nothing is there twice.
fn journal_against_log(server: &Server, journal: &Journal) -> Vec<String> {
    let mut logged: BTreeMap<u64, usize> = BTreeMap::new();
    for transaction in server.logged() {
        *logged.entry(transaction.number).or_default() += 1;
    }
    let journal = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut broken = Vec::new();
    for (number, answer) in journal.iter() {
        let times = logged.get(number).copied().unwrap_or(0);
        match (answer, times) {
            (Answer::Acknowledged, 1) | (Answer::Unknown, 0 | 1) => {}
            (Answer::Refused(kind), 0) => {
                broken.push(format!("transaction {number} was refused: {kind:?}"));
            }
            (answer, times) => {
                broken.push(format!("transaction {number}: {answer:?}, {times} times in the log"));
            }
        }
    }
    broken
}

fn unchanged(server: &Server) -> Vec<String> {
    let mut broken = Vec::new();
    if server.shape(TABLE).ok() != Some(Shape::Old) {
        broken.push("without a run, the table has another shape".to_owned());
    }
    broken.extend(server.leftovers().into_iter().map(|left| format!("left behind: {left}")));
    broken
}

/// The catalogue agrees with the run's state.
fn as_the_run_says(server: &Server, run: &Run, earlier: &[Run]) -> Vec<String> {
    let unfinished = earlier.iter().filter(|run| !run.state.is_final());
    let mut broken: Vec<String> = unfinished.map(|run| format!("an older run is {}", run.state)).collect();
    let leftovers = server.leftovers();
    let was_changed = earlier.iter().any(|run| run.state == RunState::Finalized);
    let shape = match run.state {
        RunState::Reverted | RunState::Aborted if was_changed => Shape::New,
        RunState::Reversible | RunState::Finalized => Shape::New,
        RunState::Reverted | RunState::Aborted => Shape::Old,
        state => {
            return vec![format!("the run ended {state}: {}", run.note.as_deref().unwrap_or("no reason"))];
        }
    };
    if server.shape(TABLE).ok() != Some(shape) {
        broken.push(format!("the run is {}, and the live table is not {shape:?}", run.state));
    }
    if run.state.is_final() {
        broken.extend(leftovers.into_iter().map(|left| format!("{} left behind: {left}", run.state)));
    } else if leftovers.len() != 3 {
        // The retired table, the reverse capture, and the record of both.
        broken.push(format!("a reversible run keeps its way back and no more, not {leftovers:?}"));
    }
    broken
}
