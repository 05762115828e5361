//! `replank apply`: one statement, online.

use replank_core::Result;

use super::change;
use crate::args::Apply;
use crate::exit::Outcome;
use crate::proposal;
use crate::shell::Shell;

/// Plans the statement and carries it out.
pub async fn run(shell: &Shell, args: Apply) -> Result<Outcome> {
    let statement = proposal::statement(&args.files, args.statement)?;
    let directives = proposal::directives(&args.change.bounds)?;
    let connected = shell.connect().await?;
    let request = proposal::request(statement, &directives);
    change::run(shell, connected, request, &args.change, directives).await
}
