//! The run that a command is about, on a target that answers.

use replank_core::Result;
use replank_core::journal::patience::repeatedly;
use replank_core::run::Run;

use crate::live::{self, Runner};
use crate::run_id;
use crate::shell::{Connected, Shell};
use crate::signals::or_interrupted;

/// A run, and who works on it.
pub struct Selected {
    /// The target.
    pub connected: Connected,
    /// The run, as the journal has it.
    pub run: Run,
    /// A short name for it that names no other run of this target.
    pub short: String,
    /// Who works on it now.
    pub runner: Option<Runner>,
}

/// Connects, and finds the run that `text` names.
pub async fn select(shell: &Shell, text: &str) -> Result<Selected> {
    let connected = shell.connect().await?;
    let session = &connected.session;
    let looking = async {
        let runs = repeatedly(|| session.state().runs()).await?;
        let run = run_id::find(&runs, text)?.clone();
        let short = run_id::short(&runs, &run);
        let runner = live::runner(&**session, &run).await?;
        Ok((run, short, runner))
    };
    let (run, short, runner) = or_interrupted(&shell.stop, looking).await?;
    Ok(Selected { connected, run, short, runner })
}
