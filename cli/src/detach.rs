//! `--detach`: the runner in a process session of its own, so that it outlives the terminal.
//!
//! The program starts itself again with the same arguments and `--detached`. The child becomes the leader
//! of a new session first, so that no hang-up of the terminal reaches it, and writes its events as JSON
//! lines into a log. The parent reads that log until the run has a name.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use replank_core::event::{Body, Event};
use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

// As long as a start may wait for the lease of a runner that was killed, and a little.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What is known of a runner that was sent off.
#[derive(Debug)]
pub struct Detached {
    /// Its run.
    pub run: RunId,
    /// Its process.
    pub pid: u32,
    /// Where it writes its events.
    pub log: PathBuf,
}

/// The child's first act: out of the terminal's session.
pub fn leave_session() -> Result<()> {
    // It fails only for a leader of a process group, which is out of reach of the terminal's signals already.
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => {
            Err(Error::new(ErrorKind::Server, "no new process session could be had").caused_by(error))
        }
    }
}

/// Starts this command again in its own session, and waits until its run has a name.
///
/// # Errors
/// What the child ended with, when it ended before that.
pub async fn start() -> Result<Detached> {
    let folder = log_folder();
    std::fs::create_dir_all(&folder).map_err(|error| no_log(&folder, error))?;
    let log = folder.join(format!("start-{}.jsonl", std::process::id()));
    let file = File::create(&log).map_err(|error| no_log(&log, error))?;
    let errors = file.try_clone().map_err(|error| no_log(&log, error))?;
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Server, "this program cannot find itself").caused_by(error))?;
    let mut child = Command::new(program)
        .args(child_arguments(std::env::args_os().skip(1)))
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|error| Error::new(ErrorKind::Server, "the runner could not be started").caused_by(error))?;
    let run = named(&mut child, &log).await?;
    let kept = folder.join(format!("{run}.jsonl"));
    // The child writes on into the same file, whatever its name.
    let log = if std::fs::rename(&log, &kept).is_ok() { kept } else { log };
    Ok(Detached { run, pid: child.id(), log })
}

/// The same arguments; the person has been asked already, and events go to the log.
fn child_arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["--detached", "--yes", "--json"].into_iter().map(OsString::from).collect();
    // Flags that all commands share may come twice in front and behind, but not twice in all.
    arguments.extend(given.filter(|argument| argument != "--yes" && argument != "--json"));
    arguments
}

async fn named(child: &mut Child, log: &Path) -> Result<RunId> {
    let deadline = Instant::now() + STARTS_WITHIN;
    loop {
        let has_ended = child.try_wait().map_err(|error| {
            Error::new(ErrorKind::Server, "the runner cannot be watched").caused_by(error)
        })?;
        let events = read(log);
        if let Some(run) = events.iter().find_map(|event| event.run.clone()) {
            return Ok(run);
        }
        if has_ended.is_some() {
            return Err(ended(&events, log));
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Server, "the runner has not begun yet")
                .with("pid", child.id())
                .with("log", log.display())
                .hint("it goes on trying; `replank status` shows its run once it has begun"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The events written so far; a line that is still being written is left for the next look.
fn read(log: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn ended(events: &[Event], log: &Path) -> Error {
    let result = events.iter().rev().find_map(|event| match &event.body {
        Body::Result { exit, message, hint, .. } => Some((*exit, message.clone(), hint.clone())),
        _ => None,
    });
    let Some((exit, message, hint)) = result else {
        return Error::new(ErrorKind::Server, "the runner ended before its run began")
            .with("log", log.display());
    };
    let kind = match exit {
        2 => ErrorKind::Usage,
        3 => ErrorKind::Refused,
        5 => ErrorKind::Gate,
        6 => ErrorKind::LeaseHeld,
        _ => ErrorKind::Server,
    };
    let error = Error::new(kind, message);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Where logs of detached runners belong: the user's state folder, or the temporary one.
fn log_folder() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("replank")
}

fn no_log(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Server, format!("the log `{}` cannot be written", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_gets_the_same_arguments_once() {
        let given = ["apply", "--yes", "-e", "X", "--detach", "--json"].map(OsString::from);
        let arguments = child_arguments(given.into_iter());
        assert_eq!(arguments, ["--detached", "--yes", "--json", "apply", "-e", "X", "--detach"]);
    }

    #[test]
    fn a_runner_that_ended_early_hands_its_error_over() {
        let line =
            r#"{"v":1,"ts":"2026-01-01T00:00:00Z","type":"result","exit":3,"message":"no","hint":"go"}"#;
        let events: Vec<Event> = vec![serde_json::from_str(line).expect("an event")];
        let error = ended(&events, Path::new("log"));
        assert_eq!(
            (error.kind(), error.message(), error.hint_text()),
            (ErrorKind::Refused, "no", Some("go"))
        );
    }
}
