//! Whether somebody works on a run, and talking to whoever does.

use std::time::Duration;

use replank_core::control::{Answer, Control};
use replank_core::driver::{CommandState, Lease, LeaseHolder, Session, StateStore};
use replank_core::journal::host;
use replank_core::journal::patience::repeatedly;
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

// A runner looks for commands twice a second; more than this and it is not well. Fixed by the manual.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Somebody who works on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// Who.
    pub holder: LeaseHolder,
    /// How long the lease holds unless it is renewed.
    pub remaining: Duration,
}

/// Who works on a run now, as far as the lease on its table tells.
pub async fn runner(session: &dyn Session, run: &Run) -> Result<Option<Runner>> {
    if run.state.is_final() {
        return Ok(None);
    }
    Ok(holding(session, run).await?.filter(Runner::holds))
}

/// Who has the lease and is not dead. One whose lease has run out may only be slow.
async fn holding(session: &dyn Session, run: &Run) -> Result<Option<Runner>> {
    let me = host::this_process(&run.id);
    let lease = repeatedly(|| session.state().lease(&run.table)).await?;
    Ok(living(run, lease, |holder| host::is_dead_here(holder, &me)))
}

fn living(run: &Run, lease: Option<Lease>, is_dead: impl Fn(&LeaseHolder) -> bool) -> Option<Runner> {
    let Lease { holder, remaining, .. } = lease?;
    let holder = holder?;
    let lives = holder.run == run.id && !is_dead(&holder);
    lives.then_some(Runner { holder, remaining })
}

impl Runner {
    fn holds(&self) -> bool {
        !self.remaining.is_zero()
    }
}

/// Leaves a command for the runner, and waits for its answer.
///
/// # Errors
/// [`ErrorKind::Refused`] when it does not do what is asked, with its reason, or ended before it saw it: the
/// command is withdrawn then, so that whoever goes on is not surprised by it;
/// [`ErrorKind::Server`] when it does not answer in time: the command stays, and is obeyed if the runner
/// comes back.
pub async fn tell(session: &dyn Session, run: &Run, runner: &Runner, control: &Control) -> Result<String> {
    let store = session.state();
    let command = store.post(&run.id, control).await?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    let withdrawn = Answer::refused("the runner had ended").write();
    loop {
        if holding(session, run).await?.is_none() {
            // The first answer stands, and that may be the runner's.
            store.acknowledge(command, &withdrawn).await?;
        }
        if let CommandState::Answered(answer) = store.command(command).await? {
            if answer == withdrawn {
                return Err(ended(store, run).await);
            }
            let answer = Answer::read(&answer);
            if answer.obeyed {
                return Ok(answer.text);
            }
            return Err(Error::new(
                ErrorKind::Refused,
                format!("run {}: not obeyed: {}", run.id, answer.text),
            )
            .hint(format!("see `replank status {}`", run.id.short())));
        }
        if Instant::now() >= deadline {
            return Err(unanswered(store, run, runner).await);
        }
        sleep(ASK_EVERY).await;
    }
}

async fn ended(store: &dyn StateStore, run: &Run) -> Error {
    Error::new(ErrorKind::Refused, format!("run {}: its runner ended before it saw this", run.id))
        .with("state", state(store, run).await)
        .hint(format!("nothing was asked of it any more; see `replank status {}`", run.id.short()))
}

async fn state(store: &dyn StateStore, run: &Run) -> String {
    match store.load(&run.id).await {
        Ok(Some((run, _))) => run.state.to_string(),
        Ok(None) | Err(_) => "unknown".to_owned(),
    }
}

async fn unanswered(store: &dyn StateStore, run: &Run, runner: &Runner) -> Error {
    let state = state(store, run).await;
    Error::new(ErrorKind::Server, format!("the runner did not answer within {} s", ANSWER_WITHIN.as_secs()))
        .with("host", &runner.holder.host)
        .with("pid", runner.holder.pid)
        .with("state", state)
        .hint(format!(
            "it obeys when it looks again; if process {} is gone, its lease ends within 30 s and \
         `replank resume {}` takes over",
            runner.holder.pid, run.id
        ))
}

#[cfg(test)]
mod tests {
    use replank_core::ident::Fence;

    use super::*;
    use crate::run_line::example::run;

    #[test]
    fn a_runner_lives_while_its_lease_holds_and_its_process_does() {
        let run = run("0123456789abcdef");
        let living = |run: &Run, lease, is_dead: fn(&LeaseHolder) -> bool| {
            living(run, lease, is_dead).filter(Runner::holds)
        };
        let lease = |run: &Run, seconds| {
            let holder =
                LeaseHolder { host: "h".into(), boot: "b".into(), pid: 7, started: 1, run: run.id.clone() };
            Some(Lease { token: Fence(1), holder: Some(holder), remaining: Duration::from_secs(seconds) })
        };
        assert!(living(&run, lease(&run, 9), |_| false).is_some());
        assert!(living(&run, lease(&run, 9), |_| true).is_none(), "its process is gone");
        assert!(living(&run, lease(&run, 0), |_| false).is_none(), "the lease has ended");
        assert!(living(&run, None, |_| false).is_none());
        let other = super::super::run_line::example::run("fedcba9876543210");
        assert!(living(&run, lease(&other, 9), |_| false).is_none(), "another run works on the table");
    }
}
