//! A step that writes many rows, range by range: throttled, paused and resumed like a copy, and begun again at its last
//! checkpoint.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::PATIENCE;
use super::boundary::Boundary;
use super::chunker::Chunker;
use super::load::Load;
use super::native::{Outcome, interrupted, renew};
use super::record::Record;
use crate::control::{Answer, Control};
use crate::driver::ByRanges;
use crate::error::Retry;
use crate::event::{self, Body};
use crate::plan::Step;
use crate::run::{Progress, Ranges, Run, RunState};
use crate::value::Bounds;
use crate::{Error, ErrorKind, Result};

/// Commands are read, and the load is looked at, this often.
const TICK: Duration = Duration::from_millis(500);
/// A checkpoint is as old as this at most: a range that is written again changes nothing. Chosen.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// Before a range is tried again that the server rolled back.
const PAUSE: Duration = Duration::from_millis(100);

/// Goes through all ranges that are left.
pub async fn sweep(
    record: &mut Record,
    step: &Step,
    by_ranges: &dyn ByRanges,
    stop: &watch::Receiver<bool>,
    can_be_given_up: bool,
) -> Result<Outcome> {
    let mut sweep = Sweep::begin(record, step);
    // Before anything is written: whoever gives the run up must know that something may be.
    sweep.save(record).await?;
    // On the way back, and where it is made final, the run is what it is until that is done.
    match can_be_given_up {
        true => record.enter(RunState::Copying, &step.title).await?,
        false => record.say(Body::Phase { state: record.run.state, message: step.title.clone() }),
    }
    while !sweep.progress.done {
        if *stop.borrow() {
            sweep.save(record).await?;
            return Err(interrupted(record, step));
        }
        renew(record, &mut sweep.renewed).await?;
        if sweep.looked.elapsed() >= TICK {
            sweep.looked = Instant::now();
            if sweep.obey(record, can_be_given_up).await? {
                sweep.save(record).await?;
                return Ok(Outcome::GivenUp);
            }
            sweep.waits = sweep.load.look(record, Duration::ZERO).await?;
        }
        if record.run.state == RunState::Paused || sweep.waits.is_some() {
            tokio::time::sleep(TICK).await;
            continue;
        }
        sweep.range(record, step, by_ranges, stop).await?;
    }
    sweep.save(record).await?;
    let told = by_ranges.finish(&record.run.id, step).await?;
    if let Some(message) = told.clone() {
        record.say(Body::Warning { message });
    }
    let body = json!({ "title": step.title, "statement": step.statement, "rows": sweep.progress.rows, "told": told });
    record.pass(Boundary::StepDone);
    record.note("step", body).await?;
    if can_be_given_up {
        record.enter(RunState::CuttingOver, "every range is written").await?;
    }
    Ok(Outcome::Done)
}

/// What a run that is given up leaves as it is: the step that it is at writes rows and has no way back.
pub fn stays(run: &Run) -> Option<String> {
    let step = run.plan.steps.get(run.steps_done)?;
    let ranges = run.ranges.as_ref().filter(|ranges| ranges.statement == step.statement)?;
    step.inverse.is_empty().then(|| {
        format!("given up after about {} rows; what was written there stays as it is", ranges.progress.rows)
    })
}

struct Sweep {
    statement: String,
    progress: Progress,
    chunker: Chunker,
    load: Load,
    /// Why nothing is written now.
    waits: Option<String>,
    renewed: Instant,
    looked: Instant,
    saved: Instant,
    told: (Instant, u64),
    /// Since when the range has been failing.
    failing: Option<Instant>,
}

impl Sweep {
    fn begin(record: &Record, step: &Step) -> Self {
        let ranges = record.run.ranges.as_ref().filter(|ranges| ranges.statement == step.statement);
        let progress = ranges.map(|ranges| ranges.progress.clone()).unwrap_or_default();
        let limits = &record.run.options.limits;
        let now = Instant::now();
        Self {
            statement: step.statement.clone(),
            told: (now, progress.rows),
            progress,
            chunker: Chunker::new(
                Duration::from_millis(limits.chunk_target_ms),
                limits.chunk_rows_max,
                limits.chunk_bytes_max,
            ),
            load: Load::default(),
            waits: None,
            renewed: now,
            // The first look is at once.
            looked: now.checked_sub(TICK).unwrap_or(now),
            saved: now,
            failing: None,
        }
    }

    /// Writes the next range.
    async fn range(
        &mut self,
        record: &mut Record,
        step: &Step,
        by_ranges: &dyn ByRanges,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        let begun = Instant::now();
        let lower = self.progress.watermark.clone();
        let (run, rows) = (record.run.id.clone(), self.chunker.rows());
        let quarantine_max = record.run.options.limits.quarantine_max;
        let written = async {
            let upper = by_ranges.next_bound(step, lower.as_ref(), rows).await?;
            let bounds = Bounds { lower, upper };
            Ok((by_ranges.write(&run, step, &bounds, quarantine_max).await?, bounds))
        };
        tokio::pin!(written);
        // However long the server takes, the lease is kept, and the person heard.
        let written = loop {
            tokio::select! {
                biased;
                written = &mut written => break written,
                () = tokio::time::sleep(TICK) => {}
            }
            if *stop.borrow() {
                break Err(interrupted(record, step));
            }
            renew(record, &mut self.renewed).await?;
        };
        let (written, bounds) = match written {
            Ok(written) => written,
            Err(error) => return self.failed(record, error).await,
        };
        self.failing = None;
        record.pass(Boundary::ChunkCommitted);
        let took = begun.elapsed();
        self.chunker.learn(written.rows, 0, took);
        self.progress.rows += written.rows;
        match bounds.upper {
            Some(upper) => self.progress.watermark = Some(upper),
            None => self.progress.done = true,
        }
        if self.saved.elapsed() >= CHECKPOINT {
            self.save(record).await?;
            self.tell(record);
        }
        if let Some(percent) = record.run.options.limits.copy_percent
            && !self.progress.done
        {
            let share = f64::from(percent.clamp(1, 100)) / 100.0;
            tokio::time::sleep(took.mul_f64((1.0 - share) / share)).await;
        }
        Ok(())
    }

    /// What the server rolled back is tried again, smaller; what was lost is the runner's to find out, and is then written again.
    async fn failed(&mut self, record: &mut Record, error: Error) -> Result<()> {
        let since = *self.failing.get_or_insert_with(Instant::now);
        if error.kind().retry() != Retry::Again || since.elapsed() > PATIENCE {
            self.save(record).await?;
            return Err(error);
        }
        tracing::debug!(%error, "a range is tried again");
        self.chunker.shrink();
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    async fn save(&mut self, record: &mut Record) -> Result<()> {
        let ranges = Ranges { statement: self.statement.clone(), progress: self.progress.clone() };
        if record.run.ranges.as_ref() != Some(&ranges) {
            record.run.ranges = Some(ranges);
            record.save().await?;
            record.pass(Boundary::CheckpointSaved);
        }
        self.saved = Instant::now();
        Ok(())
    }

    fn tell(&mut self, record: &Record) {
        let (at, before) = self.told;
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        let rows = self.progress.rows;
        let rate = (rows.saturating_sub(before) as f64 / seconds) as u64;
        self.told = (Instant::now(), rows);
        let total = record.run.plan.table.rows.max(rows);
        record.say(Body::Progress(event::Progress {
            state: record.run.state,
            rows_done: rows,
            rows_total: total,
            rows_per_second: rate,
            lag_ms: 0,
            backlog: 0,
            eta_s: (total - rows).checked_div(rate),
            throttle: self.waits.clone(),
            copy_percent: record.run.options.limits.copy_percent,
        }));
    }

    /// Answers commands from other processes; true when one gives the run up.
    async fn obey(&mut self, record: &mut Record, can_be_given_up: bool) -> Result<bool> {
        for command in record.store().pending(&record.run.id).await? {
            let (answer, is_given_up) = self.obey_one(record, command.control, can_be_given_up).await?;
            record.store().acknowledge(command.id, &answer.write()).await?;
            if is_given_up {
                return Ok(true);
            }
            if answer == stopping() {
                self.save(record).await?;
                return Err(Error::new(ErrorKind::Gate, "stopped by command; the checkpoint is saved")
                    .hint(format!("go on with `replank resume {}`", record.run.id)));
            }
        }
        Ok(false)
    }

    async fn obey_one(
        &mut self,
        record: &mut Record,
        control: Control,
        can_be_given_up: bool,
    ) -> Result<(Answer, bool)> {
        let answer = match control {
            Control::Abort | Control::Pause if !can_be_given_up => {
                Answer::refused("it is being taken back, or made final, already")
            }
            Control::Abort => return Ok((Answer::obeyed("aborting"), true)),
            Control::Pause if record.run.state == RunState::Paused => Answer::obeyed("paused already"),
            Control::Pause => {
                self.save(record).await?;
                record.run.resume_state = Some(record.run.state);
                record.enter(RunState::Paused, "paused; nothing is written").await?;
                Answer::obeyed("paused")
            }
            Control::Resume => match record.run.resume_state.take() {
                None => Answer::obeyed("it was not paused"),
                Some(state) => {
                    record.enter(state, "going on").await?;
                    Answer::obeyed("going on")
                }
            },
            Control::Throttle { set } => {
                let mut limits = record.run.options.limits.clone();
                match limits.set_all(&set) {
                    Err(error) => Answer::refused(error.to_string()),
                    Ok(()) => {
                        self.chunker.limit(
                            Duration::from_millis(limits.chunk_target_ms),
                            limits.chunk_rows_max,
                            limits.chunk_bytes_max,
                        );
                        record.run.options.limits = limits;
                        record.save().await?;
                        Answer::obeyed("limits changed")
                    }
                }
            }
            Control::Cutover => Answer::refused("nothing is swapped: rows are written in place"),
            Control::Stop => stopping(),
        };
        Ok((answer, false))
    }
}

fn stopping() -> Answer {
    Answer::obeyed("stopping")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::driver::{CommandState, Request, Session};
    use crate::engine::Runner;
    use crate::event::Silent;
    use crate::plan::{PlanOptions, choose};
    use crate::run::{Origin, RunOptions};
    use crate::testkit::memory::{Config, Server, TABLE};

    fn runner(server: &Server) -> Runner {
        // Whoever could interrupt is gone, and nobody did.
        Runner::new(Arc::new(server.connect()), Arc::new(Silent), watch::channel(false).1)
    }

    async fn apply(server: Server) -> Result<Run> {
        let text = format!("native {TABLE} ranges");
        let request = Request::Statement { text, forward: Vec::new(), reverse: Vec::new(), capture: None };
        let draft = server.connect().draft(&request).await.expect("it is understood");
        let plan = choose(&draft, &[], &PlanOptions::default()).expect("it can be done").plan;
        let mut options = RunOptions { revertible: false, ..RunOptions::default() };
        options.limits.chunk_rows_max = 20;
        runner(&server).apply(plan, options, Origin::default()).await
    }

    /// Leaves a command, and waits until somebody has answered it.
    async fn tell(server: &Server, control: Control) {
        let session = server.connect();
        let run = session.state().runs().await.expect("the runs").remove(0);
        let command = session.state().post(&run.id, &control).await.expect("it is left");
        while session.state().command(command).await.expect("it is there") == CommandState::Waiting {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Fails unless all rows are in ranges that follow each other; how many of them were written twice.
    fn written_twice(ranges: &[(u32, u32)]) -> u32 {
        let (mut reached, mut twice) = (0, 0);
        for (from, to) in ranges {
            assert!(*from <= reached, "{from} to {to} begins behind {reached}");
            twice += reached - from;
            reached = *to;
        }
        assert_eq!(reached, 1_000);
        twice
    }

    #[tokio::test(start_paused = true)]
    async fn every_range_is_written_once_and_the_run_is_final() {
        let server = Server::start(Config::default());
        let run = apply(server.clone()).await.expect("written");
        assert_eq!(run.state, RunState::Finalized);
        assert_eq!(written_twice(&server.ranges_written()), 0);
        assert_eq!(run.ranges, None, "nothing is left of how far it was");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_stopped_goes_on_at_its_checkpoint() {
        let server = Server::start(Config::default());
        let applied = tokio::spawn(apply(server.clone()));
        tokio::time::sleep(Duration::from_secs(5)).await;
        tell(&server, Control::Stop).await;
        let stopped = applied.await.expect("no panic").expect_err("it was stopped");
        assert_eq!(stopped.kind(), ErrorKind::Gate, "{stopped}");
        let before = server.ranges_written().len();
        assert!((5..45).contains(&before), "{before} ranges");
        let run = server.connect().state().runs().await.expect("the runs").remove(0);
        let run = runner(&server).resume(&run.id).await.expect("it goes on");
        assert_eq!(run.state, RunState::Finalized);
        assert_eq!(written_twice(&server.ranges_written()), 0, "the checkpoint was saved when it stopped");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_in_a_pause_and_what_is_given_up_stays_as_it_is() {
        let server = Server::start(Config::default());
        let applied = tokio::spawn(apply(server.clone()));
        tokio::time::sleep(Duration::from_secs(5)).await;
        tell(&server, Control::Pause).await;
        let paused = server.ranges_written().len();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(server.ranges_written().len(), paused);
        tell(&server, Control::Resume).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(server.ranges_written().len() > paused);
        tell(&server, Control::Abort).await;
        let run = applied.await.expect("no panic").expect("it was given up");
        assert_eq!(run.state, RunState::Aborted);
        assert!(run.note.as_deref().is_some_and(|note| note.contains("stays as it is")), "{:?}", run.note);
    }
}
