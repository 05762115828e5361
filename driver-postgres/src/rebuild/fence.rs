//! R5: the written table's name carries the token, and the rename waits for whatever still uses it.

use std::sync::atomic::Ordering;

use replank_core::Result;
use replank_core::ident::{Fence, helper_name};
use serde_json::json;

use super::matviews::{Aside, stamps};
use super::{Core, matviews, number_of, swap};
use crate::connect::Conn;
use crate::sql::{first, get, ident, rows, run, table, text};
use crate::state::{ObjectRole, check_token};

/// Renames the written table to the name that carries `to`.
pub async fn fence(core: &Core, to: Fence) -> Result<()> {
    let mut connection = core.server.take().await?;
    check_token(&mut connection, &core.names, &core.job.table, to).await?;
    core.token.store(to.0, Ordering::SeqCst);
    let (name_role, role) = core.written_role();
    let name = helper_name(&core.job.run, to, name_role);
    for present in core.objects.of(&mut connection, role).await? {
        let full = table(&core.spec.schema, &present.name);
        let Some(number) = number_of(&mut connection, &full).await?.filter(|_| present.name != name) else {
            continue;
        };
        end_users(&mut connection, number).await?;
        run(&mut connection, "BEGIN").await?;
        run(&mut connection, format!("ALTER TABLE {full} RENAME TO {}", ident(&name))).await?;
        core.objects.remove(&mut connection, role, &present.name).await?;
        core.objects.put(&mut connection, role, &name, &present.extra).await?;
        run(&mut connection, "COMMIT").await?;
    }
    rename_matviews(core, &mut connection, to).await?;
    core.fence.store(to.0, Ordering::SeqCst);
    // Whoever swapped was perhaps killed before.
    swap::settle(core, &mut connection).await?;
    core.server.keep(connection);
    Ok(())
}

/// The same for materialized views over it: whoever refreshes one with an older snapshot must not do it later.
async fn rename_matviews(core: &Core, connection: &mut Conn, to: Fence) -> Result<()> {
    for (object, aside) in matviews::remembered(core, connection).await? {
        let (full, name) = (table(&aside.schema, &object.name), core.matview_name(&aside.tail, to));
        if object.name == name {
            continue;
        }
        let Some(number) = number_of(connection, &full).await? else {
            // It went with something else that it read. It is made again where it is still wanted.
            core.objects.remove(connection, ObjectRole::Matview, &object.name).await?;
            continue;
        };
        end_users(connection, number).await?;
        run(connection, "BEGIN").await?;
        // With the lock nobody's REFRESH comes in between, and it changes nothing.
        let locking = format!(
            "SELECT format('ALTER MATERIALIZED VIEW %s OWNER TO %I', {}, pg_get_userbyid(relowner)) FROM pg_class WHERE oid = {number}",
            text(&full)
        );
        if let Some(row) = first(connection, locking).await? {
            run(connection, get::<String>(&row, 0)?).await?;
        }
        let before = stamps(connection, [number]).await?.remove(&number);
        run(connection, format!("ALTER MATERIALIZED VIEW {full} RENAME TO {}", ident(&name))).await?;
        let after = stamps(connection, [number]).await?.remove(&number);
        // The rename writes the stamp anew. Where it was not ours before, somebody else has filled it.
        let is_ours = before == aside.filled;
        let aside = Aside {
            stamp: aside.stamp.filter(|_| is_ours),
            filled: aside.filled.and(after).filter(|_| is_ours),
            ..aside
        };
        core.objects.remove(connection, ObjectRole::Matview, &object.name).await?;
        core.objects.put(connection, ObjectRole::Matview, &name, &json!(aside)).await?;
        run(connection, "COMMIT").await?;
    }
    Ok(())
}

/// Ends the sessions that use the written table. Nobody but runners of this run has any business there; one that was
/// stopped in the middle of a transaction would hold it until the server ends it.
async fn end_users(connection: &mut Conn, number: i64) -> Result<()> {
    let sql = format!(
        "SELECT pg_terminate_backend(l.pid) FROM (SELECT DISTINCT pid FROM pg_locks
         WHERE locktype = 'relation' AND relation = {number} AND pid <> pg_backend_pid()
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS l
         JOIN pg_stat_activity a ON a.pid = l.pid WHERE a.application_name = 'replank'"
    );
    // Gone already, or somebody's whom we may not end: the rename then waits for it.
    if let Err(error) = rows(connection, sql).await {
        tracing::debug!(%error, "a session on the shadow was not ended");
    }
    Ok(())
}
