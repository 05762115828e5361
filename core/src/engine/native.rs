//! Plans that the server carries out itself, step by step, each probed before it is believed.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::boundary::Boundary;
use super::record::Record;
use crate::driver::{NativeDdl, Probe};
use crate::error::Retry;
use crate::event::Body;
use crate::plan::Step;
use crate::run::RunState;
use crate::{Error, ErrorKind, Result};

// With a pause that grows to 10 s, some minutes of asking politely for a lock. Chosen.
const TRIES: u32 = 40;
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Runs what is left of the plan's steps, forwards.
pub async fn forward(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    record.enter(RunState::CuttingOver, "running the server's own statements").await?;
    while let Some(step) = record.run.plan.steps.get(record.run.steps_done).cloned() {
        one(record, &step, stop).await?;
        record.run.steps_done += 1;
        record.save().await?;
    }
    if !record.run.options.revertible {
        return finalize(record, stop).await;
    }
    record.enter(RunState::Reversible, "done; it can be taken back until `finalize`").await
}

/// Takes the plan's steps back, last first.
pub async fn backward(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    while let Some(index) = record.run.steps_done.checked_sub(1) {
        let Some(step) = record.run.plan.steps.get(index).cloned() else { break };
        if step.inverse.is_empty() {
            return Err(Error::new(ErrorKind::Refused, format!("`{}` cannot be taken back", step.title)));
        }
        let inverse = Step {
            title: format!("take back: {}", step.title),
            statement: step.inverse.clone(),
            inverse: step.statement.clone(),
            finalize: String::new(),
            spec: step.spec.clone(),
        };
        one(record, &inverse, stop).await?;
        record.run.steps_done = index;
        record.save().await?;
    }
    record.run.ended = Some(jiff::Timestamp::now());
    record.enter(RunState::Reverted, "taken back").await
}

/// Runs what makes the steps final.
pub async fn finalize(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    let steps = record.run.plan.steps.clone();
    for step in steps.iter().filter(|step| !step.finalize.is_empty()) {
        let last = Step {
            title: format!("make final: {}", step.title),
            statement: step.finalize.clone(),
            inverse: String::new(),
            finalize: String::new(),
            spec: step.spec.clone(),
        };
        record.pass(Boundary::DropBegun);
        one(record, &last, stop).await?;
        record.pass(Boundary::DropDone);
    }
    record.run.ended = Some(jiff::Timestamp::now());
    record.enter(RunState::Finalized, "final").await
}

/// One step: done already, or run until the catalogue says that it is.
async fn one(record: &mut Record, step: &Step, stop: &watch::Receiver<bool>) -> Result<()> {
    let budget = Duration::from_millis(record.run.options.lock_budget_ms);
    let mut tries = 0;
    loop {
        if *stop.borrow() {
            return Err(Error::new(ErrorKind::Interrupted, format!("interrupted before `{}`", step.title))
                .hint(format!("go on with `replank resume {}`", record.run.id)));
        }
        match native(record)?.probe(step).await? {
            Probe::Done => {
                record.pass(Boundary::StepDone);
                record.note("step", json!({ "title": step.title, "statement": step.statement })).await?;
                return Ok(());
            }
            Probe::Running => {}
            Probe::Broken => {
                return Err(Error::new(
                    ErrorKind::Server,
                    format!("`{}` left something half done", step.title),
                )
                .hint(format!("`replank abort {}` removes it", record.run.id)));
            }
            Probe::Absent => match native(record)?.run(step, budget).await {
                // The next probe says whether it is there.
                Ok(()) => {}
                Err(error) if error.kind().retry() == Retry::Never => return Err(error),
                Err(error) if tries >= TRIES => {
                    return Err(Error::new(
                        ErrorKind::Gate,
                        format!("`{}` did not get its lock", step.title),
                    )
                    .with("tries", tries)
                    .with("last", error)
                    .hint(format!("end what holds the table, then `replank resume {}`", record.run.id)));
                }
                Err(error) => {
                    record.say(Body::Warning { message: format!("{}: {error}; trying again", step.title) });
                }
            },
        }
        record.renew().await?;
        tries += 1;
        tokio::time::sleep((Duration::from_millis(50) * tries).min(PAUSE_MAX)).await;
    }
}

fn native(record: &Record) -> Result<&dyn NativeDdl> {
    record
        .session
        .native()
        .ok_or_else(|| Error::new(ErrorKind::Refused, "this target has no statements of its own to run"))
}
