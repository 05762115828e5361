//! The only loop: starts what the machine allows, hands back what ended, and keeps the journal, the lease,
//! the throttle and the person informed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::boundary::Boundary;
use super::cut_over::{Attempt, CutOver};
use super::flight::{self, Landed};
use super::machine::{Action, Machine, Milestone, Outcome, Setup, shown};
use super::record::Record;
use crate::control::{Answer, Control};
use crate::driver::{ChangeFeed, Rebuild};
use crate::event::{Body, Progress};
use crate::ident::Fence;
use crate::journal::lease;
use crate::run::{Checkpoint, CutoverGate, Direction, RunState};
use crate::throttle::{self, Decision, Outside};
use crate::value::Position;
use crate::{Error, ErrorKind, Result};

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
const LOAD_EVERY: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
// A batch takes milliseconds, and a lock that is in its way is waited for a few seconds. Chosen.
const STALL_AFTER: Duration = Duration::from_secs(10);
const HEAD_DEADLINE: Duration = Duration::from_secs(2);
/// No call of the journal takes longer, or the runner counts as cut off.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(10);
/// The rename waits for the statements that it is to outlive.
const FENCE_DEADLINE: Duration = Duration::from_secs(60);
/// How long actions in flight are waited for when the run stops.
const LANDING: Duration = Duration::from_secs(15);
// 40 tries with a pause that grows to 30 s: a quarter of an hour of asking politely. Chosen.
const ATTEMPTS_MAX: u32 = 40;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
const ATTEMPT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Rows that the old shape cannot hold are told together, if the others are found so soon. Chosen.
const CONFLICTS_WAIT: Duration = Duration::from_secs(30);

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
    wants_swap: bool,
    /// Since when it has been waited for rows that the old shape cannot hold.
    unsure_since: Option<Instant>,
    signals_seen: Vec<String>,
    outside: Outside,
    has_told_gate: bool,
    /// The signal that the person was told of last.
    told_throttle: Option<String>,
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
            unsure_since: None,
            wants_swap: false,
            signals_seen: Vec::new(),
            outside: Outside::default(),
            has_told_gate: false,
            told_throttle: None,
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
            self.start_what_may();
            if let Some(error) = self.machine.take_fatal() {
                return Err(error);
            }
            if *self.stop.borrow() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted; the checkpoint is saved")
                    .hint(format!("go on with `replank resume {}`", self.record.run.id)));
            }
            self.fence_if_due().await?;
            if let Some(end) = self.pass_milestones().await? {
                return Ok(end);
            }
            if let Some(end) = self.swap_if_quiet().await? {
                return Ok(end);
            }
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
        // `join_next` by its documentation, a changed watch stays changed.
        tokio::select! {
            biased;
            Some(landed) = self.flights.join_next() => self.land_one(landed)?,
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
                    self.flights.spawn(flight::pull(rebuild, feed, position));
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

    fn ask_for_swap(&mut self) -> Result<Option<End>> {
        if self.goal != Goal::Swap || self.wants_swap || Instant::now() < self.due.attempt {
            return Ok(None);
        }
        // On the way back a row that differs may hold a value that does not fit: it is told before the lock.
        let has_conflicts = self.machine.conflicts() > 0;
        let is_unsure = self.record.run.direction == Direction::Reverse && !self.machine.are_suspects_hot();
        if has_conflicts || is_unsure {
            let since = *self.unsure_since.get_or_insert_with(Instant::now);
            let are_all_found = self.machine.suspects().is_empty() && self.machine.backlog() == 0;
            if !are_all_found && since.elapsed() < CONFLICTS_WAIT {
                return Ok(None);
            }
        }
        if has_conflicts {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} rows hold values that the old shape cannot hold", self.machine.conflicts()),
            )
            .with("first", self.first_conflicts())
            .hint("change those rows, then `replank revert` again; the new table stays live"));
        }
        let run = &self.record.run;
        let is_gated = run.direction == Direction::Forward && !run.cutover_requested;
        let hint = format!("replank cutover {}", run.id);
        match run.options.cutover {
            CutoverGate::Manual if is_gated => {
                self.record.say(Body::Gate { message: "ready to cut over".to_owned(), hint });
                return Ok(Some(End::Gate));
            }
            CutoverGate::At(at) if is_gated && Timestamp::now() < at => {
                if !self.has_told_gate {
                    self.has_told_gate = true;
                    let message = format!("ready to cut over; waiting until {at}, or for `{hint}`");
                    self.record.say(Body::Phase { state: run.state, message });
                }
                return Ok(None);
            }
            _ => {}
        }
        let budget = self.budget();
        if self.machine.drain_estimate() > budget / 2 || self.machine.lag() > Duration::from_secs(1) {
            return Ok(None);
        }
        self.wants_swap = true;
        self.machine.hold(true);
        Ok(None)
    }

    fn first_conflicts(&mut self) -> String {
        let conflicts = self.machine.checkpoint().conflicts;
        let first: Vec<String> =
            conflicts.iter().take(5).map(|(key, conflict)| format!("{key}: {}", conflict.reason)).collect();
        first.join("; ")
    }

    async fn swap_if_quiet(&mut self) -> Result<Option<End>> {
        if !self.wants_swap || self.machine.in_flight() > 0 {
            return Ok(None);
        }
        self.wants_swap = false;
        self.save_checkpoint().await?;
        self.renew().await?;
        self.attempts += 1;
        let budget = self.budget();
        let attempt = CutOver {
            rebuild: &self.rebuild,
            feed: &mut self.feed,
            machine: &mut self.machine,
            record: self.record,
            budget,
        };
        match attempt.attempt().await? {
            Attempt::Swapped => Ok(Some(End::Swapped)),
            Attempt::NotYet(reason) => {
                self.machine.hold(false);
                self.record.note("attempt", json!({ "number": self.attempts, "reason": reason })).await?;
                self.record.say(Body::Warning { message: format!("no swap yet: {reason}") });
                if self.attempts >= ATTEMPTS_MAX {
                    return Err(Error::new(
                        ErrorKind::Gate,
                        format!("no swap after {} attempts", self.attempts),
                    )
                    .with("last reason", reason)
                    .hint(format!(
                        "end what holds the table or raise --lock-budget, then `replank resume {}`",
                        self.record.run.id
                    )));
                }
                self.due.attempt = Instant::now() + pause(self.attempts, self.record.token());
                Ok(None)
            }
        }
    }

    /// What is due: lease, checkpoint, commands, load, progress.
    async fn keep_house(&mut self) -> Result<Option<End>> {
        let now = Instant::now();
        if now >= self.due.renewal {
            self.renew().await?;
            self.due.renewal = now + lease::RENEW;
        }
        if now >= self.due.checkpoint {
            self.save_checkpoint().await?;
            self.rebuild.check_source().await.or_else(survivable)?;
            self.due.checkpoint = Instant::now() + CHECKPOINT_EVERY;
        }
        if let Some(note) = self.machine.take_collision_note() {
            self.record
                .say(Body::Warning { message: format!("rows collide under a new unique key: {note}") });
            self.record.note("collision", json!({ "values": note })).await?;
        }
        if now >= self.due.load {
            self.look_at_load().await?;
            self.look_for_a_stall().await?;
            self.due.load = Instant::now() + LOAD_EVERY;
        }
        if now >= self.due.progress {
            self.tell_progress();
            self.due.progress = now + PROGRESS_EVERY;
        }
        if now >= self.due.control {
            self.due.control = Instant::now() + CONTROL_EVERY;
            return self.obey().await;
        }
        Ok(None)
    }

    /// A lease that cannot be renewed for most of its time is given up before another may take it.
    async fn renew(&mut self) -> Result<()> {
        match timeout(JOURNAL_DEADLINE, self.record.renew()).await {
            Ok(Ok(())) => {
                self.renewed = Instant::now();
                Ok(())
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Fenced => Err(error),
            Ok(Err(_)) | Err(_) if self.renewed.elapsed() < lease::TTL - lease::RENEW => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Error::new(ErrorKind::Fenced, "the lease could not be renewed in time")
                    .with("for", format!("{} s", self.renewed.elapsed().as_secs()))
                    .hint(format!("go on with `replank resume {}`", self.record.run.id)))
            }
        }
    }

    async fn save_checkpoint(&mut self) -> Result<()> {
        let mut checkpoint = self.machine.checkpoint();
        if self.goal != Goal::Swap {
            // A look on the side: the comparison before a swap is still to be made.
            checkpoint = Checkpoint {
                position: checkpoint.position,
                conflicts: checkpoint.conflicts,
                ..self.record.run.checkpoint.clone()
            };
        }
        if checkpoint == self.record.run.checkpoint {
            return Ok(());
        }
        self.record.run.checkpoint = checkpoint;
        timeout(JOURNAL_DEADLINE, self.record.save()).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(ErrorKind::Server, "the journal did not answer")
                .hint(format!("go on with `replank resume {}`", self.record.run.id)))
        })?;
        self.record.pass(Boundary::CheckpointSaved);
        let position = self.record.run.checkpoint.position.clone();
        if position != self.log_until
            && let Some(position) = position
        {
            self.rebuild.forget(&position).await.or_else(survivable)?;
            self.log_until = Some(position);
        }
        Ok(())
    }

    async fn look_at_load(&mut self) -> Result<()> {
        let limits = self.record.run.options.limits.clone();
        let mut readings = match timeout(JOURNAL_DEADLINE, self.record.session.load(&limits)).await {
            Ok(Ok(readings)) => readings,
            // Every signal that was read before is missing now, and counts as bad.
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        readings.extend(self.outside.readings(&limits).await);
        for reading in readings.iter().filter(|reading| reading.value.is_some()) {
            if !self.signals_seen.contains(&reading.signal) {
                self.signals_seen.push(reading.signal.clone());
            }
        }
        let waiting = match throttle::decide(&limits, self.machine.lag(), &readings, &self.signals_seen) {
            Decision::Go => None,
            Decision::Wait(waiting) => Some(waiting),
            Decision::Stop(reason) => {
                return Err(Error::new(ErrorKind::Gate, format!("stopped: {reason}"))
                    .hint(format!("when the load is gone, `replank resume {}`", self.record.run.id)));
            }
        };
        let (signal, reason) = waiting.map(|it| (it.signal, it.reason)).unzip();
        // A value that changes every second is no news.
        if signal != self.told_throttle {
            self.record.say(Body::Throttle { reason: reason.clone() });
            self.told_throttle = signal;
        }
        self.machine.set_throttle(reason);
        Ok(())
    }

    /// Tells once when nothing has been applied for a while although the source's head has moved on.
    async fn look_for_a_stall(&mut self) -> Result<()> {
        let now = Instant::now();
        let position = self.machine.checkpoint().position;
        if position != self.applied.position || self.machine.throttle().is_some() {
            self.applied = Applied { position, since: now, is_told: false };
        }
        let stood = now.duration_since(self.applied.since);
        let Some(applied) = self.applied.position.clone() else { return Ok(()) };
        if self.applied.is_told || stood < STALL_AFTER {
            return Ok(());
        }
        // A server that does not answer is noticed elsewhere.
        let Ok(Ok(head)) = timeout(HEAD_DEADLINE, self.rebuild.head()).await else { return Ok(()) };
        if self.rebuild.reached(&applied, &head) {
            // Nobody writes. The next look is due when that much time has passed again.
            self.applied.since = now;
            return Ok(());
        }
        self.applied.is_told = true;
        let (seconds, backlog) = (stood.as_secs(), self.machine.backlog());
        self.record.note("stalled", json!({ "seconds": seconds, "backlog": backlog })).await?;
        let message = format!(
            "nothing has been applied for {seconds} s, and {backlog} changes wait: does a session hold rows of the copy?"
        );
        self.record.say(Body::Warning { message });
        Ok(())
    }

    fn tell_progress(&mut self) {
        let (at, before) = self.last_progress;
        let rows = self.machine.rows_done();
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        let rate = (rows.saturating_sub(before) as f64 / seconds) as u64;
        self.last_progress = (Instant::now(), rows);
        let is_sweeping = matches!(self.machine.state(), RunState::Copying | RunState::Verifying);
        self.record.say(Body::Progress(Progress {
            state: self.record.run.state,
            rows_done: rows,
            rows_total: self.rows_total.max(rows),
            rows_per_second: rate,
            lag_ms: u64::try_from(self.machine.lag().as_millis()).unwrap_or(u64::MAX),
            backlog: self.machine.backlog(),
            eta_s: (is_sweeping && rate > 0).then(|| self.rows_total.saturating_sub(rows) / rate),
            throttle: self.machine.throttle().map(ToOwned::to_owned),
        }));
    }

    /// Commands from other processes.
    async fn obey(&mut self) -> Result<Option<End>> {
        let pending = match timeout(JOURNAL_DEADLINE, self.record.store().pending(&self.record.run.id)).await
        {
            Ok(Ok(pending)) => pending,
            // They are still there in half a second.
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        for command in pending {
            let (answer, end) = self.obey_one(command.control).await?;
            self.record.store().acknowledge(command.id, &answer.write()).await?;
            if end.is_some() {
                return Ok(end);
            }
        }
        Ok(None)
    }

    async fn obey_one(&mut self, control: Control) -> Result<(Answer, Option<End>)> {
        let run = &mut self.record.run;
        match control {
            Control::Pause if run.state == RunState::Paused => Ok((Answer::obeyed("paused already"), None)),
            // A run that has been applied only follows its live table: paused, it would be neither
            // reversible nor on its way.
            Control::Pause if self.goal != Goal::Swap => {
                Ok((Answer::refused(format!("nothing to pause: the run is {}", run.state)), None))
            }
            Control::Pause => {
                run.resume_state = Some(run.state);
                self.machine.set_paused(true);
                self.record.enter(RunState::Paused, "paused; changes are still applied").await?;
                Ok((Answer::obeyed("paused"), None))
            }
            Control::Resume => {
                let Some(state) = run.resume_state.take() else {
                    return Ok((Answer::obeyed("it was not paused"), None));
                };
                self.machine.set_paused(false);
                self.record.enter(state, "going on").await?;
                Ok((Answer::obeyed("going on"), None))
            }
            Control::Throttle { set } => {
                let mut limits = run.options.limits.clone();
                for (name, value) in &set {
                    if let Err(error) = limits.set(name, value) {
                        return Ok((Answer::refused(error.to_string()), None));
                    }
                }
                run.options.limits = limits.clone();
                self.machine.set_limits(limits);
                self.record.save().await?;
                self.due.load = Instant::now();
                Ok((Answer::obeyed("limits changed"), None))
            }
            Control::Cutover => {
                run.cutover_requested = true;
                self.record.save().await?;
                Ok((Answer::obeyed("will cut over when it is safe"), None))
            }
            Control::Abort => Ok((Answer::obeyed("aborting"), Some(End::Abort))),
            Control::Stop => Err(Error::new(ErrorKind::Gate, "stopped by command; the checkpoint is saved")
                .hint(format!("go on with `replank resume {}`", self.record.run.id))),
        }
    }

    /// Waits for what is in flight, so that nothing of ours runs on when the run has ended.
    async fn land(&mut self) {
        self.machine.hold(true);
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

    fn budget(&self) -> Duration {
        Duration::from_millis(self.record.run.options.lock_budget_ms)
    }
}

/// Until the person interrupts; for ever once nobody can any more.
async fn changed(stop: &mut watch::Receiver<bool>) {
    if stop.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Errors of housekeeping calls that the next round makes good.
fn survivable(error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Retry | ErrorKind::ConnectionLost | ErrorKind::LockTimeout => Ok(()),
        _ => Err(error),
    }
}

/// Grows by half each time; the jitter keeps two runners apart and comes from the token, so that a run can
/// be replayed.
fn pause(attempt: u32, token: Fence) -> Duration {
    let grown = ATTEMPT_PAUSE.mul_f64(1.5_f64.powi(i32::try_from(attempt.min(30)).unwrap_or(30)));
    let jitter = (token.0.wrapping_mul(31).wrapping_add(u64::from(attempt) * 17)) % 50;
    grown.min(ATTEMPT_PAUSE_MAX).mul_f64(0.75 + jitter as f64 / 100.0)
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

    #[test]
    fn pauses_grow_and_end_growing() {
        assert!(pause(1, Fence(1)) < Duration::from_secs(1));
        assert!(pause(39, Fence(1)) <= ATTEMPT_PAUSE_MAX.mul_f64(1.25));
        assert!(pause(10, Fence(1)) > pause(3, Fence(1)));
    }
}
