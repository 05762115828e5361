//! A rebuild from wherever its run is: forward to the swap, back, warm in between, and out.

use std::sync::Arc;

use jiff::Timestamp;

use super::Runner;
use crate::driver::{Owner, Rebuild};
use crate::engine::boundary::Boundary;
use crate::engine::cut_over::{fence, owner, unknown_owner};
use crate::engine::pump::{End, Goal, Pump};
use crate::engine::record::Record;
use crate::event::Body;
use crate::run::{Checkpoint, Direction, Run, RunState};
use crate::{Error, ErrorKind, Result};

impl Runner {
    /// From wherever the run is to the swap, and past it.
    pub(super) async fn forward(&self, record: &mut Record) -> Result<()> {
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
    pub(super) async fn backward(&self, record: &mut Record) -> Result<()> {
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

    pub(super) async fn keep_warm(&self, record: &mut Record) -> Result<()> {
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

    pub(super) async fn finalize_rebuild(&self, record: &mut Record) -> Result<()> {
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

    pub(super) async fn abort_rebuild(&self, record: &mut Record) -> Result<()> {
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

fn is_no_way_back(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused | ErrorKind::Unfit | ErrorKind::FeedGap | ErrorKind::ForeignDdl)
}

fn refuse(error: Error) -> Error {
    if error.kind() != ErrorKind::Unfit {
        return error;
    }
    Error::new(ErrorKind::Refused, error.to_string()).hint("change the row, then `replank revert` again")
}
