//! SIGINT and SIGTERM: the first asks to stop, the second ends the process at once.

use std::sync::Arc;

use replank_core::{Error, ErrorKind, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::output::Output;

/// A channel that becomes true with the first signal.
///
/// The engine then saves its checkpoint and the process ends with 130. Ending at once with the second
/// signal is safe too: it is what a crash does, and the next runner goes on from the last checkpoint.
pub fn watch(output: Arc<Output>) -> Result<watch::Receiver<bool>> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::new(ErrorKind::Server, "the system lets nobody listen for signals").caused_by(error)
        })
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut is_first = true;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !is_first {
                std::process::exit(i32::from(ErrorKind::Interrupted.exit_code()));
            }
            is_first = false;
            output.note("stopping; once more ends at once");
            // Nobody listens any more when the command has just ended by itself.
            sender.send_replace(true);
        }
    });
    Ok(receiver)
}

/// Waits for `work`, or for the first signal. For work that may be dropped half-way.
pub async fn or_interrupted<T>(
    stop: &watch::Receiver<bool>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut stop = stop.clone();
    tokio::select! {
        result = work => result,
        // A sender that is gone can send no signal; then the work is waited for.
        Ok(_) = stop.wait_for(|stopped| *stopped) => {
            Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed"))
        }
    }
}
