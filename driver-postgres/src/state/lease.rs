//! Leases, one a table. The token only ever grows.

use std::time::Duration;

use replank_core::driver::{Lease, LeaseHolder, state::overtaken};
use replank_core::ident::{Fence, TableId};
use replank_core::{Error, ErrorKind, Result};

use super::{NOW_MS, Names, broken, unwritable};
use crate::connect::Conn;
use crate::sql::{first, get, is_so, run, text};

/// Fails with [`ErrorKind::Fenced`] unless `token` is the table's newest at this moment, and with
/// [`ErrorKind::ConnectionLost`] while the server takes no writes. What must hold until a change commits is a condition
/// of the changing statement itself: [`held`].
pub async fn check_token(connection: &mut Conn, names: &Names, table: &TableId, token: Fence) -> Result<()> {
    let sql = format!(
        "SELECT token FROM {} WHERE table_name = {}",
        names.table("leases"),
        text(&table.to_string())
    );
    let newest: Option<Fence> = match first(connection, sql).await? {
        Some(row) => Some(fence(get(&row, 0)?)),
        None => None,
    };
    if newest == Some(token) {
        return check_writes(connection).await;
    }
    Err(overtaken(table, token, newest))
}

async fn check_writes(connection: &mut Conn) -> Result<()> {
    if !is_so(connection, "SELECT pg_is_in_recovery()").await? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConnectionLost, "the server takes no writes: it is a standby")
        .hint("is another server in its place? then name that one as the target"))
}

/// A condition that is true while `token` is the table's newest, and locks the lease's row until the
/// statement has committed: whoever takes over waits for it, or it waits and finds the newer token.
pub fn held(names: &Names, table: &TableId, token: Fence) -> String {
    format!(
        "EXISTS (SELECT 1 FROM {} AS held WHERE held.table_name = {} AND held.token = {} FOR SHARE)",
        names.table("leases"),
        text(&table.to_string()),
        token.0
    )
}

/// The lease as it stands.
pub async fn load(connection: &mut Conn, names: &Names, table: &TableId) -> Result<Option<Lease>> {
    let sql = format!(
        "SELECT token, holder, GREATEST(expires_ms - {NOW_MS}, 0) FROM {} WHERE table_name = {}",
        names.table("leases"),
        text(&table.to_string())
    );
    let Some(row) = first(connection, sql).await? else { return Ok(None) };
    let holder: Option<String> = get(&row, 1)?;
    let holder: Option<LeaseHolder> = holder
        .map(|text| serde_json::from_str(&text).map_err(|error| broken("a lease's holder", error)))
        .transpose()?;
    let remaining = match &holder {
        Some(_) => Duration::from_millis(u64::try_from(get::<i64>(&row, 2)?).unwrap_or_default()),
        None => Duration::ZERO,
    };
    Ok(Some(Lease { token: fence(get(&row, 0)?), holder, remaining }))
}

/// Takes the lease if its token is still `seen`.
pub async fn take(
    connection: &mut Conn,
    names: &Names,
    table: &TableId,
    seen: Option<Fence>,
    holder: &LeaseHolder,
    ttl: Duration,
) -> Result<Option<Fence>> {
    check_writes(connection).await?;
    let holder = serde_json::to_string(holder).map_err(|error| unwritable("a lease's holder", error))?;
    let (leases, name) = (names.table("leases"), text(&table.to_string()));
    let (holder, expiry) = (text(&holder), expiry(ttl));
    let (next, sql) = match seen {
        None => (
            Fence(1),
            format!(
                "INSERT INTO {leases} (table_name, token, holder, expires_ms) VALUES ({name}, 1, {holder}, {expiry})"
            ),
        ),
        Some(seen) => (
            Fence(seen.0 + 1),
            format!(
                "UPDATE {leases} SET token = token + 1, holder = {holder}, expires_ms = {expiry}
                 WHERE table_name = {name} AND token = {}",
                seen.0
            ),
        ),
    };
    match run(connection, sql).await {
        Ok(1) => Ok(Some(next)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Duplicate => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the expiry off.
pub async fn renew(
    connection: &mut Conn,
    names: &Names,
    table: &TableId,
    token: Fence,
    ttl: Duration,
) -> Result<()> {
    let sql = format!(
        "UPDATE {} SET expires_ms = {} WHERE table_name = {} AND token = {} AND holder IS NOT NULL",
        names.table("leases"),
        expiry(ttl),
        text(&table.to_string()),
        token.0
    );
    if run(connection, sql).await? == 1 {
        return Ok(());
    }
    check_token(connection, names, table, token).await?;
    Err(Error::new(ErrorKind::Fenced, format!("the lease of `{table}` was given up")).with("token", token))
}

/// Gives the lease up, if it is still ours.
pub async fn release(connection: &mut Conn, names: &Names, table: &TableId, token: Fence) -> Result<()> {
    let sql = format!(
        "UPDATE {} SET holder = NULL, expires_ms = 0 WHERE table_name = {} AND token = {}",
        names.table("leases"),
        text(&table.to_string()),
        token.0
    );
    run(connection, sql).await.map(drop)
}

/// Tokens are counted from 1 by us.
fn fence(token: i64) -> Fence {
    Fence(u64::try_from(token).unwrap_or_default())
}

fn expiry(ttl: Duration) -> String {
    format!("{NOW_MS} + {}", ttl.as_millis())
}
