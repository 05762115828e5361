//! Other sessions on the server: what they are at, and ending them.

use replank_core::{ErrorKind, Result};

use crate::connect::{Conn, Product};
use crate::sql::{number, run};

/// All sessions, as a table expression with the columns `id`, `command`, `state` and `info`.
///
/// MySQL's `information_schema.processlist` takes a lock that all sessions need; MariaDB's does not, and its
/// `performance_schema` is off by default.
pub fn sessions(product: Product) -> &'static str {
    match product {
        Product::MySql => {
            "(SELECT processlist_id AS id, processlist_command AS command, processlist_state AS state, processlist_info AS info
              FROM performance_schema.threads WHERE processlist_id IS NOT NULL) AS sessions"
        }
        Product::MariaDb => "(SELECT id, command, state, info FROM information_schema.processlist) AS sessions",
    }
}

/// Whether a session waits for the lock on a table's definition.
pub async fn waits_for_table(connection: &mut Conn, id: u32) -> Result<bool> {
    let sql = format!(
        "SELECT COUNT(*) FROM {} WHERE id = {id} AND state = 'Waiting for table metadata lock'",
        sessions(connection.product())
    );
    Ok(number(connection, sql).await? > 0)
}

/// Whether there is such a session.
pub async fn is_there(connection: &mut Conn, id: u32) -> Result<bool> {
    let sql = format!("SELECT COUNT(*) FROM {} WHERE id = {id}", sessions(connection.product()));
    Ok(number(connection, sql).await? > 0)
}

/// Ends a session (`KILL`), or only its statement (`KILL QUERY`); one that has ended by itself is as good.
pub async fn end(connection: &mut Conn, how: &str, id: impl std::fmt::Display + Send) -> Result<()> {
    match run(connection, format!("{how} {id}")).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
