//! Asks before a target is changed.

use std::io::IsTerminal;

use inquire::{Confirm, InquireError};
use replank_core::{Error, ErrorKind, Result};

use crate::shell::Shell;

/// Asks `question` on a terminal; elsewhere `--yes` must have been given.
///
/// # Errors
/// [`ErrorKind::Usage`] where nobody can be asked, [`ErrorKind::Refused`] for a no.
pub async fn confirm(shell: &Shell, question: String) -> Result<()> {
    if shell.yes {
        return Ok(());
    }
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !can_ask || shell.output.is_json() {
        return Err(Error::new(ErrorKind::Usage, "this changes the target, and nobody can be asked here")
            .hint("add --yes when it is meant"));
    }
    let answer = tokio::task::spawn_blocking(move || Confirm::new(&question).with_default(false).prompt())
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "the prompt ended in a panic").caused_by(error))?;
    match answer {
        Ok(true) => Ok(()),
        Ok(false) | Err(InquireError::OperationCanceled) => {
            Err(Error::new(ErrorKind::Refused, "not confirmed; nothing was changed"))
        }
        Err(InquireError::OperationInterrupted) => {
            Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed"))
        }
        Err(error) => Err(Error::new(ErrorKind::Usage, "nobody could be asked")
            .hint("add --yes when it is meant")
            .caused_by(error)),
    }
}
