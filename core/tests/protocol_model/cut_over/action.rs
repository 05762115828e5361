//! What can happen next.

use super::{CutOver, Phase, Runner, State, Step, UnknownSwap};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client writes a row and gets its acknowledgement.
    Write(u8),

    // The feed.
    ReadBatch,
    WriteBatch,
    /// The connection breaks while the batch is being written.
    LoseBatch,
    /// The table that is not live is renamed; what was lost is over.
    Fence,
    Save,
    TrimLog,

    // Cut-over, or revert.
    /// Only where the head is read too early.
    ReadHead,
    Lock,
    /// The server ends the session that keeps writers out; the runner does not notice.
    KillLock,
    /// The lock is given back without a swap.
    GiveUp,
    /// Everything up to the head is applied: install the opposite feed, save the intent.
    Prepare,
    SendSwap,
    ExecuteSwap,
    /// The second half of a swap that is not atomic.
    FinishSwap,
    /// The server does not execute the swap.
    RefuseSwap,
    Acknowledge,
    /// The connection breaks before the answer to the swap arrives.
    LoseAnswer,
    /// The runner makes up its mind about a swap of unknown outcome.
    Resolve,
    Release,
    /// Only where it is not part of preparing.
    InstallReverse,

    /// Finalize or abort: the table that is not live is dropped.
    Finish,

    // Faults.
    Crash,
    TakeOver,
    /// A statement that nobody waits for is executed.
    RunLate,
    /// A runner that was taken for dead goes on: it saves its state.
    SleeperSaves,
    /// Or it deletes from the log.
    SleeperTrims,
    /// Or it finishes the run.
    SleeperDrops,
}

impl CutOver {
    pub fn enabled(&self, state: &State, actions: &mut Vec<Action>) {
        let writers_are_out = state.lock.is_some() || state.live.is_none();
        if state.writes_left > 0 && !writers_are_out {
            actions.extend([Action::Write(0), Action::Write(1)]);
        }
        self.server_actions(state, actions);
        if state.sleeper.is_some() {
            actions.extend([Action::SleeperSaves, Action::SleeperTrims, Action::SleeperDrops]);
        }
        match &state.runner {
            Some(runner) => self.runner_actions(state, runner, actions),
            None => {
                let can_start = self.can_rename(state) || !self.rules.fence;
                if state.saved.phase != Phase::Finished && state.live.is_some() && can_start {
                    actions.push(Action::TakeOver);
                }
            }
        }
    }

    /// The fence waits for a swap that is being executed.
    fn can_rename(&self, state: &State) -> bool {
        state.swap.is_none() || !self.rules.swap_bound_to_lock
    }

    fn server_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.late.is_some() {
            actions.push(Action::RunLate);
        }
        if state.live.is_none() {
            actions.push(Action::FinishSwap);
            return;
        }
        let Some(swap) = state.swap else { return };
        let is_protected = state.lock == Some(swap.token);
        let can_execute =
            state.finds(swap.to, swap.token) && (is_protected || !self.rules.swap_bound_to_lock);
        if can_execute {
            actions.push(Action::ExecuteSwap);
        }
        if !can_execute || swap.is_orphan || state.losses_left > 0 {
            actions.push(Action::RefuseSwap);
        }
    }

    fn runner_actions(&self, state: &State, runner: &Runner, actions: &mut Vec<Action>) {
        let can_apply = matches!(runner.step, Step::CatchUp | Step::Locked);
        if can_apply {
            match runner.batch {
                None if runner.applied < state.log[runner.source as usize].len => {
                    actions.push(Action::ReadBatch);
                }
                None => {}
                Some(_) => {
                    actions.push(Action::WriteBatch);
                    if state.losses_left > 0 && state.late.is_none() {
                        actions.push(Action::LoseBatch);
                    }
                }
            }
        }
        let holds_lock = state.lock == Some(runner.token);
        if holds_lock && state.swap.is_none() && state.losses_left > 0 {
            actions.push(Action::KillLock);
        }
        let is_idle = runner.batch.is_none();
        match runner.step {
            Step::CatchUp => self.catch_up_actions(state, runner, actions),
            Step::Locked if is_idle => {
                actions.push(Action::GiveUp);
                if runner.applied >= runner.head || !self.rules.drain {
                    actions.push(Action::Prepare);
                }
            }
            Step::Locked => {}
            Step::Prepared => actions.extend([Action::GiveUp, Action::SendSwap]),
            Step::SwapSent => {
                if state.swap.is_none() && state.live.is_some() {
                    actions.push(Action::Acknowledge);
                }
                if state.losses_left > 0 {
                    actions.push(Action::LoseAnswer);
                }
            }
            Step::Unknown => {
                if self.rules.unknown_swap != UnknownSwap::FenceThenAsk {
                    actions.push(Action::Resolve);
                } else if self.can_rename(state) {
                    actions.push(Action::Fence);
                }
            }
            Step::Fenced => actions.push(Action::Resolve),
            Step::Swapped => actions.push(Action::Release),
            Step::MustFence if self.can_rename(state) => actions.push(Action::Fence),
            Step::MustFence => {}
        }
        if state.crashes_left > 0 {
            actions.push(Action::Crash);
        }
    }

    fn catch_up_actions(&self, state: &State, runner: &Runner, actions: &mut Vec<Action>) {
        let log = &state.log[runner.source as usize];
        if !log.is_fed {
            actions.push(Action::InstallReverse);
        }
        if runner.save(state.saved) != state.saved {
            actions.push(Action::Save);
        }
        let is_saved = state.saved.phase == Phase::Live(runner.source);
        if is_saved && log.trimmed < state.saved.position[runner.source as usize] {
            actions.push(Action::TrimLog);
        }
        if !self.rules.head_under_lock && runner.head != log.len {
            actions.push(Action::ReadHead);
        }
        if runner.batch.is_some() {
            return;
        }
        // Somebody else's session keeps the lock until the server has given it up.
        if state.swaps_left > 0 && state.lock.is_none() && log.is_fed {
            actions.push(Action::Lock);
        }
        if is_saved {
            actions.push(Action::Finish);
        }
    }
}
