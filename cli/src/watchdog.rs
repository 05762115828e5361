//! A process beside a runner, for drivers whose swap leaves writes refused when the runner dies in it.
//!
//! It is a leader of a process session of its own, so whatever ends the runner does not end it. The runner tells it every half
//! second that it is alive, and at its end that all is well. Where it hears nothing, or the runner is gone, it connects to the target again
//! and again: connecting lets writers in again whose fence is past its time, and nobody else's. A host that dies takes both along; then
//! the next command of anybody's does it.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use replank_core::driver::{Driver, Registry, Settings};
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::detach;

const BEAT: Duration = Duration::from_millis(500);
/// A runner that is alive says so within this, on a machine that is short of time, too. Chosen.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two looks at the target.
const LOOK: Duration = Duration::from_secs(1);
/// A fence stands for seconds. What stands longer than this after its runner's death waits for the next command. Chosen.
const AFTER_DEATH: Duration = Duration::from_mins(2);
/// What a runner says at its end.
const DONE: &str = "done";

/// What the process is told: not on its command line, where others would read the password.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    url: String,
    state_name: String,
}

/// The process, as its runner has it. It is told that all is well when this is dropped.
pub struct Watchdog {
    pipe: Arc<Mutex<ChildStdin>>,
    beating: JoinHandle<()>,
}

impl Watchdog {
    /// Starts the process.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when the system starts none.
    pub fn start(url: &str, settings: &Settings) -> Result<Self> {
        let failed = |error| {
            Error::new(ErrorKind::Server, "the process that watches over the swap could not be started")
                .caused_by(error)
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg("watchdog")
            .env_remove("REPLANK_KILL_AT")
            .env_remove("REPLANK_STOP_AT")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let Some(mut pipe) = child.stdin.take() else {
            return Err(Error::new(ErrorKind::Internal, "a pipe was asked for, and there is none"));
        };
        let told = Told { url: url.to_owned(), state_name: settings.state_name.clone() };
        let told = serde_json::to_string(&told)
            .map_err(|error| Error::new(ErrorKind::Internal, "a text is no JSON").caused_by(error))?;
        writeln!(pipe, "{told}").map_err(failed)?;
        let pipe = Arc::new(Mutex::new(pipe));
        let beating = tokio::spawn(beat(Arc::clone(&pipe)));
        Ok(Self { pipe, beating })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.beating.abort();
        say(&self.pipe, DONE);
    }
}

async fn beat(pipe: Arc<Mutex<ChildStdin>>) {
    loop {
        tokio::time::sleep(BEAT).await;
        say(&pipe, "alive");
    }
}

/// A line into a pipe that is always read, and never full.
fn say(pipe: &Mutex<ChildStdin>, line: &str) {
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = writeln!(pipe, "{line}") {
        tracing::debug!(%error, "the process that watches over the swap is gone");
    }
}

/// What the process does, until its runner has ended well, or long enough after it has not.
///
/// # Errors
/// [`ErrorKind::Usage`] for a person who calls it.
pub async fn run(registry: &Registry) -> Result<()> {
    detach::leave_session()?;
    let lines = lines();
    let first = lines.recv_timeout(SILENCE).unwrap_or_default();
    let told: Told = serde_json::from_str(&first).map_err(|_| {
        Error::new(ErrorKind::Usage, "`watchdog` is started by the commands that need it, and by nobody else")
    })?;
    let driver = registry.find(&told.url)?;
    let settings = Settings { state_name: told.state_name, ..Settings::default() };
    let mut dead_since: Option<Instant> = None;
    loop {
        let heard = match dead_since {
            Some(_) => Err(RecvTimeoutError::Timeout),
            None => tokio::task::block_in_place(|| lines.recv_timeout(SILENCE)),
        };
        match heard {
            Ok(line) if line == DONE => return Ok(()),
            Ok(_) => continue,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => dead_since = Some(Instant::now()),
        }
        if dead_since.is_some_and(|since| since.elapsed() > AFTER_DEATH) {
            return Ok(());
        }
        look(&*driver, &told.url, &settings).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Connecting is what mends.
async fn look(driver: &dyn Driver, url: &str, settings: &Settings) {
    if let Err(error) = driver.connect(url, settings).await {
        tracing::debug!(%error, "the target does not answer");
    }
}

/// What the runner says, line by line; disconnected when it is gone.
fn lines() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(std::io::stdin()).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
