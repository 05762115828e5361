//! Plans that the server carries out itself, step by step, each probed before it is believed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::boundary::Boundary;
use super::record::Record;
use crate::control::{Answer, Control};
use crate::driver::{NativeDdl, Probe, Session};
use crate::error::Retry;
use crate::event::Body;
use crate::journal::lease;
use crate::plan::Step;
use crate::run::{Run, RunState};
use crate::{Error, ErrorKind, Result};

// With a pause that grows to 10 s, some minutes of asking politely for a lock. Chosen.
const TRIES: u32 = 40;
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Commands are read this often while a statement runs.
const TICK: Duration = Duration::from_millis(500);

/// Runs what is left of the plan's steps, forwards.
pub async fn forward(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    record.enter(RunState::CuttingOver, "running the server's own statements").await?;
    while let Some(step) = record.run.plan.steps.get(record.run.steps_done).cloned() {
        if one(record, &step, stop, true).await? == Outcome::GivenUp {
            return backward(record, stop, true).await;
        }
        record.run.steps_done += 1;
        record.save().await?;
    }
    if !record.run.options.revertible {
        return finalize(record, stop).await;
    }
    record.enter(RunState::Reversible, "done; it can be taken back until `finalize`").await
}

/// Takes the plan's steps back, last first.
///
/// # Errors
/// [`ErrorKind::Refused`] where that would drop what was written since, unless it `discards`.
pub async fn backward(record: &mut Record, stop: &watch::Receiver<bool>, discards: bool) -> Result<()> {
    settle_next(record).await?;
    if !discards {
        let steps = self::discards(&*record.session, &record.run).await?;
        let what: Vec<&str> =
            steps.iter().flat_map(|step| step.inverse_discards.iter().map(String::as_str)).collect();
        if !what.is_empty() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("it would drop what was written since: {}", what.join(", ")),
            )
            .hint(format!(
                "`replank revert {0}` keeps it; `replank revert {0} --no-revert` drops it",
                record.run.id
            )));
        }
    }
    while let Some(index) = record.run.steps_done.checked_sub(1) {
        let Some(step) = record.run.plan.steps.get(index).cloned() else { break };
        if step.inverse.is_empty() {
            return Err(Error::new(ErrorKind::Refused, format!("`{}` cannot be taken back", step.title)));
        }
        let inverse = inverse(&step);
        if !step.inverse_discards.is_empty() && native(record)?.probe(&inverse).await? != Probe::Done {
            let what = step.inverse_discards.join(", ");
            record.say(Body::Warning { message: format!("what was written since is dropped: {what}") });
        }
        one(record, &inverse, stop, false).await?;
        record.run.steps_done = index;
        record.save().await?;
    }
    record.run.ended = Some(jiff::Timestamp::now());
    record.enter(RunState::Reverted, "taken back").await
}

/// Steps whose inverses would drop what was written since, and that are not taken back yet.
pub async fn discards(session: &dyn Session, run: &Run) -> Result<Vec<Step>> {
    let mut discards = Vec::new();
    for step in run.plan.steps.iter().filter(|step| !step.inverse_discards.is_empty()) {
        let inverse = inverse(step);
        match of(session)?.probe(&inverse).await? {
            Probe::Done => {}
            Probe::Running => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("the server is still at `{}`", inverse.statement),
                )
                .hint("wait until it has ended, and try again"));
            }
            Probe::Absent | Probe::Broken => discards.push(step.clone()),
        }
    }
    Ok(discards)
}

fn inverse(step: &Step) -> Step {
    Step {
        title: format!("take back: {}", step.title),
        statement: step.inverse.clone(),
        inverse: step.statement.clone(),
        inverse_discards: Vec::new(),
        finalize: String::new(),
        spec: step.spec.clone(),
    }
}

/// The step after those that are known to be done may have been sent by a runner that heard no answer: it is ended
/// where it still runs, and counts as done where it was faster.
async fn settle_next(record: &mut Record) -> Result<()> {
    let Some(step) = record.run.plan.steps.get(record.run.steps_done).cloned() else { return Ok(()) };
    let probe = loop {
        native(record)?.cancel(&step).await?;
        match native(record)?.probe(&step).await? {
            Probe::Running => tokio::time::sleep(TICK).await,
            probe => break probe,
        }
    };
    if probe == Probe::Done {
        record.run.steps_done += 1;
        record.save().await?;
    }
    Ok(())
}

/// Runs what makes the steps final.
pub async fn finalize(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    let steps = record.run.plan.steps.clone();
    for step in steps.iter().filter(|step| !step.finalize.is_empty()) {
        let last = Step {
            title: format!("make final: {}", step.title),
            statement: step.finalize.clone(),
            inverse: String::new(),
            inverse_discards: Vec::new(),
            finalize: String::new(),
            spec: step.spec.clone(),
        };
        record.pass(Boundary::DropBegun);
        one(record, &last, stop, false).await?;
        record.pass(Boundary::DropDone);
    }
    record.run.ended = Some(jiff::Timestamp::now());
    record.enter(RunState::Finalized, "final").await
}

/// How a step came out, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// A person asked for it from another process.
    GivenUp,
}

/// One step: done already, or run until the catalogue says that it is.
async fn one(
    record: &mut Record,
    step: &Step,
    stop: &watch::Receiver<bool>,
    can_be_given_up: bool,
) -> Result<Outcome> {
    let budget = Duration::from_millis(record.run.options.lock_budget_ms);
    let mut tries = 0;
    loop {
        if *stop.borrow() {
            return Err(Error::new(ErrorKind::Interrupted, format!("interrupted before `{}`", step.title))
                .hint(format!("go on with `replank resume {}`", record.run.id)));
        }
        if obey(record, can_be_given_up).await? {
            return Ok(Outcome::GivenUp);
        }
        match native(record)?.probe(step).await? {
            Probe::Done => {
                record.pass(Boundary::StepDone);
                record.note("step", json!({ "title": step.title, "statement": step.statement })).await?;
                return Ok(Outcome::Done);
            }
            Probe::Running => {}
            Probe::Broken => {
                return Err(Error::new(
                    ErrorKind::Server,
                    format!("`{}` left something half done", step.title),
                )
                .hint(format!("`replank abort {}` removes it", record.run.id)));
            }
            Probe::Absent => match run(record, step, budget, stop, can_be_given_up).await {
                // The next probe says whether it is there.
                Ok(Outcome::Done) => {}
                Ok(Outcome::GivenUp) => return Ok(Outcome::GivenUp),
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

/// Runs the statement, however long it takes: the lease is kept, and commands are read meanwhile.
async fn run(
    record: &mut Record,
    step: &Step,
    budget: Duration,
    stop: &watch::Receiver<bool>,
    can_be_given_up: bool,
) -> Result<Outcome> {
    let session = Arc::clone(&record.session);
    let native = of(&*session)?;
    let running = native.run(step, budget);
    tokio::pin!(running);
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            biased;
            ended = &mut running => return ended.map(|()| Outcome::Done),
            () = tokio::time::sleep(TICK) => {}
        }
        let obeyed = obey(record, can_be_given_up).await;
        if !matches!(obeyed, Ok(false)) || *stop.borrow() {
            native.cancel(step).await?;
            // Whether it was faster is asked of the catalogue, here or by the next runner.
            if let Err(error) = running.await {
                tracing::debug!(%error, "the statement was ended");
            }
            return Ok(if obeyed? { Outcome::GivenUp } else { Outcome::Done });
        }
        if renewed.elapsed() > lease::TTL / 3 {
            record.renew().await?;
            renewed = Instant::now();
        }
    }
}

/// Answers commands from other processes; true when one gives the run up.
async fn obey(record: &Record, can_be_given_up: bool) -> Result<bool> {
    for command in record.store().pending(&record.run.id).await? {
        let (answer, is_given_up) = match command.control {
            Control::Abort if can_be_given_up => (Answer::obeyed("aborting"), true),
            Control::Abort => (Answer::refused("it is being taken back, or made final, already"), false),
            Control::Stop => {
                record.store().acknowledge(command.id, &Answer::obeyed("stopping").write()).await?;
                return Err(Error::new(ErrorKind::Gate, "stopped by command")
                    .hint(format!("go on with `replank resume {}`", record.run.id)));
            }
            Control::Pause | Control::Resume | Control::Throttle { .. } | Control::Cutover => {
                let why = "the server runs this statement by itself; `replank abort` ends it";
                (Answer::refused(why), false)
            }
        };
        record.store().acknowledge(command.id, &answer.write()).await?;
        if is_given_up {
            return Ok(true);
        }
    }
    Ok(false)
}

fn native(record: &Record) -> Result<&dyn NativeDdl> {
    of(&*record.session)
}

fn of(session: &dyn Session) -> Result<&dyn NativeDdl> {
    session
        .native()
        .ok_or_else(|| Error::new(ErrorKind::Refused, "this target has no statements of its own to run"))
}
