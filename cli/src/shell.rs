//! What every command is given: how to speak, when to stop, and how to reach the target.

use std::sync::{Arc, OnceLock};

use replank_core::driver::{Driver, Registry, Session, Settings};
use replank_core::engine::Runner;
use replank_core::event::Reporter;
use replank_core::{Error, Result};
use tokio::sync::watch;

use crate::args::Globals;
use crate::config::Config;
use crate::output::Output;
use crate::signals::or_interrupted;
use crate::target::{self, Target};
use crate::watchdog::Watchdog;

/// The surroundings of a command.
pub struct Shell {
    /// Where results and progress go.
    pub output: Arc<Output>,
    /// Becomes true when the person interrupts.
    pub stop: watch::Receiver<bool>,
    /// The drivers of this binary.
    pub registry: Registry,
    /// `--target` as typed.
    pub target: Option<String>,
    /// `--yes`.
    pub yes: bool,
    /// This process was started by `--detach`.
    pub is_detached: bool,
    /// Ends with the shell.
    watchdog: OnceLock<Watchdog>,
}

/// A target that answers.
pub struct Connected {
    /// Which.
    pub target: Target,
    /// Its kind.
    pub driver: Arc<dyn Driver>,
    /// The session.
    pub session: Arc<dyn Session>,
    /// What it was opened with.
    pub settings: Settings,
    /// The project's file.
    pub config: Config,
}

impl Shell {
    /// A shell from the options that all commands share.
    pub fn new(
        output: Arc<Output>,
        stop: watch::Receiver<bool>,
        registry: Registry,
        globals: Globals,
    ) -> Self {
        let Globals { target, yes, json: _, detached } = globals;
        Self { output, stop, registry, target, yes, is_detached: detached, watchdog: OnceLock::new() }
    }

    /// Finds the target and connects to it.
    ///
    /// # Errors
    /// [`Usage`](replank_core::ErrorKind::Usage) without a target, and whatever the driver says.
    pub async fn connect(&self) -> Result<Connected> {
        let config = Config::read()?;
        let target = target::resolve(self.target.as_deref(), &config, std::env::var("DATABASE_URL").ok())?;
        self.connect_to(target, config).await
    }

    /// Connects to a target that is known.
    pub async fn connect_to(&self, target: Target, config: Config) -> Result<Connected> {
        let driver = self.registry.find(target.url())?;
        let from_environment = std::env::var("REPLANK_STATE_NAME").ok().filter(|name| !name.is_empty());
        let settings = match from_environment.or_else(|| config.state_name.clone()) {
            Some(state_name) => Settings { state_name, ..Settings::default() },
            None => Settings::default(),
        };
        let connecting = driver.connect(target.url(), &settings);
        let session =
            or_interrupted(&self.stop, connecting).await.map_err(|error| at_target(error, &target))?;
        Ok(Connected { target, driver, session, settings, config })
    }

    /// A runner on a session, that speaks through this shell.
    pub fn runner(&self, session: &Arc<dyn Session>) -> Runner {
        let reporter: Arc<dyn Reporter> = self.output.clone();
        Runner::new(Arc::clone(session), reporter, self.stop.clone())
    }

    /// The same where it may swap; with a process beside it where that needs one.
    ///
    /// # Errors
    /// [`Server`](replank_core::ErrorKind::Server) where that process cannot be started: nothing is begun without it.
    pub fn swapping_runner(&self, connected: &Connected) -> Result<Runner> {
        // Tests of what a host that dies leaves behind do without.
        let is_wanted = std::env::var_os("REPLANK_WATCHDOG").is_none_or(|word| word != "off");
        if is_wanted && connected.driver.mends_on_connect() && self.watchdog.get().is_none() {
            let watchdog = Watchdog::start(connected.target.url(), &connected.settings)?;
            // Another one that was faster watches as well.
            self.watchdog.get_or_init(|| watchdog);
        }
        Ok(self.runner(&connected.session))
    }
}

/// Says which target an error is about; a URL is only shown with its password masked.
fn at_target(error: Error, target: &Target) -> Error {
    if error.context().iter().any(|(name, _)| *name == "target") {
        return error;
    }
    error.with("target", target)
}
