//! Removing what a run owns.

use replank_core::Result;
use replank_core::engine::boundary::{Boundary, reached};

use super::{Core, fence, guard};
use crate::error::from_mongo;
use crate::state::{ObjectRole, end_sessions};

/// Removes every helper collection. The record of identities stays: it tells who owned the name.
pub async fn discard(core: &Core) -> Result<()> {
    core.check_token().await?;
    // Before anything that would wait for a transaction of the one before.
    end_sessions(&core.server, &core.job.table, core.fence()).await?;
    guard::lift(core).await?;
    for name in fence::own_collections(core).await? {
        reached(Boundary::DropBegun);
        // Somebody may have taken over since the last one.
        core.check_token().await?;
        core.collection(&name).drop().await.map_err(from_mongo)?;
        reached(Boundary::DropDone);
    }
    for role in [ObjectRole::Shadow, ObjectRole::Retired, ObjectRole::Log, ObjectRole::Tail] {
        core.objects.remove(&core.server, role).await?;
    }
    core.sessions.forget(&core.server, &core.job.table, core.fence()).await
}
