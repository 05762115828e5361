//! `replank revert`: take a change back, with every write made since.

use replank_core::Result;

use super::change::applied;
use super::selected::select;
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::shell::Shell;

/// Takes a run back.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    if run.state.is_reversible() {
        confirm(shell, format!("Take run {} on `{}` back?", selected.short, run.table)).await?;
    }
    let run = shell.runner(&selected.session).revert(&run.id).await?;
    Ok(applied(&run))
}
