//! `replank verify`: compare every row of a run's two tables.

use replank_core::Result;

use super::selected::select;
use crate::exit::Outcome;
use crate::output::figures;
use crate::shell::Shell;

/// Compares the live table with the retired one.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let run = &selected.run;
    shell.output.name_run(&run.id);
    let verified = shell.runner(&selected.connected.session).verify(&run.id).await?;
    Ok(Outcome::done(format!("{} compared, all equal", figures::rows(verified.rows))).state(run.state))
}
