//! The only loop: starts what the machine allows, hands back what ended, and keeps the journal, the lease,
//! the throttle and the person informed meanwhile.

mod commands;
mod house;
mod readiness;
mod swap;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::boundary::Boundary;
use super::flight::{self, Landed};
use super::load::Load;
use super::machine::{Action, Machine, Milestone, Outcome, Setup, shown};
use super::record::Record;
use crate::driver::{ChangeFeed, Rebuild};
use crate::event::Body;
use crate::journal::lease;
use crate::run::RunState;
use crate::value::Position;
use crate::{Error, ErrorKind, Result};
use readiness::Readiness;

/// What the loop runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The swap.
    Swap,
    /// Keeping the retired table up to date, until told to stop.
    Warm,
    /// One full comparison.
    Verify,
}

/// Why the loop ended well.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The written table owns the name; the journal does not know yet.
    Swapped,
    /// Every row was compared.
    Verified,
    /// A person must say that the swap may happen.
    Gate,
    /// A person gave the run up.
    Abort,
}

// Keys are some tens of bytes; a full queue is a few megabytes. Chosen.
const QUEUE_MAX: usize = 50_000;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const CONTROL_EVERY: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// No call of the journal takes longer, or the runner counts as cut off.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(10);
/// The rename waits for the statements that it is to outlive.
const FENCE_DEADLINE: Duration = Duration::from_secs(60);
/// How long actions in flight are waited for when the run stops.
const LANDING: Duration = Duration::from_secs(15);

struct Due {
    checkpoint: Instant,
    control: Instant,
    load: Instant,
    progress: Instant,
    renewal: Instant,
    attempt: Instant,
}

/// A position up to which all is applied.
struct Applied {
    position: Option<Position>,
    since: Instant,
    is_told: bool,
}

/// The loop's own state. The run's state is in `record`, the protocol's in `machine`.
pub struct Pump<'a> {
    rebuild: Arc<dyn Rebuild>,
    record: &'a mut Record,
    machine: Machine,
    goal: Goal,
    stop: watch::Receiver<bool>,
    feed: Option<Box<dyn ChangeFeed>>,
    flights: JoinSet<Landed>,
    due: Due,
    started: Instant,
    renewed: Instant,
    attempts: u32,
    /// Those that gave way at once.
    brief_attempts: u32,
    /// Those whose exchange itself was too long.
    long_attempts: u32,
    wants_swap: bool,
    readiness: Readiness,
    /// Since when it has been waited for rows that the old shape cannot hold.
    unsure_since: Option<Instant>,
    load: Load,
    has_told_gate: bool,
    last_progress: (Instant, u64),
    rows_total: u64,
    fence_due: bool,
    /// Where the applied changes stand.
    applied: Applied,
    /// The log was shortened up to here.
    log_until: Option<Position>,
}

impl<'a> Pump<'a> {
    /// A loop over a rebuild that is prepared and fenced, and whose feed has a saved position.
    pub fn new(
        rebuild: Arc<dyn Rebuild>,
        record: &'a mut Record,
        state: RunState,
        goal: Goal,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let setup = Setup {
            pace: rebuild.pace(),
            direction: record.run.direction,
            limits: record.run.options.limits.clone(),
            queue_max: QUEUE_MAX,
            swaps: goal == Goal::Swap,
        };
        let comparer = Arc::clone(&rebuild);
        let machine = Machine::new(
            setup,
            state,
            &record.run.checkpoint,
            Box::new(move |at, goal| comparer.reached(at, goal)),
        );
        let now = Instant::now();
        Self {
            rows_total: record.run.plan.table.rows,
            rebuild,
            record,
            machine,
            goal,
            stop,
            feed: None,
            flights: JoinSet::new(),
            due: Due {
                checkpoint: now + CHECKPOINT_EVERY,
                control: now,
                load: now,
                progress: now + PROGRESS_EVERY,
                renewal: now + lease::RENEW,
                attempt: now,
            },
            started: now,
            renewed: now,
            attempts: 0,
            brief_attempts: 0,
            long_attempts: 0,
            unsure_since: None,
            wants_swap: false,
            readiness: Readiness::default(),
            load: Load::default(),
            has_told_gate: false,
            last_progress: (now, 0),
            fence_due: false,
            applied: Applied { position: None, since: now, is_told: false },
            log_until: None,
        }
    }

    /// Runs until the goal, a gate, a stop or an error. Whatever ends it, what is in flight has landed or is
    /// given up, and the checkpoint is saved if the lease is still ours.
    pub async fn run(mut self) -> Result<End> {
        self.drive_to_end().await
    }

    /// Rows compared in this pass.
    pub fn rows_compared(&self) -> u64 {
        self.machine.rows_done()
    }

    /// The same as [`Pump::run`], keeping the loop's figures.
    pub async fn drive_to_end(&mut self) -> Result<End> {
        let ended = self.drive().await;
        self.land().await;
        let saved = match &ended {
            Ok(End::Swapped) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Fenced => Ok(()),
            _ => self.save_checkpoint().await,
        };
        let ended = ended?;
        saved?;
        Ok(ended)
    }

    async fn drive(&mut self) -> Result<End> {
        if self.machine.state() == RunState::CatchingUp && self.machine.conflicts() > 0 {
            self.machine.retry_conflicts();
        }
        loop {
            if let Some(error) = self.machine.take_fatal() {
                return Err(error);
            }
            if *self.stop.borrow() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted; the checkpoint is saved")
                    .hint(format!("go on with `replank resume {}`", self.record.run.id)));
            }
            // First of all what has ended: whatever would be begun before would be waited for.
            if let Some(end) = self.pass_milestones().await? {
                return Ok(end);
            }
            if let Some(end) = self.swap_if_quiet().await? {
                return Ok(end);
            }
            self.start_what_may();
            self.fence_if_due().await?;
            self.wait().await?;
            if let Some(end) = self.keep_house().await? {
                return Ok(end);
            }
        }
    }

    /// Until something lands, something is due, or somebody stops the run.
    async fn wait(&mut self) -> Result<()> {
        let due = &self.due;
        let until = [due.checkpoint, due.control, due.load, due.progress, due.renewal]
            .into_iter()
            .min()
            .map_or_else(Instant::now, |due| due.min(Instant::now() + Duration::from_millis(10)));
        // Biased, so that a seed of the simulator always gives the same run. Each branch is cancel-safe:
        // `join_next`, which `made` is, by its documentation, and a changed watch stays changed.
        tokio::select! {
            biased;
            Some(landed) = self.flights.join_next() => self.land_one(landed)?,
            Some(made) = self.readiness.made() => self.take_readiness(made).await?,
            () = changed(&mut self.stop) => {}
            () = sleep_until(until) => {}
        }
        while let Some(landed) = self.flights.try_join_next() {
            self.land_one(landed)?;
        }
        Ok(())
    }

    fn start_what_may(&mut self) {
        while let Some(action) = self.machine.next(self.started.elapsed()) {
            let rebuild = Arc::clone(&self.rebuild);
            match action {
                Action::Pull => {
                    let (feed, position) = (self.feed.take(), self.machine.position().cloned());
                    self.flights.spawn(flight::pull(rebuild, feed, position, self.machine.pull_wait()));
                }
                // Carried out by the loop itself: nothing else is in flight, and the record changes.
                Action::Fence => self.fence_due = true,
                action => {
                    self.flights.spawn(flight::fly(rebuild, action));
                }
            }
        }
    }

    /// R5: a statement of unknown outcome may still run. The next token, then the name that carries it.
    async fn fence_if_due(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.fence_due) {
            return Ok(());
        }
        // It uses what is renamed, and would be ended by that.
        self.readiness.give_up().await;
        if std::mem::take(&mut self.wants_swap) {
            self.machine.hold(false);
        }
        let token = self.record.next_token().await?;
        let fenced = timeout(FENCE_DEADLINE, self.rebuild.fence(token)).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(ErrorKind::ConnectionLost, "the rename of the shadow did not answer"))
        });
        self.record.note("fenced", json!({ "token": token })).await?;
        self.machine.take(Outcome::Fence(fenced), self.started.elapsed());
        Ok(())
    }

    fn land_one(&mut self, landed: Result<Landed, tokio::task::JoinError>) -> Result<()> {
        let Landed { outcome, feed } = landed.map_err(|error| {
            Error::new(ErrorKind::Internal, "a task of the engine ended in a panic").caused_by(error)
        })?;
        if feed.is_some() {
            self.feed = feed;
        }
        match &outcome {
            Outcome::Copy(_, _, Ok(_)) => self.record.pass(Boundary::ChunkCommitted),
            Outcome::Apply(_, _, Ok(_)) => self.record.pass(Boundary::BatchCommitted),
            Outcome::BuildIndex(Ok(_)) => self.record.pass(Boundary::IndexBuilt),
            Outcome::CompareChunk(_, _, Ok(_)) => self.record.pass(Boundary::VerifyChunkDone),
            _ => {}
        }
        self.machine.take(outcome, self.started.elapsed());
        Ok(())
    }

    async fn pass_milestones(&mut self) -> Result<Option<End>> {
        while let Some(milestone) = self.machine.milestone() {
            let (state, message) = match milestone {
                Milestone::Copied => (RunState::BuildingIndexes, "every row is copied; building indexes"),
                Milestone::IndexesBuilt => (RunState::CatchingUp, "applying what changed meanwhile"),
                Milestone::CaughtUp if self.goal == Goal::Warm => return Ok(None),
                Milestone::CaughtUp
                    if self.record.run.checkpoint.verified.done && self.goal == Goal::Swap =>
                {
                    (RunState::WaitingCutover, "up to date again")
                }
                Milestone::CaughtUp => (RunState::Verifying, "comparing every row"),
                Milestone::Verified if self.goal == Goal::Verify => {
                    self.tell_of_hot_rows();
                    return Ok(Some(End::Verified));
                }
                Milestone::Verified if !self.machine.suspects().is_empty() => {
                    (RunState::WaitingCutover, "every row is compared; those that differ are looked at again")
                }
                Milestone::Verified => (RunState::WaitingCutover, "every row is compared and equal"),
                Milestone::PassUnclean => self.begin_another_pass().await?,
                Milestone::SwapReady => return self.ask_for_swap(),
            };
            self.save_checkpoint().await?;
            if self.goal == Goal::Swap {
                self.record.enter(state, message).await?;
            } else {
                self.record.say(Body::Phase { state, message: message.to_owned() });
            }
            self.machine.enter(state);
            if matches!(state, RunState::Verifying | RunState::WaitingCutover) && self.goal == Goal::Swap {
                // Beside the comparison: afterwards everything would wait for it.
                self.make_ready();
            }
            self.start_what_may();
        }
        Ok(None)
    }

    fn tell_of_hot_rows(&mut self) {
        let hot = self.machine.suspects();
        if !hot.is_empty() {
            let keys = shown(&hot);
            let message = format!("{} rows change too often to be compared: {keys}", hot.len());
            self.record.say(Body::Warning { message });
        }
    }

    /// Rows had to be repaired: that is not a clean pass, and a second such pass is a failure.
    async fn begin_another_pass(&mut self) -> Result<(RunState, &'static str)> {
        let checkpoint = self.machine.checkpoint();
        let repaired = checkpoint.pass_repaired;
        let keys = self.machine.shown_repaired();
        self.record.note("repaired", json!({ "rows": repaired, "pass": checkpoint.passes })).await?;
        if checkpoint.passes >= 2 {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("{repaired} rows had to be repaired in a second pass"),
            )
            .with("keys", keys)
            .hint("the live table is untouched; `replank abort` removes the copy; please report this"));
        }
        self.record.say(Body::Warning {
            message: format!(
                "{repaired} rows differed without a change and were applied again ({keys}); comparing all again"
            ),
        });
        Ok((RunState::Verifying, "comparing every row again"))
    }

    /// Waits for what is in flight, so that nothing of ours runs on when the run has ended.
    async fn land(&mut self) {
        self.machine.hold(true);
        // It may take hours, and nothing is lost with it.
        self.readiness.give_up().await;
        let landed = timeout(LANDING, async {
            while let Some(landed) = self.flights.join_next().await {
                // An error of its own changes nothing any more: the run is ending, and what is not
                // finished is not in the checkpoint.
                if let Err(error) = self.land_one(landed) {
                    tracing::warn!(%error, "while landing");
                }
            }
        })
        .await;
        if landed.is_err() {
            // A statement that is still running is a zombie to the next runner, which fences (R5).
            self.flights.abort_all();
        }
    }
}

/// Until the person interrupts; for ever once nobody can any more.
async fn changed(stop: &mut watch::Receiver<bool>) {
    if stop.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_left_to_interrupt_is_not_an_interruption() {
        let (sender, mut stop) = watch::channel(false);
        drop(sender);
        assert!(timeout(Duration::from_secs(1), changed(&mut stop)).await.is_err(), "it came back at once");
    }
}
