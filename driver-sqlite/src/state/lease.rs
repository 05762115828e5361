//! Leases, one a table. The token only ever grows.

use std::time::Duration;

use replank_core::driver::{Lease, LeaseHolder, state::overtaken};
use replank_core::ident::{Fence, TableId};
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use super::{Names, broken, now_ms, unwritable};
use crate::error::from_sqlx;
use crate::inspect::get;
use crate::sql::query;

/// Fails with [`ErrorKind::Fenced`] unless `token` is the table's newest. In a writing transaction this
/// stays true until its end.
pub async fn check_token(
    connection: &mut SqliteConnection,
    names: &Names,
    table: &TableId,
    token: Fence,
) -> Result<()> {
    let newest = newest(connection, names, table).await?;
    if newest == Some(token) {
        return Ok(());
    }
    Err(overtaken(table, token, newest))
}

async fn newest(connection: &mut SqliteConnection, names: &Names, table: &TableId) -> Result<Option<Fence>> {
    let sql = format!("SELECT token FROM {} WHERE table_name = ?", names.table("leases"));
    let found = query(sql).bind(table.to_string()).fetch_optional(connection).await.map_err(from_sqlx)?;
    found.map(|row| Ok(Fence(get::<i64>(&row, 0)?.unsigned_abs()))).transpose()
}

/// The lease as it stands.
pub async fn load(
    connection: &mut SqliteConnection,
    names: &Names,
    table: &TableId,
) -> Result<Option<Lease>> {
    let sql = format!("SELECT token, holder, expires_ms FROM {} WHERE table_name = ?", names.table("leases"));
    let found = query(sql).bind(table.to_string()).fetch_optional(connection).await.map_err(from_sqlx)?;
    let Some(row) = found else { return Ok(None) };
    let holder: Option<String> = get(&row, 1)?;
    let holder: Option<LeaseHolder> = holder
        .map(|text| serde_json::from_str(&text).map_err(|error| broken("a lease's holder", error)))
        .transpose()?;
    let left = get::<i64>(&row, 2)?.saturating_sub(now_ms());
    let remaining = match &holder {
        Some(_) => Duration::from_millis(u64::try_from(left).unwrap_or(0)),
        None => Duration::ZERO,
    };
    Ok(Some(Lease { token: Fence(get::<i64>(&row, 0)?.unsigned_abs()), holder, remaining }))
}

/// Takes the lease if its token is still `seen`.
pub async fn take(
    connection: &mut SqliteConnection,
    names: &Names,
    table: &TableId,
    seen: Option<Fence>,
    holder: &LeaseHolder,
    ttl: Duration,
) -> Result<Option<Fence>> {
    if newest(connection, names, table).await? != seen {
        return Ok(None);
    }
    let next = Fence(seen.map_or(1, |seen| seen.0 + 1));
    let holder = serde_json::to_string(holder).map_err(|error| unwritable("a lease's holder", error))?;
    let sql = format!(
        "INSERT INTO {} (table_name, token, holder, expires_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (table_name) DO UPDATE SET token = ?2, holder = ?3, expires_ms = ?4",
        names.table("leases")
    );
    query(sql)
        .bind(table.to_string())
        .bind(number(next)?)
        .bind(holder)
        .bind(expiry(ttl))
        .execute(connection)
        .await
        .map_err(from_sqlx)?;
    Ok(Some(next))
}

/// Puts the expiry off.
pub async fn renew(
    connection: &mut SqliteConnection,
    names: &Names,
    table: &TableId,
    token: Fence,
    ttl: Duration,
) -> Result<()> {
    check_token(connection, names, table, token).await?;
    let sql = format!(
        "UPDATE {} SET expires_ms = ? WHERE table_name = ? AND token = ? AND holder IS NOT NULL",
        names.table("leases")
    );
    let done = query(sql)
        .bind(expiry(ttl))
        .bind(table.to_string())
        .bind(number(token)?)
        .execute(connection)
        .await
        .map_err(from_sqlx)?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Fenced, format!("the lease of `{table}` was given up")).with("token", token))
}

/// Gives the lease up, if it is still ours.
pub async fn release(
    connection: &mut SqliteConnection,
    names: &Names,
    table: &TableId,
    token: Fence,
) -> Result<()> {
    let sql = format!(
        "UPDATE {} SET holder = NULL, expires_ms = 0 WHERE table_name = ? AND token = ?",
        names.table("leases")
    );
    query(sql)
        .bind(table.to_string())
        .bind(number(token)?)
        .execute(connection)
        .await
        .map_err(from_sqlx)
        .map(|_| ())
}

fn expiry(ttl: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
}

fn number(token: Fence) -> Result<i64> {
    i64::try_from(token.0).map_err(|_| Error::new(ErrorKind::Internal, "a fencing token is too large"))
}
