//! The `replank` binary: reads the command line, runs one command, and ends with the documented exit code.

mod args;
mod cmd;
mod config;
mod confirm;
mod detach;
mod directives;
mod drivers;
mod exit;
mod findings;
mod gate;
mod length;
mod live;
mod output;
mod proposal;
mod revertible;
mod run_id;
mod run_line;
mod secret;
mod shell;
mod signals;
mod target;
mod watchdog;

use std::process::ExitCode;

use replank_core::{Error, ErrorKind};

use args::Args;
use output::Output;
use shell::Shell;

fn main() -> ExitCode {
    let args = match args::read() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let output = Output::new(args.globals.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(ErrorKind::Server, "the system gave no threads").caused_by(error);
            return ExitCode::from(output.finish(Err(error)));
        }
    };
    let result = runtime.block_on(run(args, output.clone()));
    let code = output.finish(result);
    // A prompt that nobody answers must not keep the process alive.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(args: Args, output: std::sync::Arc<Output>) -> replank_core::Result<exit::Outcome> {
    if args.globals.detached {
        detach::leave_session()?;
    }
    output::log::start();
    let stop = signals::watch(output.clone())?;
    let shell = Shell::new(output, stop, drivers::registry(), args.globals);
    cmd::run(&shell, args.command).await.map_err(|error| match (error.kind(), error.hint_text()) {
        (ErrorKind::ConnectionLost, None) => error.hint(
            "nothing is half done that cannot be gone on with: `replank status` says where things are, and the \
             same command again goes on from there",
        ),
        _ => error,
    })
}
