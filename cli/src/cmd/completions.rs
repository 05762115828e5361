//! `replank completions`: what a shell needs to complete this command line.

use clap_complete::Shell as CompletionShell;

use crate::args;
use crate::exit::Outcome;
use crate::shell::Shell;

/// Prints the script for a shell.
pub fn run(shell: &Shell, kind: CompletionShell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut args::command(), "replank", &mut script);
    let script = String::from_utf8_lossy(&script);
    shell.output.line(script.trim_end());
    // A program that asks for JSON gets the script as the result's message.
    Outcome::said(script)
}
