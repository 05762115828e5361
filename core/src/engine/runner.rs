//! What the commands call: start, go on, take back, make final, give up, compare.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::boundary::Boundary;
use super::cut_over::{fence, owner, unknown_owner};
use super::native;
use super::pump::{End, Goal, Pump};
use super::record::Record;
use super::way_out::with_way_out;
use crate::control::Answer;
use crate::driver::{Owner, Rebuild, RebuildJob, Revision, Session};
use crate::event::{Body, Reporter};
use crate::ident::{Fence, RunId, TableId};
use crate::journal::patience::repeatedly;
use crate::journal::{host, lease};
use crate::plan::Plan;
use crate::run::{Checkpoint, Direction, Run, RunOptions, RunState};
use crate::{Error, ErrorKind, Result};

/// A restart with recovery takes minutes; who is away for longer needs a person. Chosen.
const AWAY_MAX: Duration = Duration::from_secs(300);
const AWAY_PAUSE: Duration = Duration::from_secs(1);
/// A server that goes away so often in one run has another trouble. Chosen.
const RETURNS_MAX: u32 = 20;

/// Carries runs out on one target.
///
/// Every method takes the table's lease and gives it back at its end, however it ends; a process that is
/// killed leaves it to expire. Each may be called again for the same run, by any process: it goes on from
/// where the journal says the run is.
pub struct Runner {
    session: Arc<dyn Session>,
    reporter: Arc<dyn Reporter>,
    stop: watch::Receiver<bool>,
}

/// What a comparison on the side found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Rows compared.
    pub rows: u64,
    /// The run.
    pub run: RunId,
}

impl Runner {
    /// A runner on a session. `stop` becomes true when the person interrupts.
    pub fn new(session: Arc<dyn Session>, reporter: Arc<dyn Reporter>, stop: watch::Receiver<bool>) -> Self {
        Self { session, reporter, stop }
    }

    /// Starts a run, or goes on with the interrupted one of the same plan.
    ///
    /// Ends with the run `reversible`, or `finalized` where the person gave up the way back.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] while another run works on the table or keeps a retired table of it;
    /// [`ErrorKind::Gate`] when it waits for the person; all kinds of the engine. The run can then be
    /// resumed or aborted, as the hint says.
    pub async fn apply(&self, plan: Plan, options: RunOptions, migration: Option<String>) -> Result<Run> {
        let store = self.session.state();
        repeatedly(|| store.ensure()).await?;
        let interrupted = repeatedly(|| store.runs())
            .await?
            .into_iter()
            .rev()
            .find(|run| is_interrupted(run) && run.table == plan.table.id && run.plan.hash == plan.hash);
        if let Some(interrupted) = interrupted {
            return self.resume(&interrupted.id).await;
        }
        let id = RunId::random();
        let me = host::this_process(&id);
        let token = self.take_lease(&plan.table.id, &id).await?;
        boundary_before_record(Boundary::LeaseTaken, &*self.reporter);
        let run = Run {
            id,
            table: plan.table.id.clone(),
            statement: plan.statement.clone(),
            plan,
            options,
            state: RunState::Planned,
            resume_state: None,
            direction: Direction::Forward,
            fence: token,
            checkpoint: Checkpoint::default(),
            steps_done: 0,
            reverse_position: None,
            format: Default::default(),
            is_swapped_back: false,
            cutover_requested: false,
            migration,
            note: None,
            started: Timestamp::now(),
            ended: None,
        };
        if let Err(refused) = self.refuse_if_busy(&run).await {
            store.release_lease(&run.table, token).await?;
            return Err(refused);
        }
        let revision = match store.create(&run).await {
            // Was it made? Only we know of its name.
            Err(error) if error.kind() == ErrorKind::ConnectionLost => {
                match repeatedly(|| store.load(&run.id)).await? {
                    Some((_, revision)) => revision,
                    None => match store.create(&run).await {
                        Ok(revision) => revision,
                        // The first one came just before.
                        Err(error) => match repeatedly(|| store.load(&run.id)).await? {
                            Some((_, revision)) => revision,
                            None => return Err(error),
                        },
                    },
                }
            }
            created => created?,
        };
        let record =
            Record::new(Arc::clone(&self.session), Arc::clone(&self.reporter), run, revision, token, me);
        record.pass(Boundary::RunSaved);
        let started = json!({ "statement": record.run.statement, "plan": record.run.plan.hash });
        record.note("started", started).await?;
        self.finish(record, Work::Forward).await
    }

    /// The run of this statement that was interrupted, if there is one: the same statement again goes on
    /// with it, without being planned again over what it has begun.
    pub async fn find_interrupted(&self, statement: &str) -> Result<Option<Run>> {
        let runs = repeatedly(|| self.session.state().runs()).await?;
        Ok(runs.into_iter().rev().find(|run| is_interrupted(run) && run.statement.trim() == statement.trim()))
    }

    /// Goes on with a run, in whatever state it is. A reversible run is kept warm until it is stopped.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown run, [`ErrorKind::Refused`] for one that has ended.
    pub async fn resume(&self, id: &RunId) -> Result<Run> {
        let record = self.take_over(id).await?;
        let work = match (record.run.stands(), record.run.direction) {
            (state, _) if state.is_final() => {
                return self.give_back(&record, ended(&record.run)).await;
            }
            (RunState::Reversible | RunState::Expanded, _) => Work::Warm,
            (_, Direction::Forward) => Work::Forward,
            (_, Direction::Reverse) => Work::Backward,
        };
        self.finish(record, work).await
    }

    /// Lets a run that waits at its gate swap, and goes on with it.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a run that has swapped already, or has ended.
    pub async fn cutover(&self, id: &RunId) -> Result<Run> {
        let mut record = self.take_over(id).await?;
        if record.run.state.is_final() {
            return self.give_back(&record, ended(&record.run)).await;
        }
        if record.run.state.is_reversible() {
            let error = Error::new(ErrorKind::Refused, format!("run {id} has cut over already"))
                .hint(format!("take it back with `replank revert {id}`"));
            return self.give_back(&record, error).await;
        }
        record.run.cutover_requested = true;
        if let Err(error) = record.save().await {
            return self.give_back(&record, error).await;
        }
        let work = match record.run.direction {
            Direction::Forward => Work::Forward,
            Direction::Reverse => Work::Backward,
        };
        self.finish(record, work).await
    }

    /// Changes the limits of a run that nobody works on, for the next runner.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a limit that is not known, and [`ErrorKind::Refused`] for a run that has
    /// ended; nothing is changed then.
    pub async fn throttle(&self, id: &RunId, set: &BTreeMap<String, String>) -> Result<Run> {
        let mut record = self.take_over(id).await?;
        if record.run.state.is_final() {
            return self.give_back(&record, ended(&record.run)).await;
        }
        let mut limits = record.run.options.limits.clone();
        if let Err(error) = set.iter().try_for_each(|(name, value)| limits.set(name, value)) {
            return self.give_back(&record, error).await;
        }
        record.run.options.limits = limits;
        let saved = record.save().await;
        self.release(&record).await?;
        saved?;
        record.note("throttled", json!({ "set": set })).await?;
        Ok(record.run)
    }

    /// Takes a run back, with every write made since.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the way back is gone or a value cannot be held by the old shape.
    pub async fn revert(&self, id: &RunId) -> Result<Run> {
        let record = self.take_over(id).await?;
        let run = &record.run;
        let is_going_back = run.direction == Direction::Reverse && !run.state.is_final();
        if !run.state.is_reversible() && !is_going_back {
            let error = if run.state.is_final() {
                ended(run)
            } else {
                Error::new(
                    ErrorKind::Refused,
                    format!("run {id} has not been applied yet: it is {}", run.state),
                )
                .hint(format!("`replank abort {id}` undoes what was begun"))
            };
            return self.give_back(&record, error).await;
        }
        if !run.options.revertible {
            let reason = run.note.as_deref().unwrap_or("--no-revert");
            let error = Error::new(ErrorKind::Refused, format!("run {id} has no way back: {reason}"))
                .hint(format!("`replank finalize {id}` removes what is left of it"));
            return self.give_back(&record, error).await;
        }
        self.finish(record, Work::Backward).await
    }

    /// Makes a run final: the retired table and the reverse feed are removed.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a run that is not reversible. A finalized run is left as it is.
    pub async fn finalize(&self, id: &RunId) -> Result<Run> {
        let record = self.take_over(id).await?;
        if record.run.state == RunState::Finalized {
            self.release(&record).await?;
            return Ok(record.run);
        }
        if !record.run.state.is_reversible() {
            let error =
                Error::new(ErrorKind::Refused, format!("run {id} is {}, not reversible", record.run.state))
                    .hint(format!("see `replank status {id}`"));
            return self.give_back(&record, error).await;
        }
        self.finish(record, Work::Finalize).await
    }

    /// Gives a run up before its swap: everything that it made is removed. A revert under way is given up
    /// likewise, and the run is reversible again.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] after the swap.
    pub async fn abort(&self, id: &RunId) -> Result<Run> {
        let record = self.take_over(id).await?;
        if record.run.state.is_final() {
            return self.give_back(&record, ended(&record.run)).await;
        }
        if record.run.state.is_reversible() {
            let error = Error::new(ErrorKind::Refused, format!("run {id} has been applied"))
                .hint(format!("take it back with `replank revert {id}`"));
            return self.give_back(&record, error).await;
        }
        self.finish(record, Work::Abort).await
    }

    /// Compares every row of a reversible run's live and retired table.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when rows differ; [`ErrorKind::Refused`] when there is nothing to compare.
    pub async fn verify(&self, id: &RunId) -> Result<Verified> {
        let mut record = self.take_over(id).await?;
        let comparable = record.run.state.is_reversible() && record.run.plan.is_rebuild();
        if !comparable || !record.run.options.revertible {
            let error = Error::new(
                ErrorKind::Refused,
                format!("run {id} has no second table to compare with: it is {}", record.run.state),
            )
            .hint("rows are always compared before a swap; after it, while the run is reversible");
            return self.give_back(&record, error).await;
        }
        let result = self.verify_held(&mut record).await;
        self.release(&record).await?;
        let rows = result?;
        record.note("verified", json!({ "rows": rows })).await?;
        Ok(Verified { rows, run: id.clone() })
    }

    async fn verify_held(&self, record: &mut Record) -> Result<u64> {
        let rebuild = self.open(record).await?;
        fence(&rebuild, record.token()).await?;
        let mut pump = Pump::new(rebuild, record, RunState::CatchingUp, Goal::Verify, self.stop.clone());
        pump.drive_to_end().await?;
        Ok(pump.rows_compared())
    }

    /// Works on a run under its lease, and records how that ended.
    async fn finish(&self, mut record: Record, work: Work) -> Result<Run> {
        let mut result = self.work_on(&mut record, work).await;
        if let Err(error) = &result
            && let Some(overtaken) = self.record_failure(&mut record, error).await
        {
            // Whatever went wrong, it is somebody else's run now.
            result = Err(overtaken.with("first", error.message()));
        }
        let released = self.release(&record).await;
        result.map_err(|error| with_way_out(error, &record.run))?;
        released?;
        Ok(record.run)
    }

    /// Works, and goes on where the server was away meanwhile.
    async fn work_on(&self, record: &mut Record, mut work: Work) -> Result<()> {
        for _ in 0..RETURNS_MAX {
            let lost = match self.work(record, work).await {
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::Retry) => error,
                ended => return ended,
            };
            let message = format!("the server was lost ({}); waiting for it", lost.message());
            record.say(Body::Warning { message });
            if !self.returned(record).await? {
                return Err(lost);
            }
            match left_to_do(work, &record.run) {
                Some(left) => work = left,
                None => return Ok(()),
            }
        }
        self.work(record, work).await
    }

    /// Waits for a server that is away. Answers false when it stays away, or the person does not want to wait.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when another runner took over meanwhile.
    async fn returned(&self, record: &mut Record) -> Result<bool> {
        let until = Instant::now() + AWAY_MAX;
        while Instant::now() < until && !*self.stop.borrow() {
            match record.take_up_again().await {
                Ok(()) => return Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::NotFound) => {
                    return Err(error);
                }
                // A server that is starting answers in many ways.
                Err(error) => tracing::debug!(%error, "not back yet"),
            }
            tokio::time::sleep(AWAY_PAUSE).await;
        }
        Ok(false)
    }

    async fn work(&self, record: &mut Record, work: Work) -> Result<()> {
        let is_rebuild = record.run.plan.is_rebuild();
        match work {
            Work::Forward if is_rebuild => self.forward(record).await,
            Work::Forward => native::forward(record, &self.stop).await,
            Work::Backward if is_rebuild => self.backward(record).await,
            Work::Backward => native::backward(record, &self.stop).await,
            Work::Warm if is_rebuild && record.run.options.revertible => self.keep_warm(record).await,
            Work::Warm => Err(Error::new(ErrorKind::Refused, format!("run {} is applied", record.run.id))
                .hint(format!(
                    "take it back with `replank revert {0}`, or `replank finalize {0}`",
                    record.run.id
                ))),
            Work::Finalize if is_rebuild => self.finalize_rebuild(record).await,
            Work::Finalize => native::finalize(record, &self.stop).await,
            Work::Abort if is_rebuild => self.abort_rebuild(record).await,
            Work::Abort => native::backward(record, &self.stop).await,
        }
    }

    /// From wherever the run is to the swap, and past it.
    async fn forward(&self, record: &mut Record) -> Result<()> {
        let rebuild = self.open(record).await?;
        if record.run.checkpoint.prepared {
            if self.was_swapped(record, &rebuild).await? {
                return self.after_forward_swap(record).await;
            }
        } else {
            // What a killed runner left is of another token; the journal does not count on it.
            rebuild.discard().await?;
            if let Err(error) = rebuild.prepare().await {
                return self.not_prepared(record, &rebuild, error).await;
            }
            record.pass(Boundary::ShadowCreated);
            record.run.checkpoint.prepared = true;
        }
        record.run.fence = record.token();
        if record.run.checkpoint.position.is_none() {
            record.run.checkpoint.position = Some(rebuild.head().await?);
            record.pass(Boundary::FeedOpened);
        }
        let (state, message) = entry_state(&record.run);
        record.run.resume_state = None;
        record.run.note = None;
        record.enter(state, message).await?;
        let pump = Pump::new(rebuild, record, state, Goal::Swap, self.stop.clone());
        match pump.run().await? {
            End::Swapped => self.after_forward_swap(record).await,
            End::Gate => {
                Err(Error::new(ErrorKind::Gate, "every row is copied and compared; waiting for your word")
                    .hint(format!("replank cutover {}", record.run.id)))
            }
            End::Abort => self.abort_rebuild(record).await,
            End::Verified => {
                Err(Error::new(ErrorKind::Internal, "a run for the swap ended with a comparison"))
            }
        }
    }

    /// A statement that can never be prepared does not keep the table from the next one.
    async fn not_prepared(
        &self,
        record: &mut Record,
        rebuild: &Arc<dyn Rebuild>,
        error: Error,
    ) -> Result<()> {
        if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Usage | ErrorKind::Unfit) {
            rebuild.discard().await?;
            record.run.ended = Some(Timestamp::now());
            record.enter(RunState::Aborted, "refused before a row was copied; nothing is left").await?;
        }
        Err(error)
    }

    /// Whether the swap of this direction took place. Every statement of an earlier runner is over then.
    ///
    /// First the fence, then the question: a swap that was sent may still come (R5).
    async fn was_swapped(&self, record: &Record, rebuild: &Arc<dyn Rebuild>) -> Result<bool> {
        if record.run.is_swapped_back {
            return Ok(true);
        }
        fence(rebuild, record.token()).await?;
        if record.run.stands() != RunState::CuttingOver {
            return Ok(false);
        }
        match owner(rebuild).await? {
            Owner::Shadow => Ok(true),
            Owner::Original => Ok(false),
            Owner::Unknown => Err(unknown_owner(&record.run.table.to_string())),
        }
    }

    async fn after_forward_swap(&self, record: &mut Record) -> Result<()> {
        // What was saved under the lock came with the swap, so only now is it sure to be there.
        record.read_revision().await?;
        if record.run.reverse_position.is_none() && record.run.options.revertible {
            record.read_reverse_position().await?;
        }
        record.run.direction = Direction::Reverse;
        record.run.resume_state = None;
        record.run.note = None;
        record.run.checkpoint = Checkpoint {
            prepared: true,
            position: record.run.reverse_position.take(),
            ..Checkpoint::default()
        };
        if record.run.options.revertible {
            return record
                .enter(RunState::Reversible, "cut over; every write still reaches the old table")
                .await;
        }
        record.run.note = Some("--no-revert".to_owned());
        record.enter(RunState::Reversible, "cut over; removing the old table").await?;
        self.finalize_rebuild(record).await
    }

    /// From wherever the revert is to the second swap, and past it.
    async fn backward(&self, record: &mut Record) -> Result<()> {
        if record.run.state.is_reversible() {
            record.run.checkpoint.verified = Default::default();
            record.run.checkpoint.passes = 0;
            record.run.checkpoint.pass_repaired = 0;
            record.enter(RunState::CatchingUp, "bringing the retired table up to date").await?;
        }
        let rebuild = self.open(record).await?;
        if self.was_swapped(record, &rebuild).await? {
            return self.after_backward_swap(record, &rebuild).await;
        }
        record.run.fence = record.token();
        let (state, message) = entry_state(&record.run);
        record.run.resume_state = None;
        record.enter(state, message).await?;
        let pump = Pump::new(Arc::clone(&rebuild), record, state, Goal::Swap, self.stop.clone());
        match pump.run().await {
            Ok(End::Swapped) => self.after_backward_swap(record, &rebuild).await,
            Ok(End::Abort) => self.abort_rebuild(record).await,
            Ok(End::Gate | End::Verified) => {
                Err(Error::new(ErrorKind::Internal, "a revert ended with something else than its swap"))
            }
            // Refused: the new table stays live, and the run is as reversible as before.
            // Or it cannot be gone on with: then the new table can still be made final.
            Err(error) if is_no_way_back(error.kind()) => {
                record.enter(RunState::Reversible, "not taken back").await?;
                Err(refuse(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn after_backward_swap(&self, record: &mut Record, rebuild: &Arc<dyn Rebuild>) -> Result<()> {
        record.read_revision().await?;
        record.run.is_swapped_back = true;
        record.save().await?;
        say_removing(record, "swapped back; removing the table that was live");
        rebuild.discard().await?;
        record.run.ended = Some(Timestamp::now());
        record.run.resume_state = None;
        record.enter(RunState::Reverted, "taken back; every write made since is kept").await
    }

    async fn keep_warm(&self, record: &mut Record) -> Result<()> {
        let rebuild = self.open(record).await?;
        fence(&rebuild, record.token()).await?;
        record.run.fence = record.token();
        record.save().await?;
        let pump = Pump::new(rebuild, record, RunState::CatchingUp, Goal::Warm, self.stop.clone());
        match pump.run().await? {
            End::Abort => {
                Err(Error::new(ErrorKind::Refused, format!("run {} has been applied", record.run.id))
                    .hint(format!("take it back with `replank revert {}`", record.run.id)))
            }
            End::Swapped | End::Gate | End::Verified => Ok(()),
        }
    }

    async fn finalize_rebuild(&self, record: &mut Record) -> Result<()> {
        let rebuild = self.open(record).await?;
        // From the first removal on there is no way back, also after a crash.
        record.run.options.revertible = false;
        record.run.note = Some("being made final".to_owned());
        record.save().await?;
        say_removing(record, "removing the old table");
        rebuild.discard().await?;
        record.run.note = None;
        record.run.ended = Some(Timestamp::now());
        record.enter(RunState::Finalized, "final; the old table is gone").await
    }

    async fn abort_rebuild(&self, record: &mut Record) -> Result<()> {
        let rebuild = self.open(record).await?;
        let was_swapped = record.run.checkpoint.prepared && self.was_swapped(record, &rebuild).await?;
        if record.run.direction == Direction::Reverse {
            if was_swapped {
                return self.after_backward_swap(record, &rebuild).await;
            }
            record.run.resume_state = None;
            return record.enter(RunState::Reversible, "the revert was given up").await;
        }
        if was_swapped {
            return self.after_forward_swap(record).await;
        }
        // From the first removal on the copy does not count any more: the catalogue could not tell.
        record.run.checkpoint = Checkpoint::default();
        record.run.resume_state = None;
        record.save().await?;
        say_removing(record, "removing the copy");
        rebuild.discard().await?;
        record.run.ended = Some(Timestamp::now());
        record.enter(RunState::Aborted, "given up; nothing is left but the records").await
    }

    /// The run with the lease on its table, now ours.
    async fn take_over(&self, id: &RunId) -> Result<Record> {
        let (run, _) = self.load(id).await?;
        if run.plan.is_rebuild() && !run.state.is_final() {
            // Where it must not go on, nothing is written, not even the lease.
            self.rebuild_of(&run, run.fence).await?;
        }
        let token = self.take_lease(&run.table, id).await?;
        // Read again: the holder before us may have saved until just now.
        let (run, revision) = self.load(id).await?;
        let me = host::this_process(id);
        let record =
            Record::new(Arc::clone(&self.session), Arc::clone(&self.reporter), run, revision, token, me);
        record.pass(Boundary::LeaseTaken);
        // What was asked of the runner before us was not asked of us: it may be long ago, and about a run
        // that has turned round since.
        let store = self.session.state();
        for stale in repeatedly(|| store.pending(id)).await? {
            let answer = Answer::refused("that runner is gone; ask again").write();
            repeatedly(|| store.acknowledge(stale.id, &answer)).await?;
        }
        Ok(record)
    }

    async fn load(&self, id: &RunId) -> Result<(Run, Revision)> {
        repeatedly(|| self.session.state().load(id)).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no run `{id}`")).hint("`replank history` lists the runs")
        })
    }

    async fn take_lease(&self, table: &TableId, id: &RunId) -> Result<Fence> {
        let me = host::this_process(id);
        let reporter = Arc::clone(&self.reporter);
        let table_name = table.to_string();
        let waiting = move |holder: &crate::driver::LeaseHolder, left: std::time::Duration| {
            let message = format!(
                "`{table_name}` is held by process {} on {}; waiting up to {} s for it to give way",
                holder.pid,
                holder.host,
                left.as_secs()
            );
            reporter.report(None, Body::Warning { message });
        };
        lease::take(self.session.state(), table, &me, waiting).await
    }

    async fn open(&self, record: &Record) -> Result<Arc<dyn Rebuild>> {
        self.rebuild_of(&record.run, record.token()).await
    }

    async fn rebuild_of(&self, run: &Run, token: Fence) -> Result<Arc<dyn Rebuild>> {
        let rebuilder = self.session.rebuilder().ok_or_else(|| {
            Error::new(ErrorKind::Refused, "this target cannot rebuild a table")
                .hint("see `replank drivers` for what it can do")
        })?;
        let job = RebuildJob::of(run, token);
        // It changes nothing.
        repeatedly(|| rebuilder.open(&job)).await
    }

    /// One run a table; and one retired table a table.
    async fn refuse_if_busy(&self, new: &Run) -> Result<()> {
        let runs = repeatedly(|| self.session.state().runs()).await?;
        for run in runs.iter().filter(|run| run.table == new.table) {
            if !run.state.is_final() && !run.state.is_reversible() {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("run {} on `{}` is not over: it is {}", run.id, run.table, run.state),
                )
                .hint(format!("`replank resume {0}` or `replank abort {0}` first", run.id)));
            }
            if run.state.is_reversible() && run.plan.is_rebuild() && new.plan.is_rebuild() {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("run {} still keeps a retired table of `{}`", run.id, run.table),
                )
                .hint(format!("`replank finalize {0}` or `replank revert {0}` first", run.id)));
            }
        }
        Ok(())
    }

    /// What the journal says of a run that ended with an error. The error itself is what the caller gets,
    /// so a journal that cannot be written now only goes to the log.
    ///
    /// Answers with the store's own error when it says that another runner took over.
    async fn record_failure(&self, record: &mut Record, error: &Error) -> Option<Error> {
        let (failed, is_ours) = match error.kind() {
            ErrorKind::Fenced | ErrorKind::LeaseHeld => (false, false),
            ErrorKind::Interrupted | ErrorKind::Gate | ErrorKind::Refused | ErrorKind::OutcomeUnknown => {
                (false, true)
            }
            _ => (!record.run.state.is_reversible() && !record.run.state.is_final(), true),
        };
        if !is_ours {
            return None;
        }
        let text = escaped(&error.to_string());
        if failed {
            if record.run.state != RunState::Failed {
                record.run.resume_state = Some(record.run.state);
            }
            record.run.note = Some(text.clone());
            if let Err(unsaved) = record.enter(RunState::Failed, &text).await {
                if unsaved.kind() == ErrorKind::Fenced {
                    return Some(unsaved);
                }
                tracing::warn!(error = %unsaved, "the failure could not be saved");
            }
        }
        if let Err(unsaved) =
            record.note("ended", json!({ "error": text, "exit": error.kind().exit_code() })).await
        {
            tracing::warn!(error = %unsaved, "the end could not be recorded");
        }
        None
    }

    async fn give_back<T>(&self, record: &Record, error: Error) -> Result<T> {
        self.release(record).await?;
        Err(error)
    }

    async fn release(&self, record: &Record) -> Result<()> {
        match record.release().await {
            // It expires by itself.
            Err(error) if error.kind() == ErrorKind::ConnectionLost => Ok(()),
            released => released,
        }
    }
}

/// Not over, and not past its swap.
fn is_interrupted(run: &Run) -> bool {
    run.direction == Direction::Forward && !run.state.is_final() && !run.state.is_reversible()
}

/// What to do with a run.
#[derive(Debug, Clone, Copy)]
enum Work {
    Forward,
    Backward,
    Warm,
    Finalize,
    Abort,
}

/// What of the work is left, by what the journal says of the run.
fn left_to_do(work: Work, run: &Run) -> Option<Work> {
    if run.state.is_final() {
        return None;
    }
    match work {
        Work::Forward if run.state.is_reversible() => (!run.options.revertible).then_some(Work::Finalize),
        Work::Abort if run.state.is_reversible() => None,
        work => Some(work),
    }
}

/// Where a run goes on. A comparison that was complete stays so: what was applied later was compared then.
fn entry_state(run: &Run) -> (RunState, &'static str) {
    if run.direction == Direction::Forward && !run.checkpoint.copied.done {
        (RunState::Copying, "copying rows")
    } else if run.direction == Direction::Forward && run.checkpoint.passes == 0 {
        (RunState::BuildingIndexes, "building what is left of the indexes")
    } else {
        (RunState::CatchingUp, "applying what changed meanwhile")
    }
}

/// A removal in steps that stay within the lock budget takes its time: the person hears of it. The state in
/// the journal stays what it is until it is done.
fn say_removing(record: &Record, message: &str) {
    record.say(Body::Phase { state: record.run.state, message: message.to_owned() });
}

fn ended(run: &Run) -> Error {
    Error::new(ErrorKind::Refused, format!("run {} has ended: it is {}", run.id, run.state))
}

fn is_no_way_back(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused | ErrorKind::Unfit | ErrorKind::FeedGap | ErrorKind::ForeignDdl)
}

fn refuse(error: Error) -> Error {
    if error.kind() != ErrorKind::Unfit {
        return error;
    }
    Error::new(ErrorKind::Refused, error.to_string()).hint("change the row, then `replank revert` again")
}

/// A text that every store can hold: no NUL, no control characters, not longer than 4 KiB.
fn escaped(text: &str) -> String {
    let mut escaped: String = text
        .chars()
        .take(4096)
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect();
    if text.chars().count() > 4096 {
        escaped.push('…');
    }
    escaped
}

fn boundary_before_record(boundary: Boundary, reporter: &dyn Reporter) {
    reporter.report(None, Body::Boundary { name: boundary.name().to_owned() });
    super::boundary::reached(boundary);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_storable() {
        let long = "x".repeat(1 << 20);
        assert!(escaped(&long).chars().count() <= 4097);
        assert_eq!(escaped("a\0b\u{1b}c"), "a\\u{0}b\\u{1b}c");
    }
}
