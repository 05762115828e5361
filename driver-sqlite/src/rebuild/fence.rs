//! R5: the written table's name carries the token, and the rename waits for whatever still writes.

use std::sync::atomic::Ordering;

use replank_core::Result;
use replank_core::ident::{Fence, helper_name};
use replank_core::run::Direction;
use sqlx::sqlite::SqliteConnection;

use super::{Core, capture_role, exists, prepare};
use crate::sql::{ident, run};
use crate::state::check_token;

/// Renames the written table to the name that carries `to`.
pub async fn fence(core: &Core, to: Fence) -> Result<()> {
    // The write lock is the wait: nothing that was sent before is still running when it is granted.
    let mut tx = core.database.write().await?;
    check_token(tx.connection(), &core.names, &core.job.table, to).await?;
    let (name_role, role) = core.written_role();
    let name = helper_name(&core.job.run, to, name_role);
    let present = core.objects.one(tx.connection(), role).await?;
    match present {
        Some(present) if present.name != name => {
            rename(core, tx.connection(), &present.name, &name).await?;
            core.objects.remove(tx.connection(), role, &present.name).await?;
            core.objects.put(tx.connection(), role, &name, &present.extra).await?;
            if core.job.direction == Direction::Reverse {
                name_again(core, tx.connection(), &name).await?;
            }
            tx.commit().await?;
        }
        // Nothing was made yet, or it has the name already.
        _ => tx.roll_back().await?,
    }
    core.fence.store(to.0, Ordering::SeqCst);
    Ok(())
}

/// Renames a table and nothing else: the writing connection has `legacy_alter_table = ON`.
async fn rename(core: &Core, connection: &mut SqliteConnection, from: &str, to: &str) -> Result<()> {
    if exists(connection, "table", from).await? {
        return run(connection, format!("ALTER TABLE {} RENAME TO {}", ident(from), ident(to)))
            .await
            .map(|_| ());
    }
    // Its record is newer than we know; what comes next will miss the table and say so.
    tracing::warn!(run = %core.job.run, table = from, "a registered table is not there");
    Ok(())
}

/// The triggers of the reverse capture may name the written table: they are made again.
async fn name_again(core: &Core, connection: &mut SqliteConnection, written: &str) -> Result<()> {
    let direction = core.job.direction;
    if core.spec.flow(direction)?.kept.is_empty() {
        return Ok(());
    }
    let role = capture_role(direction);
    for trigger in core.objects.of(connection, role).await? {
        run(connection, format!("DROP TRIGGER IF EXISTS {}", ident(&trigger.name))).await?;
    }
    core.objects.clear(connection, role).await?;
    prepare::make_triggers(core, connection, direction, written).await
}
