//! What the commands call: start, go on, take back, make final, give up, compare.

mod held;
mod rebuilding;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use self::work::Work;
use super::boundary::{self, Boundary};
use super::cut_over::fence;
use super::native;
use super::pump::{Goal, Pump};
use super::record::Record;
use crate::driver::Session;
use crate::event::{Body, Reporter};
use crate::ident::RunId;
use crate::journal::host;
use crate::journal::patience::repeatedly;
use crate::plan::{Plan, Step};
use crate::run::{Checkpoint, Direction, Origin, Run, RunOptions, RunState};
use crate::{Error, ErrorKind, Result};

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
    pub async fn apply(&self, plan: Plan, options: RunOptions, origin: Origin) -> Result<Run> {
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
            ranges: None,
            reverse_position: None,
            format: Default::default(),
            is_swapped_back: false,
            cutover_requested: false,
            takes_back: origin.takes_back,
            migration: origin.migration,
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
        let run = self.finish(record, Work::Forward).await?;
        self.complete(run).await
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
            (_, Direction::Reverse) => Work::Backward { discards: false },
        };
        let run = self.finish(record, work).await?;
        self.complete(run).await
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
            Direction::Reverse => Work::Backward { discards: false },
        };
        let run = self.finish(record, work).await?;
        self.complete(run).await
    }

    /// Changes the limits of a run that nobody works on, for the next runner.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a limit that is not known, and [`ErrorKind::Refused`] for a run that has
    /// ended; nothing is changed then.
    pub async fn throttle(&self, id: &RunId, set: &BTreeMap<String, String>) -> Result<Run> {
        self.change_options(id, json!({ "set": set }), |options| options.limits.set_all(set)).await
    }

    async fn change_options(
        &self,
        id: &RunId,
        note: serde_json::Value,
        change: impl FnOnce(&mut RunOptions) -> Result<()> + Send,
    ) -> Result<Run> {
        let mut record = self.take_over(id).await?;
        if record.run.state.is_final() {
            return self.give_back(&record, ended(&record.run)).await;
        }
        let mut options = record.run.options.clone();
        if let Err(error) = change(&mut options) {
            return self.give_back(&record, error).await;
        }
        record.run.options = options;
        let saved = record.save().await;
        self.release(&record).await?;
        saved?;
        record.note("throttled", note).await?;
        Ok(record.run)
    }

    /// Changes how long a run that nobody works on may wait for and hold an exclusive lock, for the next runner.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a run that has ended; nothing is changed then.
    pub async fn bound(&self, id: &RunId, lock_budget_ms: u64) -> Result<Run> {
        self.change_options(id, json!({ "lock_budget_ms": lock_budget_ms }), |options| {
            options.lock_budget_ms = lock_budget_ms;
            Ok(())
        })
        .await
    }

    /// Steps of the run whose inverses would drop what was written since, and that are not taken back yet. None for a
    /// rebuild: the old table has what it can hold.
    ///
    /// # Errors
    /// Those of the server; [`ErrorKind::Refused`] while it still runs one of the inverses.
    pub async fn by_rebuild(&self, run: &Run) -> Result<Vec<Step>> {
        repeatedly(|| native::by_rebuild(&*self.session, run)).await
    }

    /// The run that takes this one back and keeps what was written since, if one was begun and not given up.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn taking_back(&self, run: &RunId) -> Result<Option<Run>> {
        let runs = repeatedly(|| self.session.state().runs()).await?;
        let is_it = |other: &Run| {
            other.takes_back.as_ref() == Some(run)
                && !matches!(other.state, RunState::Aborted | RunState::Reverted)
        };
        Ok(runs.into_iter().rev().find(is_it))
    }

    /// The run that was taken back is over once the one that does it has swapped.
    async fn complete(&self, run: Run) -> Result<Run> {
        let Some(first) = &run.takes_back else { return Ok(run) };
        if run.state.is_reversible() || run.state == RunState::Finalized {
            let (other, _) = self.load(first).await?;
            if other.state.is_reversible() {
                let reverted = self.revert(first).await;
                reverted.map_err(|error| match error.hint_text() {
                    Some(_) => error,
                    None => error.hint(format!("go on with `replank revert {first}`")),
                })?;
            }
        }
        Ok(run)
    }

    /// Takes a run back, with every write made since.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the way back is gone, a value cannot be held by the old shape, a later run on the table
    /// can still be taken back, or what was written since would be dropped: see [`Runner::by_rebuild`].
    pub async fn revert(&self, id: &RunId) -> Result<Run> {
        self.take_back(id, false).await
    }

    /// The same, and what was written since to what was added is dropped.
    ///
    /// # Errors
    /// As for [`Runner::revert`].
    pub async fn revert_and_discard(&self, id: &RunId) -> Result<Run> {
        self.take_back(id, true).await
    }

    async fn take_back(&self, id: &RunId, discards: bool) -> Result<Run> {
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
        if let Err(error) = self.refuse_unless_newest(run).await {
            return self.give_back(&record, error).await;
        }
        self.finish(record, Work::Backward { discards }).await
    }

    /// Makes a run final: the retired table and the reverse feed are removed. A run that it has taken back is over first: without
    /// what is removed here nobody could tell any more.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a run that is not reversible. A finalized run is left as it is.
    pub async fn finalize(&self, id: &RunId) -> Result<Run> {
        let (run, _) = self.load(id).await?;
        if run.state.is_reversible() {
            self.complete(run).await?;
        }
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
        match self.taking_back(id).await {
            Ok(None) => {}
            Ok(Some(other)) => {
                let what =
                    format!("run {id} is being taken back by run {}, which is {}", other.id, other.state);
                let error = Error::new(ErrorKind::Refused, what)
                    .hint(format!("`replank revert {id}` goes on with that"));
                return self.give_back(&record, error).await;
            }
            Err(error) => return self.give_back(&record, error).await,
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
}

/// Not over, and not past its swap.
fn is_interrupted(run: &Run) -> bool {
    run.direction == Direction::Forward && !run.state.is_final() && !run.state.is_reversible()
}

fn ended(run: &Run) -> Error {
    Error::new(ErrorKind::Refused, format!("run {} has ended: it is {}", run.id, run.state))
}

fn boundary_before_record(boundary: Boundary, reporter: &dyn Reporter) {
    reporter.report(None, Body::Boundary { name: boundary.name().to_owned() });
    boundary::reached(boundary);
}
