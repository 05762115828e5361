//! Plans that the server carries out itself, step by step, each probed before it is believed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::boundary::Boundary;
use super::ranges;
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
/// What ran so often and is not there will not come, and each time may be an hour of the server's. Chosen.
const VAIN_MAX: u32 = 3;
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
        record.run.ranges = None;
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
    settle_next(record, stop).await?;
    let mut stays = ranges::stays(&record.run);
    if !discards {
        let steps = by_rebuild(&*record.session, &record.run).await?;
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
        if step.inverse.is_empty() && native(record)?.by_ranges(&step).is_some() {
            // It is given up: what was written by ranges stays, and what came before is taken back.
            stays
                .get_or_insert_with(|| format!("given up; what `{}` has written stays as it is", step.title));
            record.run.steps_done = index;
            record.save().await?;
            continue;
        }
        if step.inverse.is_empty() {
            return Err(Error::new(ErrorKind::Refused, format!("`{}` cannot be taken back", step.title)));
        }
        let inverse = inverse(&step);
        if !step.inverse_rebuilds.is_empty() && native(record)?.probe(&inverse).await? != Probe::Done {
            let what = format!("only a rebuild gives back {} while others write", step.inverse_rebuilds);
            let id = record.run.id.short();
            let hint = match record.run.state.is_reversible() {
                true => format!("`replank revert {id}` makes one"),
                false => {
                    format!("`replank resume {id}` ends the run, and `replank revert {id}` then makes one")
                }
            };
            return Err(Error::new(ErrorKind::Refused, what).hint(hint));
        }
        if !step.inverse_discards.is_empty() && native(record)?.probe(&inverse).await? != Probe::Done {
            let what = step.inverse_discards.join(", ");
            record.say(Body::Warning { message: format!("what was written since is dropped: {what}") });
        }
        one(record, &inverse, stop, false).await?;
        record.run.steps_done = index;
        record.run.ranges = None;
        record.save().await?;
    }
    record.run.ended = Some(jiff::Timestamp::now());
    record.run.ranges = None;
    match stays {
        None => record.enter(RunState::Reverted, "taken back").await,
        Some(stays) => {
            record.run.note = Some(stays.clone());
            record.enter(RunState::Aborted, &stays).await
        }
    }
}

/// Steps that are taken back by a rebuild, and are not yet: their inverses would drop what was written since, or keep writers out.
pub async fn by_rebuild(session: &dyn Session, run: &Run) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for step in run.plan.steps.iter().filter(|step| step.is_taken_back_by_rebuild()) {
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
            Probe::Absent | Probe::Broken => steps.push(step.clone()),
        }
    }
    Ok(steps)
}

fn inverse(step: &Step) -> Step {
    Step {
        title: format!("take back: {}", step.title),
        statement: step.inverse.clone(),
        inverse: step.statement.clone(),
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: step.spec.clone(),
    }
}

/// The step after those that are known to be done may have been sent by a runner that heard no answer: it is ended
/// where it still runs, and counts as done where it was faster, or left something that only its inverse takes away.
async fn settle_next(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    let Some(step) = record.run.plan.steps.get(record.run.steps_done).cloned() else { return Ok(()) };
    let is_begun = match end(record, &step, stop).await? {
        Probe::Absent | Probe::Running => false,
        Probe::Done => true,
        Probe::Broken if step.inverse.is_empty() => {
            let what = format!("`{}` is half done, and cannot be taken back", step.title);
            let hint = format!("`replank resume {}` does the rest of it", record.run.id);
            return Err(Error::new(ErrorKind::Refused, what).hint(hint));
        }
        Probe::Broken => native(record)?.probe(&inverse(&step)).await? != Probe::Done,
    };
    if is_begun {
        record.run.steps_done += 1;
        record.save().await?;
    }
    Ok(())
}

/// Ends a step's statement, whoever sent it, and answers how the step stands then.
async fn end(record: &Record, step: &Step, stop: &watch::Receiver<bool>) -> Result<Probe> {
    let mut renewed = Instant::now();
    loop {
        native(record)?.cancel(step).await?;
        match native(record)?.probe(step).await? {
            Probe::Running => tokio::time::sleep(TICK).await,
            probe => return Ok(probe),
        }
        if *stop.borrow() {
            return Err(interrupted(record, step));
        }
        renew(record, &mut renewed).await?;
    }
}

/// Runs what makes the steps final. From the first of them on there is no way back, also after a crash: what the server has
/// would look as if it had been taken back.
///
/// # Errors
/// [`ErrorKind::Refused`] when everything was taken back by a runner that could not record it.
pub async fn finalize(record: &mut Record, stop: &watch::Receiver<bool>) -> Result<()> {
    let all = record.run.plan.steps.len();
    if record.run.options.revertible {
        see_what_stands(record).await?;
        record.run.options.revertible = false;
        record.run.note = Some("being made final".to_owned());
        record.save().await?;
    }
    let steps = record.run.plan.steps.iter().take(record.run.steps_done);
    let steps: Vec<Step> = steps.filter(|step| !step.finalize.is_empty()).cloned().collect();
    for step in &steps {
        let last = Step {
            title: format!("make final: {}", step.title),
            statement: step.finalize.clone(),
            inverse: String::new(),
            inverse_discards: Vec::new(),
            inverse_rebuilds: String::new(),
            finalize: String::new(),
            spec: step.spec.clone(),
        };
        record.pass(Boundary::DropBegun);
        one(record, &last, stop, false).await?;
        record.pass(Boundary::DropDone);
    }
    record.run.note = None;
    record.run.ended = Some(jiff::Timestamp::now());
    let done = record.run.steps_done;
    let how = match done == all {
        true => "final".to_owned(),
        false => format!("final; {} of its {all} steps had been taken back", all - done),
    };
    record.enter(RunState::Finalized, &how).await
}

/// A way back that was cut short may have taken back the last of the steps that count as done.
async fn see_what_stands(record: &mut Record) -> Result<()> {
    let mut stands = record.run.steps_done;
    let last = stands.checked_sub(1).and_then(|last| record.run.plan.steps.get(last)).cloned();
    if let Some(step) = last.filter(|step| !step.inverse.is_empty())
        && is_done(record, &inverse(&step)).await?
        // Of a step that leaves nothing, both ways are done.
        && !is_done(record, &step).await?
    {
        stands -= 1;
    }
    if stands == 0 && !record.run.plan.steps.is_empty() {
        let what = format!("run {} has been taken back, by somebody who could not record it", record.run.id);
        return Err(Error::new(ErrorKind::Refused, what)
            .hint(format!("`replank revert {}` records it", record.run.id)));
    }
    if stands < record.run.steps_done {
        record.run.steps_done = stands;
        record.save().await?;
    }
    Ok(())
}

/// Not so where something else is in its place.
async fn is_done(record: &Record, step: &Step) -> Result<bool> {
    match native(record)?.probe(step).await {
        Err(error) if error.kind() == ErrorKind::ForeignDdl => Ok(false),
        probe => Ok(probe? == Probe::Done),
    }
}

/// How a step came out, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
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
    let session = Arc::clone(&record.session);
    if let Some(by_ranges) = of(&*session)?.by_ranges(step) {
        return ranges::sweep(record, step, by_ranges, stop, can_be_given_up).await;
    }
    let budget = Duration::from_millis(record.run.options.lock_budget_ms);
    let (mut tries, mut vain, mut pauses) = (0, 0, 0);
    loop {
        if *stop.borrow() {
            return Err(interrupted(record, step));
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
            Probe::Absent | Probe::Broken if vain >= VAIN_MAX => {
                return Err(Error::new(
                    ErrorKind::Server,
                    format!("the server has run `{}` without an error, and it is not done", step.title),
                )
                .with("times", vain)
                .hint(format!("look at what has become of it, then `replank resume {}`", record.run.id)));
            }
            Probe::Absent | Probe::Broken => match run(record, step, budget, stop, can_be_given_up).await {
                // The next probe says whether it is there.
                Ok(Outcome::Done) => vain += 1,
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
                    tries += 1;
                }
            },
        }
        record.renew().await?;
        pauses += 1;
        tokio::time::sleep((Duration::from_millis(50) * pauses).min(PAUSE_MAX)).await;
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
    // Set once the statement is to be ended: what was asked for.
    let mut ending: Option<Result<bool>> = None;
    loop {
        tokio::select! {
            biased;
            ended = &mut running => {
                let Some(obeyed) = ending else { return ended.map(|()| Outcome::Done) };
                // Whether it was faster is asked of the catalogue, here or by the next runner.
                if let Err(error) = ended {
                    tracing::debug!(%error, "the statement was ended");
                }
                return obeyed.map(|is_given_up| if is_given_up { Outcome::GivenUp } else { Outcome::Done });
            }
            () = tokio::time::sleep(TICK) => {}
        }
        let was_ending = ending.is_some();
        if !was_ending {
            let obeyed = obey(record, can_be_given_up).await;
            ending = (!matches!(obeyed, Ok(false)) || *stop.borrow()).then_some(obeyed);
        }
        // Each time: it may have been between two statements.
        if ending.is_some() {
            match native.cancel(step).await {
                Err(error) if was_ending => tracing::debug!(%error, "it was asked to end before"),
                canceled => canceled?,
            }
        }
        renew(record, &mut renewed).await?;
    }
}

/// Puts the lease's expiry off, when it is time.
pub async fn renew(record: &Record, renewed: &mut Instant) -> Result<()> {
    if renewed.elapsed() > lease::TTL / 3 {
        record.renew().await?;
        *renewed = Instant::now();
    }
    Ok(())
}

/// What ends a step before it is done.
pub fn interrupted(record: &Record, step: &Step) -> Error {
    Error::new(ErrorKind::Interrupted, format!("interrupted before `{}`", step.title))
        .hint(format!("go on with `replank resume {}`", record.run.id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Request;
    use crate::engine::Runner;
    use crate::event::Silent;
    use crate::plan::{Plan, PlanOptions, choose};
    use crate::run::{Origin, RunOptions};
    use crate::testkit::memory::{Config, Server, TABLE};

    async fn plan(server: &Server, word: &str) -> Plan {
        let text = format!("native {TABLE} {word}");
        let request = Request::Statement { text, forward: Vec::new(), reverse: Vec::new(), capture: None };
        let draft = server.connect().draft(&request).await.expect("it is understood");
        let options = PlanOptions { revertible: true, ..PlanOptions::default() };
        choose(&draft, &[], &options).expect("it can be done").plan
    }

    fn runner(server: &Server) -> Runner {
        // Whoever could interrupt is gone, and nobody did.
        Runner::new(Arc::new(server.connect()), Arc::new(Silent), watch::channel(false).1)
    }

    async fn apply(server: &Server, word: &str) -> Result<Run> {
        let plan = plan(server, word).await;
        runner(server).apply(plan, RunOptions::default(), Origin::default()).await
    }

    async fn probe(server: &Server, run: &Run) -> Probe {
        let session = server.connect();
        let native = session.native().expect("it has steps of its own");
        native.probe(&run.plan.steps[0]).await.expect("probed")
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_runs_and_is_never_done_is_given_up() {
        let server = Server::start(Config::default());
        let began = Instant::now();
        let error = apply(&server, "deaf").await.expect_err("it never comes");
        assert_eq!(error.kind(), ErrorKind::Server, "{error}");
        assert!(error.message().contains("it is not done"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_half_done_is_taken_back_by_abort() {
        let server = Server::start(Config::default());
        apply(&server, "torn").await.expect_err("it fails");
        let run = server.connect().state().runs().await.expect("the runs").remove(0);
        assert_eq!(probe(&server, &run).await, Probe::Broken);
        let aborted = runner(&server).abort(&run.id).await.expect("aborted");
        assert_eq!(aborted.state, RunState::Reverted);
        assert_eq!(probe(&server, &run).await, Probe::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_kept_while_a_statement_that_was_ended_takes_its_time() {
        let server = Server::start(Config::default());
        let applied = tokio::spawn({
            let server = server.clone();
            async move { apply(&server, "stubborn").await }
        });
        let session = server.connect();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let run = session.state().runs().await.expect("the runs").remove(0);
        session.state().post(&run.id, &Control::Abort).await.expect("it is left");
        let mut seconds = 0;
        while !applied.is_finished() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let lease = session.state().lease(&run.table).await.expect("the lease").expect("it was taken");
            let is_kept = lease.holder.is_none() || lease.remaining > lease::TTL / 3;
            assert!(is_kept, "after {seconds} s, {:?} remain", lease.remaining);
            seconds += 1;
        }
        assert!(seconds > 90, "it ended after {seconds} s");
        let run = applied.await.expect("no panic").expect("it was given up");
        assert_eq!(run.state, RunState::Reverted);
    }
}
