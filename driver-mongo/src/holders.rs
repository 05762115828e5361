//! Who has a transaction open on the database: a `collMod` would wait for it, and everybody else behind that.

use std::time::Duration;

use bson::{Bson, Document, doc};
use replank_core::Result;
use replank_core::driver::Holder;

use crate::connect::Server;
use crate::inspect::number;

/// As many as a person looks at.
const SHOWN: usize = 10;

/// Transactions that are open for longer than `budget`. A server that does not list them lists nobody.
pub async fn holders(server: &Server, budget: Duration) -> Result<Vec<Holder>> {
    let micros = i64::try_from(budget.as_micros()).unwrap_or(i64::MAX);
    let wanted = doc! {
        "transaction.timeOpenMicros": { "$gt": micros },
        "appName": { "$ne": "replank" },
        "clientMetadata.application.name": { "$ne": "replank" },
    };
    Ok(operations(server, true, wanted).await?.iter().take(SHOWN).map(holder).collect())
}

/// What the server is at, of all users; with what idle sessions keep open, if that is asked for.
pub async fn operations(server: &Server, idle_sessions: bool, wanted: Document) -> Result<Vec<Document>> {
    let listing = doc! {
        "aggregate": 1,
        "pipeline": [{ "$currentOp": { "allUsers": true, "idleSessions": idle_sessions } }, { "$match": wanted }],
        "cursor": {},
    };
    let reply = server.admin(listing).await?;
    let batch = reply.get_document("cursor").ok().and_then(|cursor| cursor.get_array("firstBatch").ok());
    Ok(batch.into_iter().flatten().filter_map(Bson::as_document).cloned().collect())
}

fn holder(operation: &Document) -> Holder {
    let text = |name: &str| operation.get_str(name).ok().map(ToOwned::to_owned);
    let session = operation.get_document("lsid").map(crate::ejson::document_text).unwrap_or_default();
    let open = operation
        .get_document("transaction")
        .ok()
        .and_then(|transaction| transaction.get("timeOpenMicros"))
        .map_or(0, number);
    let who = [text("appName"), text("client")].into_iter().flatten().collect::<Vec<_>>().join(" at ");
    Holder {
        id: text("opid").unwrap_or(session),
        about: format!("a transaction of {who}, open for {} ms", open / 1000),
    }
}
