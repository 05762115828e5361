//! What each step changes.

use super::{Action, CutOver, Late, Phase, Runner, State, Step, Swap, UnknownSwap};

impl CutOver {
    pub fn after(&self, mut state: State, action: Action) -> State {
        match action {
            Action::Write(key) => self.write(&mut state, key as usize),
            Action::ExecuteSwap => self.execute_swap(&mut state),
            Action::FinishSwap => {
                let swap = state.swap.take().expect("half a swap is still a swap");
                state.live = Some(swap.to);
                self.end_session(&mut state, swap);
            }
            Action::RefuseSwap => {
                let swap = state.swap.take().expect("only a swap that was sent is refused");
                if !swap.is_orphan && state.losses_left > 0 {
                    state.losses_left -= 1;
                }
                self.end_session(&mut state, swap);
            }
            Action::RunLate => {
                let late = state.late.take().expect("only a statement that exists runs");
                if state.finds(late.table, late.token) {
                    state.rows[late.table as usize][late.key as usize] = late.version;
                }
            }
            Action::SleeperSaves => {
                let sleeper = state.sleeper.take().expect("only a sleeper wakes up");
                if sleeper.token == state.saved.token || !self.rules.save_checks_token {
                    state.saved = sleeper.save(state.saved);
                }
            }
            Action::SleeperTrims => {
                let sleeper = state.sleeper.take().expect("only a sleeper wakes up");
                if sleeper.token == state.saved.token || !self.rules.trim_checks_token {
                    let log = &mut state.log[sleeper.source as usize];
                    let trims_saved_only = self.rules.trims_saved_only;
                    let end = if trims_saved_only { sleeper.saved } else { sleeper.applied };
                    log.trimmed = log.trimmed.max(end);
                }
            }
            Action::SleeperDrops => {
                let sleeper = state.sleeper.take().expect("only a sleeper wakes up");
                if sleeper.token == state.saved.token || !self.rules.drop_checks_token {
                    state.exists[sleeper.source.other() as usize] = false;
                    state.saved.phase = Phase::Finished;
                }
            }
            Action::TakeOver => self.take_over(&mut state),
            _ => self.runner_step(&mut state, action),
        }
        state
    }

    fn write(&self, state: &mut State, key: usize) {
        let table = state.live.expect("clients write to a name that resolves");
        state.writes_left -= 1;
        let version = state.acknowledged[0].max(state.acknowledged[1]) + 1;
        state.rows[table as usize][key] = version;
        state.acknowledged[key] = version;
        let log = &mut state.log[table as usize];
        if log.is_fed {
            log.keys[log.len as usize] = key as u8;
            log.len += 1;
        }
    }

    fn execute_swap(&self, state: &mut State) {
        let swap = state.swap.expect("only a swap that was sent is executed");
        state.swaps_left -= 1;
        state.name_token = swap.token;
        if self.rules.atomic_swap {
            state.live = Some(swap.to);
            state.swap = None;
            self.end_session(state, swap);
        } else {
            state.live = None;
        }
    }

    /// A session whose client is gone ends with its statement, and its lock with it.
    fn end_session(&self, state: &mut State, swap: Swap) {
        if swap.is_orphan && state.lock == Some(swap.token) {
            state.lock = None;
        }
    }

    fn take_over(&self, state: &mut State) {
        let source = match state.saved.phase {
            Phase::Live(table) => table,
            // Asked by identity.
            Phase::CuttingOver | Phase::Finished => state.live.expect("the name resolves"),
        };
        state.saved.token += 1;
        let position = state.saved.position[source as usize];
        let runner = Runner::new(state.saved.token, source, position);
        self.fence(state, &runner);
        state.log[source.other() as usize].is_fed = false;
        state.met_gap |= position < state.log[source as usize].trimmed;
        state.runner = Some(runner);
    }

    fn fence(&self, state: &mut State, runner: &Runner) {
        if self.rules.fence {
            state.name_token = runner.token;
            state.late = None;
            state.swap = None;
        }
    }

    fn runner_step(&self, state: &mut State, action: Action) {
        let mut runner = state.runner.take().expect("a dead runner does nothing");
        let (source, target) = (runner.source, runner.target());
        match action {
            Action::ReadBatch => {
                state.met_gap |= runner.applied < state.log[source as usize].trimmed;
                let key = state.log[source as usize].keys[runner.applied as usize];
                runner.batch = Some((key, state.rows[source as usize][key as usize]));
            }
            Action::WriteBatch => {
                let (key, version) = runner.batch.take().expect("a batch is read before it is written");
                state.rows[target as usize][key as usize] = version;
                runner.applied += 1;
            }
            Action::LoseBatch => {
                self.leave_batch(state, &mut runner);
                self.unlock(state, &runner);
                state.losses_left -= 1;
                runner.step = Step::MustFence;
            }
            Action::Fence => {
                self.renew_token(state, &mut runner);
                runner.step = if runner.step == Step::Unknown { Step::Fenced } else { Step::CatchUp };
            }
            Action::Save => state.saved = runner.save(state.saved),
            Action::TrimLog => {
                state.log[source as usize].trimmed = state.saved.position[source as usize];
            }
            Action::ReadHead => runner.head = state.log[source as usize].len,
            Action::Lock => {
                state.lock = Some(runner.token);
                if self.rules.head_under_lock {
                    runner.head = state.log[source as usize].len;
                }
                runner.step = Step::Locked;
            }
            Action::KillLock => {
                state.lock = None;
                state.losses_left -= 1;
            }
            Action::GiveUp => self.not_swapped(state, &mut runner),
            Action::Prepare => self.prepare(state, &mut runner),
            Action::SendSwap => {
                state.swap = Some(Swap { token: runner.token, to: target, is_orphan: false });
                if !self.rules.release_after_swap {
                    self.unlock(state, &runner);
                }
                runner.step = Step::SwapSent;
            }
            Action::Acknowledge if state.live == Some(target) => runner.step = Step::Swapped,
            Action::Acknowledge => self.not_swapped(state, &mut runner),
            Action::LoseAnswer => {
                state.losses_left -= 1;
                match &mut state.swap {
                    Some(swap) => swap.is_orphan = true,
                    None => self.unlock(state, &runner),
                }
                runner.step = Step::Unknown;
            }
            Action::Resolve => self.resolve(state, &mut runner),
            Action::Release => {
                self.unlock(state, &runner);
                state.log[source as usize].is_fed = false;
                runner = Runner::new(runner.token, target, runner.reverse_from);
            }
            Action::InstallReverse => {
                state.log[source as usize].is_fed = true;
                runner.applied = state.log[source as usize].len;
            }
            Action::Finish => {
                state.exists[target as usize] = false;
                state.saved.phase = Phase::Finished;
                return;
            }
            Action::Crash => {
                self.crash(state, runner);
                return;
            }
            _ => {}
        }
        state.runner = Some(runner);
    }

    fn prepare(&self, state: &mut State, runner: &mut Runner) {
        let target = runner.target() as usize;
        runner.reverse_from = state.log[target].len;
        if self.rules.reverse_before_release {
            state.log[target].is_fed = true;
        }
        state.saved.position[runner.source as usize] = runner.applied;
        state.saved.position[target] = runner.reverse_from;
        if self.rules.intent_saved {
            state.saved.phase = Phase::CuttingOver;
        }
        runner.step = Step::Prepared;
    }

    fn resolve(&self, state: &mut State, runner: &mut Runner) {
        let is_done = match self.rules.unknown_swap {
            UnknownSwap::FenceThenAsk | UnknownSwap::Ask | UnknownSwap::AskThenFence => {
                state.live == Some(runner.target())
            }
            UnknownSwap::TakenAsNotDone => false,
            UnknownSwap::TakenAsDone => true,
        };
        if is_done {
            runner.step = Step::Swapped;
        } else {
            self.not_swapped(state, runner);
            if self.rules.unknown_swap == UnknownSwap::AskThenFence {
                state.saved = runner.save(state.saved);
                runner.step = Step::MustFence;
            }
        }
    }

    /// Back to catching up; the opposite feed is taken away again.
    fn not_swapped(&self, state: &mut State, runner: &mut Runner) {
        self.unlock(state, runner);
        state.log[runner.target() as usize].is_fed = false;
        *runner = Runner::new(runner.token, runner.source, runner.applied);
    }

    /// Whoever gives up on a statement takes a new token and fences with it.
    fn renew_token(&self, state: &mut State, runner: &mut Runner) {
        state.saved.token += 1;
        runner.token = state.saved.token;
        self.fence(state, runner);
    }

    fn leave_batch(&self, state: &mut State, runner: &mut Runner) {
        if let Some((key, version)) = runner.batch.take() {
            let (table, token) = (runner.target(), state.name_token);
            state.late = Some(Late { table, token, key, version });
        }
    }

    /// Ends the runner's own session; an orphaned swap keeps its lock.
    fn unlock(&self, state: &mut State, runner: &Runner) {
        if state.lock == Some(runner.token) && state.swap.is_none_or(|swap| !swap.is_orphan) {
            state.lock = None;
        }
    }

    fn crash(&self, state: &mut State, mut runner: Runner) {
        state.crashes_left -= 1;
        if runner.step == Step::CatchUp && state.sleeper.is_none() {
            state.sleeper = Some(runner.belief(state.saved));
        }
        self.leave_batch(state, &mut runner);
        match &mut state.swap {
            Some(swap) => swap.is_orphan = true,
            None => self.unlock(state, &runner),
        }
    }
}
