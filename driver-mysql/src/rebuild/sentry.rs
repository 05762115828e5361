//! A table in the way of the rename, where another session than the lock's has to rename (MariaDB).
//!
//! It is called as the live table shall be called, so that the rename fails while it is there; only the session that
//! holds the lock can drop it. A rename that comes too late, after that session has died, changes nothing.

use replank_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::Core;
use crate::connect::Conn;
use crate::definition;
use crate::sql::{run, table};
use crate::state::ObjectRole;

const COLUMNS: &str = "`replank_sentry` int(11) DEFAULT NULL";

/// Puts it there. Those of earlier attempts go.
pub async fn make(core: &Core, connection: &mut Conn, name: &str) -> Result<()> {
    for left in core.objects.of(connection, ObjectRole::Sentry).await? {
        if left.name == name {
            continue;
        }
        if is_one(core, connection, &left.name).await? {
            run(connection, format!("DROP TABLE {}", table(core.schema(), &left.name))).await?;
            core.objects.remove(connection, core.retiring_role().1, &left.name).await?;
        }
        core.objects.remove(connection, ObjectRole::Sentry, &left.name).await?;
    }
    core.objects.put(connection, ObjectRole::Sentry, name, &json!({})).await?;
    if is_one(core, connection, name).await? {
        return Ok(());
    }
    run(connection, format!("CREATE TABLE {} ({COLUMNS}) ENGINE=InnoDB", table(core.schema(), name)))
        .await
        .map(drop)
}

/// Takes it out of the way, on the session that holds the lock.
///
/// # Errors
/// [`ErrorKind::Retry`] when there is another table under its name, which is let alone.
pub async fn dismiss(core: &Core, connection: &mut Conn, name: &str) -> Result<()> {
    if !is_one(core, connection, name).await? {
        return Err(Error::new(ErrorKind::Retry, format!("`{name}` is not the table that was put there")));
    }
    run(connection, format!("DROP TABLE {}", table(core.schema(), name))).await.map(drop)
}

/// By its definition: after a swap whose reply was lost, the name is the retired table's.
async fn is_one(core: &Core, connection: &mut Conn, name: &str) -> Result<bool> {
    let found = definition::read(connection, core.schema(), name).await?;
    Ok(found.is_some_and(|sql| sql.contains(COLUMNS) && sql.lines().count() == 3))
}
