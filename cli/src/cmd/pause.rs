//! `replank pause`: stop copying, keep applying.

use replank_core::control::Control;
use replank_core::run::RunState;
use replank_core::{Error, ErrorKind, Result};

use super::selected::select;
use crate::exit::Outcome;
use crate::live;
use crate::shell::Shell;

/// Asks the runner to pause, and waits until it has.
pub async fn run(shell: &Shell, text: &str) -> Result<Outcome> {
    let selected = select(shell, text).await?;
    let (run, short) = (&selected.run, &selected.short);
    shell.output.name_run(&run.id);
    let Some(runner) = &selected.runner else {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("nobody works on run {}, so there is nothing to pause: it is {}", run.id, run.state),
        )
        .hint(format!("see `replank status {short}`")));
    };
    let answer = live::tell(&*selected.connected.session, run, runner, &Control::Pause).await?;
    Ok(Outcome::done(format!("run {}: {answer}", run.id))
        .state(RunState::Paused)
        .hint(format!("`replank resume {short}` lets it go on")))
}
