//! The log of a replica, read in place of the server's own: its disk and its network are spared.
//!
//! A replica's log has the same transactions under the same numbers, later. Whether a transaction is visible is still
//! asked of the server where rows are read.

use mysql_async::Row;
use replank_core::driver::Check;
use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::{Conn, Product, Server};
use crate::preflight::{self, bad};
use crate::replicas::channels;
use crate::sql::{first, get, text};

/// A replica that has not come so far within this may take hours. Chosen.
const CATCH_UP_SECONDS: u64 = 60;

/// A session that can read the log, of a server that has everything up to `from`.
///
/// # Errors
/// [`ErrorKind::Retry`] while the replica has not.
pub async fn reader(server: &Server, from: &Position) -> Result<Conn> {
    let Some((host, port)) = server.log_of() else { return server.connect().await };
    let mut connection = server.elsewhere(host, port).await?;
    if from.0.is_empty() {
        return Ok(connection);
    }
    let wait = match connection.product() {
        Product::MySql => "WAIT_FOR_EXECUTED_GTID_SET",
        Product::MariaDb => "MASTER_GTID_WAIT",
    };
    let sql = format!("SELECT {wait}({}, {CATCH_UP_SECONDS})", text(&from.0));
    let answer: Option<i64> = first(&mut connection, sql).await?.map(|row| get(&row, 0)).transpose()?;
    if answer != Some(0) {
        let said =
            format!("the replica at {host}:{port} has not come to what the server had when the feed began");
        return Err(Error::new(ErrorKind::Retry, said)
            .hint("does it replicate? without `log-of` the server's own log is read"));
    }
    Ok(connection)
}

/// What must hold of the replica, if there is one in the target: its log has every row that the server's has.
pub async fn checks(server: &Server) -> Result<Vec<Check>> {
    let Some((host, port)) = server.log_of() else { return Ok(Vec::new()) };
    let at = format!("log of {host}:{port}");
    let mut connection = match server.elsewhere(host, port).await {
        Ok(connection) => connection,
        Err(error) => {
            return Ok(vec![bad(
                &at,
                format!("cannot be read: {}", error.message()),
                "take `log-of` out of the target, or mend it",
            )]);
        }
    };
    let mut found = preflight::log(&mut connection).await?;
    for name in ["log_replica_updates", "log_slave_updates"] {
        if preflight::variable(&mut connection, name).await?.is_some_and(|value| value != "ON") {
            found.push(bad(
                name,
                "OFF".to_owned(),
                &format!("start the replica with --{}", name.replace('_', "-")),
            ));
            break;
        }
    }
    match &channels(&mut connection).await?[..] {
        [] => found.push(bad("replication", "it follows nobody".to_owned(), "name a replica of the target")),
        [channel] => found.extend(channel_checks(channel)),
        _ => found.push(bad(
            "replication",
            "it follows several servers".to_owned(),
            "name a replica of the target alone",
        )),
    }
    for check in &mut found {
        check.name = format!("{at}: {}", check.name);
    }
    Ok(found)
}

/// Everything arrives there.
fn channel_checks(channel: &Row) -> Vec<Check> {
    let word = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| channel.get_opt::<Option<String>, _>(*name)?.ok())
            .flatten()
            .unwrap_or_default()
    };
    let mut found = Vec::new();
    for names in [["Replica_IO_Running", "Slave_IO_Running"], ["Replica_SQL_Running", "Slave_SQL_Running"]] {
        let runs = word(&names);
        if runs != "Yes" {
            found.push(bad(names[0], runs, "START REPLICA there"));
        }
    }
    for name in [
        "Replicate_Do_DB",
        "Replicate_Ignore_DB",
        "Replicate_Do_Table",
        "Replicate_Ignore_Table",
        "Replicate_Wild_Do_Table",
        "Replicate_Wild_Ignore_Table",
        "Replicate_Rewrite_DB",
        "Replicate_Do_Domain_Ids",
        "Replicate_Ignore_Domain_Ids",
    ] {
        let filter = word(&[name]);
        if !filter.is_empty() {
            found.push(bad(name, filter, "name a replica without filters"));
        }
    }
    found
}
