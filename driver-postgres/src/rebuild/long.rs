//! Statements that may take longer than a lease lasts.

use replank_core::Result;
use replank_core::journal::lease::{RENEW, TTL};
use tokio::time::sleep;

use super::{Core, spool};
use crate::state::renew_lease;

/// Waits for a statement, keeps the lease meanwhile, and reads the slot, which would hold the server's log for as long.
///
/// # Errors
/// Those of the statement; [`replank_core::ErrorKind::Fenced`] when another runner took over.
pub async fn holding_the_lease<T>(core: &Core, call: impl Future<Output = Result<T>>) -> Result<T> {
    let mut aside = core.server.take().await?;
    core.check_token(&mut aside).await?;
    tokio::pin!(call);
    let done = loop {
        tokio::select! {
            done = &mut call => break done?,
            () = sleep(RENEW) => {
                renew_lease(&mut aside, &core.names, &core.job.table, core.fence(), TTL).await?;
                if core.captures_by_slot() {
                    spool::keep_up(core).await?;
                }
            }
        }
    };
    core.server.keep(aside);
    Ok(done)
}
