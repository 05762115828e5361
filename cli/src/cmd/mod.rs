//! The commands, one a file.

mod abort;
mod apply;
mod change;
mod completions;
mod cutover;
mod demo;
mod doctor;
mod drivers;
mod explain;
mod finalize;
mod history;
mod man;
mod pause;
mod plan;
mod rebuild;
mod resume;
mod revert;
mod selected;
mod status;
mod throttle;
mod verify;

use replank_core::Result;

use crate::args::Command;
use crate::exit::Outcome;
use crate::shell::Shell;
use crate::watchdog;

/// Runs a command.
pub async fn run(shell: &Shell, command: Command) -> Result<Outcome> {
    match command {
        Command::Demo(args) => demo::run(shell, args).await,
        Command::Drivers => Ok(drivers::run(shell)),
        Command::Doctor => doctor::run(shell).await,
        Command::Plan(args) => plan::run(shell, args).await,
        Command::Apply(args) => apply::run(shell, args).await,
        Command::Rebuild(args) => rebuild::run(shell, args).await,
        Command::Status(args) => status::run(shell, args).await,
        Command::Pause(args) => pause::run(shell, &args.run).await,
        Command::Resume(args) => resume::run(shell, &args).await,
        Command::Throttle(args) => throttle::run(shell, args).await,
        Command::Cutover(args) => cutover::run(shell, &args.run).await,
        Command::Abort(args) => abort::run(shell, &args.run).await,
        Command::Verify(args) => verify::run(shell, &args.run).await,
        Command::Revert(args) => revert::run(shell, &args).await,
        Command::Finalize(args) => finalize::run(shell, &args.run).await,
        Command::History => history::run(shell).await,
        Command::Explain(args) => explain::run(shell, args),
        Command::Completions(args) => Ok(completions::run(shell, args.shell)),
        Command::Man => man::run(shell),
        Command::Watchdog => watchdog::run(&shell.registry).await.map(|()| Outcome::done("watched")),
    }
}
