//! Removing what a run owns, and never the table that applications use.

use replank_core::Result;
use replank_core::engine::boundary::{Boundary, reached};

use super::{Core, exists, mend};
use crate::sql::{run, table};
use crate::state::{ObjectRole, check_token, is_made};

/// Removes everything that the run owns. Names of helper tables are never those of applications, and only
/// what is registered is dropped.
pub async fn discard(core: &Core) -> Result<()> {
    let mut connection = core.server.take().await?;
    if is_made(&mut connection, &core.names).await? {
        check_token(&mut connection, &core.names, &core.job.table, core.fence()).await?;
        mend::mend(core).await?;
        for object in core.objects.all(&mut connection).await? {
            if !object.role.is_ours() {
                continue;
            }
            if exists(&mut connection, core.home(object.role), &object.name).await? {
                reached(Boundary::DropBegun);
                // Somebody may have taken over since the last one.
                check_token(&mut connection, &core.names, &core.job.table, core.fence()).await?;
                run(&mut connection, format!("DROP TABLE {}", table(core.home(object.role), &object.name)))
                    .await?;
                reached(Boundary::DropDone);
            }
            core.objects.remove(&mut connection, object.role, &object.name).await?;
        }
        core.objects.clear(&mut connection, ObjectRole::Live).await?;
    }
    core.server.keep(connection);
    Ok(())
}
