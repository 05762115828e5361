//! `replank finalize`: make a change final.

use replank_core::Result;

use super::change::applied;
use super::selected::select;
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::shell::Shell;

/// Removes the old table of a run, and with it the way back.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    if run.state.is_reversible() {
        confirm(
            shell,
            format!("Remove the old `{}`? Run {} can then not be taken back", run.table, selected.short),
        )
        .await?;
    }
    let run = shell.runner(&selected.connected.session).finalize(&run.id).await?;
    Ok(applied(&run))
}
