//! The log, for what has no place in events: on stderr, and quiet unless `REPLANK_LOG` asks for more.

use tracing_subscriber::EnvFilter;

/// Starts the log. `REPLANK_LOG=debug` shows everything, `REPLANK_LOG=replank_core=debug` a part.
pub fn start() {
    // Database clients warn of slow statements, which a rebuild sends on purpose.
    const QUIET: &str = "error,replank=warn,replank_core=warn";
    let filter = EnvFilter::try_from_env("REPLANK_LOG").unwrap_or_else(|_unset| EnvFilter::new(QUIET));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
    if let Err(error) = started {
        // There is a log already; two of them would say everything twice.
        tracing::debug!(%error, "the log runs already");
    }
}
