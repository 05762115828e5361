//! Leases, one a collection. The token only ever grows.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::ClientSession;
use mongodb::options::ReturnDocument;
use replank_core::driver::{Lease, LeaseHolder, state::overtaken};
use replank_core::ident::{Fence, TableId};
use replank_core::{Error, ErrorKind, Result};

use super::{broken, missing, records, signed, unsigned, unwritable};
use crate::connect::{Server, millis};
use crate::error::{from_mongo, is_duplicate};

/// Fails with [`ErrorKind::Fenced`] unless `token` is the table's newest, as a read of the session sees it, or of its
/// transaction.
pub async fn check_token(
    server: &Server,
    session: Option<&mut ClientSession>,
    table: &TableId,
    token: Fence,
) -> Result<()> {
    let leases = records(server, "leases");
    let finding = leases.find_one(doc! { "_id": table.to_string() });
    let found = match session {
        Some(session) => finding.session(session).await,
        None => finding.await,
    };
    let newest = found.map_err(from_mongo)?.as_ref().map(of).transpose()?;
    if newest == Some(token) {
        return Ok(());
    }
    Err(overtaken(table, token, newest))
}

fn of(lease: &Document) -> Result<Fence> {
    let token = lease.get_i64("token").map_err(missing("a lease"))?;
    Ok(Fence(unsigned(token)))
}

/// Milliseconds since 1970 by the primary's clock.
pub async fn now_ms(server: &Server) -> Result<i64> {
    let hello = server.admin(doc! { "hello": 1 }).await?;
    let now = hello.get_datetime("localTime").map_err(missing("the server's time"))?;
    Ok(now.timestamp_millis())
}

/// The lease as it stands.
pub async fn load(server: &Server, table: &TableId) -> Result<Option<Lease>> {
    let found = records(server, "leases").find_one(doc! { "_id": table.to_string() }).await;
    let Some(found) = found.map_err(from_mongo)? else { return Ok(None) };
    let holder: Option<LeaseHolder> = found
        .get_str("holder")
        .ok()
        .map(|text| serde_json::from_str(text).map_err(|error| broken("a lease's holder", error)))
        .transpose()?;
    let expires = found.get_i64("expires_ms").map_err(missing("a lease"))?;
    let remaining = match &holder {
        Some(_) => {
            let left = expires.saturating_sub(now_ms(server).await?);
            Duration::from_millis(u64::try_from(left).unwrap_or(0))
        }
        None => Duration::ZERO,
    };
    Ok(Some(Lease { token: of(&found)?, holder, remaining }))
}

/// Takes the lease if its token is still `seen`, and with it every run of the table: what the one before still writes finds
/// its token gone.
pub async fn take(
    server: &Server,
    table: &TableId,
    seen: Option<Fence>,
    holder: &LeaseHolder,
    ttl: Duration,
) -> Result<Option<Fence>> {
    let next = Fence(seen.map_or(1, |seen| seen.0 + 1));
    let holder = serde_json::to_string(holder).map_err(|error| unwritable("a lease's holder", error))?;
    let expires_ms = now_ms(server).await?.saturating_add(millis(ttl));
    let leases = records(server, "leases");
    let name = table.to_string();
    let lease = doc! { "_id": &name, "token": signed(next.0), "holder": holder, "expires_ms": expires_ms };
    let taken = match seen {
        None => match leases.insert_one(lease).await {
            Ok(_) => true,
            Err(error) if is_duplicate(&error) => false,
            Err(error) => return Err(from_mongo(error)),
        },
        Some(seen) => {
            let filter = doc! { "_id": &name, "token": signed(seen.0) };
            leases.replace_one(filter, lease).await.map_err(from_mongo)?.matched_count == 1
        }
    };
    if !taken {
        return Ok(None);
    }
    hand_over(server, &name, next).await?;
    Ok(Some(next))
}

/// Takes the lease from whoever has it, for nobody: all that one still sends is under an older token. Answers with the newest; `None`
/// where nobody has ever had it.
pub async fn seize(server: &Server, table: &TableId) -> Result<Option<Fence>> {
    let name = table.to_string();
    let taken = records(server, "leases")
        .find_one_and_update(
            doc! { "_id": &name },
            doc! { "$inc": { "token": 1_i64 }, "$set": { "holder": null, "expires_ms": 0_i64 } },
        )
        .return_document(ReturnDocument::After)
        .await
        .map_err(from_mongo)?;
    let Some(token) = taken.as_ref().map(of).transpose()? else { return Ok(None) };
    hand_over(server, &name, token).await?;
    Ok(Some(token))
}

/// From here on only saves under this token find the runs of a table.
async fn hand_over(server: &Server, table: &str, token: Fence) -> Result<()> {
    records(server, "runs")
        .update_many(doc! { "table": table }, doc! { "$max": { "token": signed(token.0) } })
        .await
        .map_err(from_mongo)
        .map(|_| ())
}

/// Puts the expiry off.
pub async fn renew(server: &Server, table: &TableId, token: Fence, ttl: Duration) -> Result<()> {
    let expires_ms = now_ms(server).await?.saturating_add(millis(ttl));
    let filter = doc! { "_id": table.to_string(), "token": signed(token.0), "holder": { "$ne": null } };
    let done = records(server, "leases")
        .update_one(filter, doc! { "$set": { "expires_ms": expires_ms } })
        .await
        .map_err(from_mongo)?;
    if done.matched_count == 1 {
        return Ok(());
    }
    check_token(server, None, table, token).await?;
    Err(Error::new(ErrorKind::Fenced, format!("the lease of `{table}` was given up")).with("token", token))
}

/// Gives the lease up, if it is still ours.
pub async fn release(server: &Server, table: &TableId, token: Fence) -> Result<()> {
    let filter = doc! { "_id": table.to_string(), "token": signed(token.0) };
    records(server, "leases")
        .update_one(filter, doc! { "$set": { "holder": null, "expires_ms": 0_i64 } })
        .await
        .map_err(from_mongo)
        .map(|_| ())
}
