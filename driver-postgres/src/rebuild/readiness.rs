//! What is done before the lock is asked for, while others read and write: the new table's statistics, and filling materialized
//! views. It takes as long as it takes, and the engine may drop it at any time.

use std::sync::atomic::Ordering;

use replank_core::Result;

use super::Core;
use super::matview_filling::Filling;
use crate::connect::Conn;
use crate::sql::run;

/// Does what is to be done.
pub async fn make_ready(core: &Core) -> Result<()> {
    // Its transaction is open, and is not to idle.
    let filling = core.filling.lock().await.take();
    if let Some(filling) = filling {
        filling.fill(core).await?;
    }
    analyze(core).await
}

/// Leaves what an attempt has begun to the next call.
pub async fn leave(core: &Core, filling: Option<Filling>) {
    *core.filling.lock().await = filling.filter(Filling::is_begun);
}

/// The planner must know the new table from the first moment on.
async fn analyze(core: &Core) -> Result<()> {
    if core.is_analyzed.load(Ordering::SeqCst) {
        return Ok(());
    }
    let mut connection = connect(core).await?;
    run(&mut connection, format!("ANALYZE {}", core.written())).await.map_err(|error| core.missed(error))?;
    core.is_analyzed.store(true, Ordering::SeqCst);
    Ok(())
}

/// A session whose statement the server ends when nobody waits for it any more. It would go on to the end, and hold what others
/// of ours need next. Some systems cannot tell a closed connection: there the next fence ends it.
pub async fn connect(core: &Core) -> Result<Conn> {
    let mut connection = core.server.connect().await?;
    if let Err(error) = run(&mut connection, "SET client_connection_check_interval = '1s'").await {
        tracing::debug!(%error, "the server does not look whether its client is there");
    }
    Ok(connection)
}
