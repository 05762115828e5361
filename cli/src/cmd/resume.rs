//! `replank resume`: go on.

use replank_core::control::Control;
use replank_core::run::RunState;
use replank_core::{ErrorKind, Result};

use super::change::applied;
use super::selected::select;
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::live;
use crate::shell::Shell;

/// Lets the runner go on, or takes the run up where nobody works on it.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    if let Some(runner) = &selected.runner {
        match live::tell(&*selected.connected.session, run, runner, &Control::Resume).await {
            Ok(answer) => return Ok(Outcome::done(format!("run {}: {answer}", run.id))),
            Err(refused) if refused.kind() == ErrorKind::Refused => return Err(refused),
            // It may be cut off or stopped: taken over when its lease ends, unless it renews it meanwhile.
            Err(silent) => shell.output.note(&format!("{silent}; waiting for its lease to end")),
        }
    }
    if !run.state.is_final() {
        confirm(shell, format!("Go on with run {} on `{}`?", selected.short, run.table)).await?;
    }
    if run.state == RunState::Reversible && run.plan.is_rebuild() {
        shell.output.note("keeping the way back up to date; interrupt to stop");
    }
    let run = shell.runner(&selected.connected.session).resume(&run.id).await?;
    Ok(applied(&run))
}
