//! `replank abort`: give a run up before its swap.

use std::time::Duration;

use replank_core::control::Control;
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use super::change::applied;
use super::selected::{Selected, select};
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::live::{self, Runner};
use crate::shell::Shell;
use crate::signals::or_interrupted;

// Dropping a large table takes its time; the runner goes on with it whether anybody waits or not.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// Tells the runner to give up, or removes what a run left that nobody works on.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    if !run.state.is_final() && !run.state.is_reversible() {
        confirm(shell, format!("Give run {} on `{}` up?", selected.short, run.table)).await?;
    }
    if let Some(runner) = &selected.runner {
        live::tell(&*selected.connected.session, run, runner, &Control::Abort).await?;
        let run = or_interrupted(&shell.stop, gone(&selected, runner)).await?;
        return Ok(applied(&run));
    }
    let run = shell.runner(&selected.connected.session).abort(&run.id).await?;
    Ok(applied(&run))
}

/// The run, once its runner has let go of it.
async fn gone(selected: &Selected, runner: &Runner) -> Result<Run> {
    let store = selected.connected.session.state();
    let deadline = Instant::now() + DONE_WITHIN;
    loop {
        let (run, _) = store.load(&selected.run.id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("run {} is gone from the journal", selected.run.id))
        })?;
        if run.state.is_final() || live::runner(&*selected.connected.session, &run).await?.is_none() {
            return Ok(run);
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Server, "the runner is still removing what it made")
                .with("pid", runner.holder.pid)
                .with("state", run.state)
                .hint(format!("see `replank status {}`", selected.short)));
        }
        sleep(Duration::from_millis(200)).await;
    }
}
