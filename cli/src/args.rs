//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell as CompletionShell;
use replank_core::run::CutoverGate;
use replank_core::{Error, ErrorKind};

use crate::output::Output;
use crate::{gate, length};

/// Online schema changes, checked and revertible.
///
/// Write the statement that you would have typed anyway. replank plans the cheapest safe way to run it
/// while applications keep reading and writing, checks every row, and keeps a way back.
#[derive(Debug, Parser)]
#[command(name = "replank", version, propagate_version = true, max_term_width = 80, after_help = TARGETS)]
pub struct Args {
    /// Options that every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const TARGETS: &str = "\
A TARGET is a URL such as sqlite:app.db, or a name from replank.toml. Without -t
it is `target` of replank.toml, then DATABASE_URL. A RUN is a run's id, four
or more characters of it, or `last`.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 rows differ, 5 waiting,
6 another runner holds the table, 8 a person must look, 130 interrupted.";

/// Options that every command takes.
#[derive(Debug, Clone, ClapArgs)]
pub struct Globals {
    /// The database: a URL, or a name from replank.toml
    #[arg(short, long, global = true, value_name = "TARGET")]
    pub target: Option<String>,
    /// Do not ask
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Print JSON lines
    #[arg(long, global = true)]
    pub json: bool,
    /// Run in a process session of its own; set by --detach
    #[arg(long, global = true, hide = true)]
    pub detached: bool,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it all on a database of its own: no server needed
    Demo(Demo),
    /// List the databases that this program can change
    Drivers,
    /// Check connection, privileges and settings
    Doctor,
    /// Show how a statement would run, and what it would lock
    Plan(Plan),
    /// Run a statement while applications keep writing
    Apply(Apply),
    /// Rebuild a table: to give back its space, or in a new shape
    Rebuild(Rebuild),
    /// Show runs: where they stand, who works on them
    Status(Status),
    /// Stop copying; what changes is still captured, and applied where the copy allows it
    Pause(Run),
    /// Go on with a run that was paused, stopped or interrupted
    Resume(Resume),
    /// Change a run's limits while it goes on
    Throttle(Throttle),
    /// Let a run swap its table in
    Cutover(Run),
    /// Give a run up before its swap, and remove what it made
    Abort(Run),
    /// Compare every row of a run's two tables
    Verify(Run),
    /// Take a change back, with every write made since
    Revert(Revert),
    /// Make a change final: the old table is removed
    Finalize(Run),
    /// List all runs, the oldest first
    History,
    /// Explain a rule
    Explain(Explain),
    /// Print completions for a shell
    Completions(Completions),
    /// Print the manual page
    Man,
    /// Let writers in again when a runner dies in its swap
    #[command(hide = true)]
    Watchdog,
}

/// A run.
#[derive(Debug, ClapArgs)]
pub struct Run {
    /// The run: its id, four or more characters of it, or `last`
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// `resume`.
#[derive(Debug, ClapArgs)]
pub struct Resume {
    /// The run: its id, four or more characters of it, or `last`
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The longest that one attempt may wait for or hold an exclusive lock from now on; that of the run unless something is said
    #[arg(long, value_name = "TIME", value_parser = budget)]
    pub lock_budget: Option<Duration>,
}

/// `revert`.
#[derive(Debug, ClapArgs)]
pub struct Revert {
    /// The run: its id, four or more characters of it, or `last`
    #[arg(value_name = "RUN")]
    pub run: String,
    /// What bounds the rebuild that takes an added column off; with --no-revert there is none, and what was written
    /// there since is dropped at once.
    #[command(flatten)]
    pub bounds: Bounds,
    /// When that rebuild swaps: as soon as it is safe (auto), when `replank cutover` says so (manual), or not before a
    /// time such as 03:00 [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = cutover)]
    pub cutover: Option<CutoverGate>,
    /// Its limits, by the names that `replank throttle` takes; those of the run unless something is said
    #[arg(long, value_name = "LIMIT=VALUE", value_parser = pair, num_args = 1..)]
    pub throttle: Vec<(String, String)>,
}

/// `demo`.
#[derive(Debug, ClapArgs)]
pub struct Demo {
    /// Rows of the table
    #[arg(long, value_name = "N", default_value_t = 500_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rows: u64,
    /// Make the database in this folder, and leave it there
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// What to change, and what bounds the choice of how.
#[derive(Debug, Clone, ClapArgs)]
pub struct Bounds {
    /// Directives, such as strategy=shadow or 'waive=C004 reason="…"'
    #[arg(short = 'D', long = "directive", value_name = "KEY=VALUE")]
    pub directives: Vec<String>,
    /// Keep no way back: the old table is removed after the swap
    #[arg(long)]
    pub no_revert: bool,
    /// The longest that one attempt may wait for or hold an exclusive lock [default: 200ms]
    #[arg(long, value_name = "TIME", value_parser = budget)]
    pub lock_budget: Option<Duration>,
}

/// `plan`.
#[derive(Debug, ClapArgs)]
pub struct Plan {
    /// Migration files
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// The statement
    #[arg(short = 'e', long = "statement", value_name = "STMT")]
    pub statement: Option<String>,
    /// What bounds it.
    #[command(flatten)]
    pub bounds: Bounds,
    /// How the plan is written
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
    /// Write the plan into this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For a terminal
    Text,
    /// The whole plan as one JSON object
    Json,
}

/// How a change is carried out.
#[derive(Debug, Clone, ClapArgs)]
pub struct Change {
    /// What bounds it.
    #[command(flatten)]
    pub bounds: Bounds,
    /// When to swap: as soon as it is safe (auto), when `replank cutover` says so (manual), or not before a time such as
    /// 03:00 [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = cutover)]
    pub cutover: Option<CutoverGate>,
    /// Go on in the background, and print the run's id
    #[arg(long)]
    pub detach: bool,
    /// Limits, by the names that `replank throttle` takes
    #[arg(long, value_name = "LIMIT=VALUE", value_parser = pair, num_args = 1..)]
    pub throttle: Vec<(String, String)>,
}

/// `apply`.
#[derive(Debug, ClapArgs)]
pub struct Apply {
    /// Migration files
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// The statement
    #[arg(short = 'e', long = "statement", value_name = "STMT")]
    pub statement: Option<String>,
    /// How.
    #[command(flatten)]
    pub change: Change,
}

/// `rebuild`.
#[derive(Debug, ClapArgs)]
pub struct Rebuild {
    /// The table
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// A file with the new shape, as a CREATE statement
    #[arg(long = "as", value_name = "FILE")]
    pub shape: Option<PathBuf>,
    /// MongoDB: a file with what is made of each document, as an aggregation pipeline
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,
    /// The same for the way back
    #[arg(long, value_name = "FILE")]
    pub reverse_pipeline: Option<PathBuf>,
    /// How.
    #[command(flatten)]
    pub change: Change,
}

/// `status`.
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// The run: its id, four or more characters of it, or `last`
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Show it again every second, until it needs nobody any more
    #[arg(long)]
    pub watch: bool,
    /// End with 3 if anything is unfinished
    #[arg(long)]
    pub check: bool,
}

/// `throttle`.
#[derive(Debug, ClapArgs)]
pub struct Throttle {
    /// The run: its id, four or more characters of it, or `last`
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Limits, such as copy_workers=1 or lag_max_ms=5000
    #[arg(value_name = "LIMIT=VALUE", required = true, value_parser = pair)]
    pub set: Vec<(String, String)>,
}

/// `explain`.
#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// The rule's code
    #[arg(value_name = "CODE", required_unless_present = "list")]
    pub code: Option<String>,
    /// List every rule
    #[arg(long, conflicts_with = "code")]
    pub list: bool,
}

/// `completions`.
#[derive(Debug, ClapArgs)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: CompletionShell,
}

fn budget(text: &str) -> Result<Duration, String> {
    length::parse(text).map_err(|error| match error.hint_text() {
        Some(hint) => hint.to_owned(),
        None => error.to_string(),
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as LIMIT=VALUE, such as copy_workers=1".to_owned()),
    }
}

fn cutover(text: &str) -> Result<CutoverGate, String> {
    gate::parse(text).map_err(|error| error.to_string())
}

/// Reads the command line of this process, or says what is wrong with it and gives the exit code.
pub fn read() -> Result<Args, ExitCode> {
    Args::try_parse().map_err(|error| {
        let is_json = std::env::args_os().any(|argument| argument == "--json");
        if error.use_stderr() && is_json {
            let text = error.to_string();
            let message = text.lines().next().unwrap_or("usage").trim_start_matches("error: ").to_owned();
            let error = Error::new(ErrorKind::Usage, message).hint("see `replank --help`");
            return ExitCode::from(Output::new(true).finish(Err(error)));
        }
        // Nobody reading the help is no error of ours.
        if error.print().is_err() {
            tracing::debug!("the help could not be printed");
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// The command line as clap knows it, for completions and the manual.
pub fn command() -> clap::Command {
    Args::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_of_all_commands_stand_anywhere() {
        let args = Args::try_parse_from([
            "replank",
            "-t",
            "sqlite:a.db",
            "apply",
            "--json",
            "-e",
            "X",
            "--yes",
            "--lock-budget",
            "1s",
            "--throttle",
            "copy_workers=1",
            "-D",
            "strategy=shadow",
            "--cutover",
            "manual",
        ])
        .expect("valid");
        assert!(args.globals.json && args.globals.yes);
        let Command::Apply(apply) = args.command else { panic!("apply") };
        assert_eq!(apply.change.bounds.lock_budget, Some(Duration::from_secs(1)));
        assert_eq!(apply.change.throttle, [("copy_workers".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn unknown_flags_and_missing_runs_are_usage_errors() {
        for words in [vec!["replank", "apply", "--fast"], vec!["replank", "abort"], vec!["replank"]] {
            let error = Args::try_parse_from(&words).expect_err("usage");
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }
}
