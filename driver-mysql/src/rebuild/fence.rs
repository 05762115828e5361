//! R5: the written table's name carries the token, and the rename waits for whatever still uses it.

use std::sync::atomic::Ordering;

use replank_core::Result;
use replank_core::ident::Fence;

use super::{Core, exists, mend};
use crate::connect::Conn;
use crate::holders::are_visible;
use crate::sql::{get, rows, run, table, text};
use crate::state::check_token;

/// Renames the written table to the name that carries `to`.
pub async fn fence(core: &Core, to: Fence) -> Result<()> {
    let mut connection = core.server.take().await?;
    check_token(&mut connection, &core.names, &core.job.table, to).await?;
    core.token.store(to.0, Ordering::SeqCst);
    // A rename of a table that keys of others point at would wait for those others.
    mend::mend(core).await?;
    let (name_role, role) = core.written_role();
    let name = core.name_under(to, name_role);
    for present in core.objects.of(&mut connection, role).await? {
        if present.name == name || !exists(&mut connection, core.home(role), &present.name).await? {
            continue;
        }
        end_users(core, &mut connection, &present.name).await?;
        core.objects.put(&mut connection, role, &name, &present.extra).await?;
        let (from, to) = (table(core.home(role), &present.name), table(core.home(role), &name));
        run(&mut connection, format!("RENAME TABLE {from} TO {to}")).await?;
        core.objects.remove(&mut connection, role, &present.name).await?;
    }
    core.server.keep(connection);
    core.fence.store(to.0, Ordering::SeqCst);
    // What was begun until the name was taken away.
    mend::mend(core).await
}

/// Ends the sessions that use the written table. Nobody but runners of this run has any business there; one
/// that was stopped in the middle of a transaction, or under the lock of the swap, would hold it for ever.
///
/// A MariaDB that does not tell who holds a table ends such sessions by itself: see [`crate::connect`].
async fn end_users(core: &Core, connection: &mut Conn, name: &str) -> Result<()> {
    if !are_visible(connection).await? {
        return Ok(());
    }
    let sql = format!(
        "SELECT DISTINCT t.processlist_id FROM performance_schema.metadata_locks AS l
         JOIN performance_schema.threads AS t ON t.thread_id = l.owner_thread_id
         WHERE l.object_type = 'TABLE' AND l.object_schema = {} AND l.object_name = {}
         AND t.processlist_id IS NOT NULL AND t.processlist_id <> CONNECTION_ID()",
        text(core.written_home()),
        text(name)
    );
    for user in rows(connection, sql).await? {
        let id: u64 = get(&user, 0)?;
        // Gone already, or somebody's whom we may not end: the rename then waits for it.
        if let Err(error) = run(connection, format!("KILL {id}")).await {
            tracing::debug!(%error, id, "a session on the shadow was not ended");
        }
    }
    Ok(())
}
