//! The `replank` binary, built once, as a person runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is inside the workspace")
}

/// The binary's path: `REPLANK_TEST_BINARY`, which `make test` has just built, or built here. A test that
/// ran an old binary would prove nothing.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("REPLANK_TEST_BINARY") {
            return PathBuf::from(path);
        }
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "-p", "replank"])
            .current_dir(workspace())
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the binary does not build");
        let target =
            std::env::var("CARGO_TARGET_DIR").map_or_else(|_| workspace().join("target"), PathBuf::from);
        target.join("debug/replank")
    })
}

/// A command line without the caller's environment.
pub fn replank(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(args).env_remove("DATABASE_URL").env_remove("REPLANK_KILL_AT").env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    // Tests share a server, and each keeps its records apart: `last` is its own last run.
    let database = |arg: &&str| {
        let rest = arg.strip_prefix("mysql://").or_else(|| arg.strip_prefix("mongodb://"))?;
        rest.split(['/', '?']).nth(1).map(ToOwned::to_owned)
    };
    if let Some(database) = args.iter().find_map(database) {
        command.env("REPLANK_STATE_NAME", format!("_replank_{database}"));
        // What a runner leaves behind is looked at as if its host had died; the tests of the watchdog itself say otherwise.
        command.env("REPLANK_WATCHDOG", "off");
    }
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Results.
    pub out: String,
    /// Progress and errors.
    pub err: String,
}

impl Ended {
    /// Of an output.
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("output is UTF-8"),
        }
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless SIGKILL ended it.
    #[track_caller]
    pub fn was_killed(self) -> Self {
        assert_eq!(self.code, None, "it was to be killed\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Shows what it said, should the test fail.
    pub fn shows(self) -> Self {
        println!("{}", self.err);
        self
    }

    /// Fails the test unless this stands in what was printed.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let all = format!("{}{}", self.out, self.err);
        // Texts are folded to the width of the terminal.
        let folded = all.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(folded.contains(text), "`{text}` is not in:\n{all}");
        self
    }
}

/// The same for no longer than so many seconds: then it is killed, and has no exit code.
pub async fn run_within(seconds: u64, args: &[&str]) -> Ended {
    let mut command = replank(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let until = Instant::now() + Duration::from_secs(seconds);
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > until {
            child.kill().expect("it is our child");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ended::of(child.wait_with_output().expect("it has ended"))
}

/// Runs a command line to its end.
pub fn run(args: &[&str]) -> Ended {
    Ended::of(replank(args).output().expect("the binary runs"))
}

/// The same, off the test's own threads, so that writers go on.
pub async fn run_beside(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = replank(args);
    command.envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || Ended::of(command.output().expect("the binary runs")))
        .await
        .expect("the task ends")
}
