//! Whether a run that has swapped could be taken back now.

use std::sync::Arc;
use std::time::Duration;

use replank_core::driver::{Rebuild, RebuildJob, Session};
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::timeout;

// A look on the side must not keep `status` waiting. Chosen.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Why `revert` would refuse, or `None` when nothing speaks against it.
///
/// The reverse feed is opened where the journal says, and closed again: only the server knows whether it
/// still reaches back. Nothing is changed.
pub async fn objection(session: &dyn Session, run: &Run) -> Option<String> {
    if !run.options.revertible {
        return Some("it was made with --no-revert".to_owned());
    }
    if !run.plan.is_rebuild() {
        let lasting = run.plan.steps.iter().find(|step| step.inverse.is_empty());
        return lasting.map(|step| format!("`{}` cannot be taken back", step.title));
    }
    let conflicts = run.checkpoint.conflicts.len();
    if conflicts > 0 {
        let first = run.checkpoint.conflicts.iter().next();
        let shown = first.map(|(key, conflict)| format!(", first {key}: {}", conflict.reason));
        return Some(format!(
            "{conflicts} rows hold values that the old shape cannot hold{}",
            shown.unwrap_or_default()
        ));
    }
    match timeout(LOOK_WITHIN, look(session, run)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_elapsed) => Some("the server did not say in time whether the feed reaches back".to_owned()),
    }
}

async fn look(session: &dyn Session, run: &Run) -> Result<()> {
    let rebuild = open(session, run).await?;
    let position =
        run.checkpoint.position.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::FeedGap, "the journal does not say where the feed starts")
        })?;
    rebuild.check_source().await?;
    drop(rebuild.open_feed(position).await?);
    Ok(())
}

/// What a swap that was interrupted has left for the next runner, if anything; nobody works on the run now.
pub async fn unsettled(session: &dyn Session, run: &Run) -> Option<String> {
    if !run.plan.is_rebuild() || run.state.is_final() || !run.checkpoint.prepared {
        return None;
    }
    let look = async { open(session, run).await?.unsettled().await };
    match timeout(LOOK_WITHIN, look).await {
        Ok(Ok(unsettled)) => unsettled,
        // What matters is told by the next command.
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn open(session: &dyn Session, run: &Run) -> Result<Arc<dyn Rebuild>> {
    let rebuilder = session
        .rebuilder()
        .ok_or_else(|| Error::new(ErrorKind::Refused, "this target cannot rebuild a table"))?;
    rebuilder.open(&RebuildJob::of(run, run.fence)).await
}
