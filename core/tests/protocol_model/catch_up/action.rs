//! What can happen next, and what it changes.

use super::{Batch, CHUNKS, CatchUp, Chunk, Item, LANES, Runner, State, Statement, lane_of};
use crate::history::{KEYS, Snapshot};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The application's next transaction is written to the log.
    Commit,
    /// A logged transaction becomes visible to new reads.
    Show(usize),
    /// The feed hands over the keys of the next transaction.
    Deliver,
    /// A chunk gets its id.
    BeginChunk(usize),
    /// A chunk's statement takes its snapshot.
    ReadChunk(usize),
    /// A chunk's statement commits.
    WriteChunk(usize),
    /// A lane's statement reads the rows of all keys that may be applied.
    ReadBatch(usize),
    /// A lane's statement commits.
    WriteBatch(usize),
    /// The connection of a sent statement breaks: the runner does not learn what became of it.
    LoseChunk(usize),
    LoseBatch(usize),
    /// A row that lost a conflict goes back into the queue.
    Requeue(usize),
    /// The deferred unique index is built.
    BuildIndex,
    /// The runner renames the shadow; lost statements are over, one way or the other, and repeated.
    Fence,
    /// The runner dies with this saved position and these chunks saved as finished.
    Crash {
        saved: u8,
        copied: u8,
    },
    /// A statement that nobody waits for is executed.
    RunZombie(usize),
    /// A new runner takes over: fence, then load the checkpoint.
    TakeOver,
}

impl CatchUp {
    pub fn enabled(&self, state: &State, actions: &mut Vec<Action>) {
        let history = self.history(state);
        let next = state.committed as usize;
        if next < history.len() && history.can_commit(next, state.visible) {
            actions.push(Action::Commit);
        }
        for transaction in (0..next).filter(|index| state.visible & 1 << index == 0) {
            actions.push(Action::Show(transaction));
        }
        for (index, _) in state.zombies.iter().enumerate().filter(|(_, zombie)| zombie.is_some()) {
            actions.push(Action::RunZombie(index));
        }
        match &state.runner {
            None => actions.push(Action::TakeOver),
            Some(runner) => self.runner_actions(state, runner, actions),
        }
    }

    fn runner_actions(&self, state: &State, runner: &Runner, actions: &mut Vec<Action>) {
        let is_settled = state.visible & 1 << runner.delivered != 0 || !self.rules.settle;
        if runner.delivered < state.committed && is_settled {
            actions.push(Action::Deliver);
        }
        for chunk in 0..CHUNKS {
            match runner.chunks[chunk] {
                Chunk::Waiting if runner.copied & 1 << chunk == 0 => {
                    actions.push(Action::BeginChunk(chunk));
                }
                Chunk::Waiting | Chunk::Lost => {}
                Chunk::Begun | Chunk::ReadEarly(_) => actions.push(Action::ReadChunk(chunk)),
                Chunk::Read(_) => {
                    actions.push(Action::WriteChunk(chunk));
                    if state.losses_left > 0 {
                        actions.push(Action::LoseChunk(chunk));
                    }
                }
            }
        }
        for lane in 0..LANES {
            match runner.lanes[lane] {
                None if self.applicable(runner, lane) != 0 => actions.push(Action::ReadBatch(lane)),
                Some(batch) if !batch.is_lost => {
                    actions.push(Action::WriteBatch(lane));
                    if state.losses_left > 0 {
                        actions.push(Action::LoseBatch(lane));
                    }
                }
                None | Some(_) => {}
            }
        }
        for key in (0..KEYS).filter(|&key| runner.displaced[key].is_some()) {
            actions.push(Action::Requeue(key));
        }
        if !state.is_indexed && runner.copied == (1 << CHUNKS) - 1 && self.can_build_index(state) {
            actions.push(Action::BuildIndex);
        }
        // The rename waits for the statements that still run, so the runner lets them end first.
        if runner.has_lost_statement() && runner.statements().next().is_none() {
            actions.push(Action::Fence);
        }
        if state.crashes_left > 0 {
            let unsaved = runner.copied_for_good() & !state.copied;
            for saved in state.saved..=self.checkpoint(state) {
                // Every subset of the chunks that are finished and not saved as such.
                let mut also = unsaved;
                loop {
                    actions.push(Action::Crash { saved, copied: state.copied | also });
                    if also == 0 {
                        break;
                    }
                    also = (also - 1) & unsaved;
                }
            }
        }
    }

    /// The keys that a free lane would take into its next batch.
    fn applicable(&self, runner: &Runner, lane: usize) -> u8 {
        if self.rules.bare_copy && runner.copied != (1 << CHUNKS) - 1 {
            return 0;
        }
        (0..KEYS)
            .filter(|&key| lane_of(key) == lane || !self.rules.lanes)
            .filter(|&key| runner.queue[key].is_some_and(|item| item.waits_for == 0 || !self.rules.epochs))
            .fold(0, |keys, key| keys | 1 << key)
    }

    pub fn after(&self, mut state: State, action: Action) -> State {
        match action {
            Action::Commit => {
                state.committed += 1;
                return state;
            }
            Action::Show(transaction) => {
                state.visible |= 1 << transaction;
                return state;
            }
            Action::RunZombie(index) => {
                let statement = state.zombies[index].take().expect("only statements that exist run");
                state.zombies.sort_unstable();
                self.execute_late(&mut state, statement);
                return state;
            }
            Action::TakeOver => {
                if self.rules.fence {
                    state.zombies = Default::default();
                }
                let from = if self.rules.resume_at_checkpoint { state.saved } else { state.committed };
                state.runner = Some(Runner::resumed(from, state.copied));
                return state;
            }
            _ => {}
        }
        let mut runner = state.runner.take().expect("a dead runner does nothing");
        match action {
            Action::Deliver => self.deliver(&state, &mut runner),
            Action::BeginChunk(chunk) => {
                runner.chunks[chunk] =
                    if self.rules.snapshot_after_id { Chunk::Begun } else { Chunk::ReadEarly(state.visible) };
            }
            Action::ReadChunk(chunk) => {
                runner.chunks[chunk] = match runner.chunks[chunk] {
                    Chunk::ReadEarly(snapshot) => Chunk::Read(snapshot),
                    _ => Chunk::Read(state.visible),
                };
            }
            Action::WriteChunk(chunk) => {
                if let Chunk::Read(snapshot) = runner.chunks[chunk] {
                    let losers = self.execute(&mut state, Statement::Copy { chunk, snapshot });
                    self.learn_left_out(&mut runner, losers);
                }
                runner.chunks[chunk] = Chunk::Waiting;
                runner.copied |= 1 << chunk;
                runner.release_waiters(chunk);
            }
            Action::ReadBatch(lane) => {
                runner.lanes[lane] = Some(self.batch(&mut runner, lane, state.visible));
            }
            Action::WriteBatch(lane) => {
                let batch = runner.lanes[lane].take().expect("a batch is written once");
                let Batch { keys, snapshot, .. } = batch;
                let losers = self.execute(&mut state, Statement::Apply { keys, snapshot });
                self.learn_displaced(&mut runner, batch, losers);
            }
            Action::LoseChunk(chunk) => {
                if let Chunk::Read(snapshot) = runner.chunks[chunk] {
                    state.leave_behind(Statement::Copy { chunk, snapshot });
                }
                runner.chunks[chunk] = Chunk::Lost;
                if !self.rules.lost_chunk_blocks {
                    runner.release_waiters(chunk);
                }
                state.losses_left -= 1;
            }
            Action::LoseBatch(lane) => {
                let batch = runner.lanes[lane].as_mut().expect("only a sent batch is lost");
                batch.is_lost = true;
                let Batch { keys, snapshot, .. } = *batch;
                state.leave_behind(Statement::Apply { keys, snapshot });
                state.losses_left -= 1;
            }
            Action::Requeue(key) => {
                let waits_for = runner.chunks_in_flight();
                let position = runner.displaced[key].take().expect("only a key that lost is queued again");
                runner.enqueue(key, Item { position, waits_for });
            }
            Action::BuildIndex => self.build_index(&mut state),
            Action::Fence => self.repeat_lost(&mut state, &mut runner),
            Action::Crash { saved, copied } => {
                runner.statements().for_each(|statement| state.leave_behind(statement));
                state.saved = saved;
                state.copied = copied;
                state.crashes_left -= 1;
                return state;
            }
            Action::Commit | Action::Show(_) | Action::RunZombie(_) | Action::TakeOver => {}
        }
        state.runner = Some(runner);
        state
    }

    fn deliver(&self, state: &State, runner: &mut Runner) {
        let position = runner.delivered;
        let waits_for = runner.chunks_in_flight();
        for key in (0..KEYS).filter(|&key| self.history(state).touches(position as usize, key)) {
            runner.enqueue(key, Item { position, waits_for });
        }
        runner.delivered += 1;
    }

    /// The rows that a chunk had to leave out.
    fn learn_left_out(&self, runner: &mut Runner, losers: u8) {
        for key in (0..KEYS).filter(|key| losers & 1 << key != 0) {
            runner.displace(key, runner.delivered);
        }
        if self.hold().is_some_and(|hold| hold.holds_chunk) {
            runner.left_out |= losers;
        }
    }

    /// The rows that made way for a batch, or that it left out. Its other rows are in the shadow now, or
    /// gone from the source.
    fn learn_displaced(&self, runner: &mut Runner, batch: Batch, losers: u8) {
        let owes_to_oldest = self.hold().is_some_and(|hold| hold.owes_to_oldest);
        for key in (0..KEYS).filter(|key| losers & 1 << key != 0) {
            let owes_to_batch = owes_to_oldest || batch.keys & 1 << key != 0;
            runner.displace(key, if owes_to_batch { batch.position } else { runner.delivered });
        }
        runner.left_out &= !batch.keys | losers;
    }

    fn batch(&self, runner: &mut Runner, lane: usize, snapshot: Snapshot) -> Batch {
        let keys = self.applicable(runner, lane);
        let items = (0..KEYS).filter(|key| keys & 1 << key != 0).filter_map(|key| runner.queue[key].take());
        let position = items.map(|item| item.position).min().expect("a batch has a key");
        Batch { keys, position, snapshot, is_lost: false }
    }

    /// After the rename nothing lost can run any more: put it back to be done again.
    fn repeat_lost(&self, state: &mut State, runner: &mut Runner) {
        if self.rules.fence {
            state.zombies = Default::default();
        }
        if self.rules.reload_after_fence {
            runner.copied |= state.copied;
        }
        for chunk in 0..CHUNKS {
            if runner.chunks[chunk] == Chunk::Lost {
                runner.chunks[chunk] = Chunk::Waiting;
                runner.release_waiters(chunk);
            }
        }
        let has_lost_batch = runner.lanes.iter().flatten().any(|batch| batch.is_lost);
        if has_lost_batch && self.hold().is_some_and(|hold| hold.resumes_after_loss) {
            *runner = Runner::resumed(runner.lowest_unfinished(), runner.copied_for_good());
        }
        for lane in 0..LANES {
            if let Some(batch) = runner.lanes[lane].take_if(|batch| batch.is_lost) {
                for key in (0..KEYS).filter(|key| batch.keys & 1 << key != 0) {
                    runner.enqueue(key, Item { position: batch.position, waits_for: 0 });
                }
            }
        }
    }
}
