//! `replank resume`: go on.

use replank_core::control::Control;
use replank_core::run::RunState;
use replank_core::{Error, ErrorKind, Result};

use super::change::applied;
use super::selected::select;
use crate::args::Resume;
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::live;
use crate::proposal::in_milliseconds;
use crate::shell::Shell;

/// Lets the runner go on, or takes the run up where nobody works on it.
pub async fn run(shell: &Shell, args: &Resume) -> Result<Outcome> {
    let budget = args.lock_budget.map(in_milliseconds).transpose()?;
    let selected = select(shell, &args.run).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    if let Some(runner) = &selected.runner {
        if budget.is_some() {
            return Err(Error::new(ErrorKind::Refused, format!("somebody works on run {}", run.id))
                .hint("a lock budget is for the next one: interrupt this one first"));
        }
        match live::tell(&*selected.connected.session, run, runner, &Control::Resume).await {
            Ok(answer) => return Ok(Outcome::done(format!("run {}: {answer}", run.id))),
            Err(refused) if refused.kind() == ErrorKind::Refused => {
                // One that has ended meanwhile is in nobody's way.
                if live::runner(&*selected.connected.session, run).await?.is_some() {
                    return Err(refused);
                }
            }
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
    let runner = shell.swapping_runner(&selected.connected)?;
    if let Some(budget) = budget {
        runner.bound(&run.id, budget).await?;
    }
    let run = runner.resume(&run.id).await?;
    Ok(applied(&run))
}
