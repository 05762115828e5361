//! `replank cutover`: let a run swap.

use replank_core::Result;
use replank_core::control::Control;

use super::change::applied;
use super::selected::select;
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::live;
use crate::shell::Shell;

/// Tells the runner to swap, or takes the run up and swaps.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let (run, short) = (&selected.run, &selected.short);
    shell.output.name_run(&run.id);
    if !run.state.is_final() && !run.state.is_reversible() {
        confirm(shell, format!("Swap the new `{}` of run {short} in?", run.table)).await?;
    }
    if let Some(runner) = &selected.runner {
        let answer = live::tell(&*selected.connected.session, run, runner, &Control::Cutover).await?;
        return Ok(Outcome::done(format!("run {}: {answer}", run.id))
            .hint(format!("watch it with `replank status {short} --watch`")));
    }
    let run = shell.swapping_runner(&selected.connected)?.cutover(&run.id).await?;
    Ok(applied(&run))
}
