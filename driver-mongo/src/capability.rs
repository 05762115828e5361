//! What a server does, found out by trying it on a collection of our own. Version strings tell what somebody meant to
//! be compatible with; what a rebuild rests on is tried.

use std::time::Duration;

use bson::{Document, doc};
use replank_core::ident::RunId;
use replank_core::{ErrorKind, Result};

use crate::connect::{Server, begin, millis};
use crate::error::{DOCUMENT_INVALID, MAX_TIME_EXPIRED, code, from_mongo};
use crate::inspect::{self, is_set};
use crate::rebuild::{closing, rename};

/// As long as a `collMod` waits here for a transaction that will not go away. Chosen: long enough that a loaded server has
/// begun to wait, and short enough for a plan.
const WAITS: Duration = Duration::from_millis(150);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Why no rebuild can be made here, in words; empty where one can.
    pub missing: Vec<String>,
    /// `collMod` waits for transactions that have written to the collection. Where it does not, what they commit after a
    /// swap's last look is lost.
    pub waits_for_transactions: bool,
    /// A collection keeps its identity when it is renamed.
    pub uuids_last: bool,
    /// It is a mongos: collections may be spread over shards.
    pub is_router: bool,
}

/// Tries everything that a rebuild needs.
///
/// Makes a collection in the database of our records, and removes it. Its transactions are in no records, other than a run's: they touch
/// this one collection, whose name is nobody else's, so that nobody ever waits for one that a killed process left.
pub async fn probe(server: &Server) -> Result<Capabilities> {
    let name = format!("probe_{}", RunId::random());
    let renamed = format!("{name}_renamed");
    let outcome = try_all(server, &name, &renamed).await;
    for name in [&name, &renamed] {
        server.records().collection::<Document>(name).drop().await.map_err(from_mongo)?;
    }
    outcome
}

/// Whether it is a mongos.
pub async fn is_router(server: &Server) -> Result<bool> {
    Ok(server.admin(doc! { "hello": 1 }).await?.get_str("msg").ok() == Some("isdbgrid"))
}

/// Whether an index can be made to refuse new duplicates before it is unique.
pub async fn prepares_unique(server: &Server) -> Result<bool> {
    changes_index(server, "prepareUnique").await
}

/// Whether an index can be hidden from queries.
pub async fn hides_indexes(server: &Server) -> Result<bool> {
    changes_index(server, "hidden").await
}

/// Whether `collMod` sets an option of an index, and the catalogue says so afterwards: some servers answer well and do nothing.
///
/// Makes a collection in the database of our records, and removes it.
async fn changes_index(server: &Server, option: &str) -> Result<bool> {
    let name = format!("probe_{}", RunId::random());
    let records = server.records();
    let trial = async {
        let index = doc! { "key": { "a": 1 }, "name": "a" };
        records.run_command(doc! { "createIndexes": &name, "indexes": [index] }).await?;
        let change = doc! { "collMod": &name, "index": { "name": "a", option: true } };
        records.run_command(change).await?;
        let listed = records.run_command(doc! { "listIndexes": &name }).await?;
        let cursor = listed.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).ok();
        let mut indexes = cursor.into_iter().flatten().filter_map(bson::Bson::as_document);
        Ok(indexes.any(|index| is_set(index, option)))
    };
    let outcome: mongodb::error::Result<bool> = trial.await;
    records.collection::<Document>(&name).drop().await.map_err(from_mongo)?;
    match outcome {
        Ok(changes) => Ok(changes),
        // The command is there, and does not know the word.
        Err(error) if code(&error).is_some() => Ok(false),
        Err(error) => Err(from_mongo(error)),
    }
}

/// Whether a collection keeps its identity when it is renamed.
///
/// Makes a collection in the database of our records, and removes it.
pub async fn keeps_identity(server: &Server) -> Result<bool> {
    let name = format!("probe_{}", RunId::random());
    let renamed = format!("{name}_renamed");
    let trial = async {
        server.records().create_collection(&name).await.map_err(from_mongo)?;
        uuids_last(server, &name, &renamed).await
    };
    let outcome = trial.await;
    for name in [&name, &renamed] {
        server.records().collection::<Document>(name).drop().await.map_err(from_mongo)?;
    }
    outcome
}

async fn try_all(server: &Server, name: &str, renamed: &str) -> Result<Capabilities> {
    let records = server.records();
    records.create_collection(name).await.map_err(from_mongo)?;
    let mut found = Capabilities::default();
    // A server that does not answer says nothing of what it can.
    let mut missing = |is_there: Result<bool>, what: &str| {
        match is_there {
            Ok(true) => {}
            Ok(false) => found.missing.push(what.to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionLost => return Err(error),
            Err(error) => found.missing.push(format!("{what} ({error})")),
        }
        Ok(())
    };
    missing(
        opens_change_stream(server).await,
        "it opens no change stream, and nothing else tells what is written meanwhile",
    )?;
    missing(undoes_aborted(server, name).await, "a transaction that was aborted is not undone")?;
    missing(
        fence_holds(server, name).await,
        "a validator does not keep writes out, or our own writes do not pass it",
    )?;
    found.waits_for_transactions = waits_for_transactions(server, name).await?;
    found.is_router = is_router(server).await?;
    found.uuids_last = uuids_last(server, name, renamed).await?;
    Ok(found)
}

async fn opens_change_stream(server: &Server) -> Result<bool> {
    let opening =
        doc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }], "cursor": { "batchSize": 0 } };
    let reply = server.run(opening).await?;
    let cursor = reply.get_document("cursor").and_then(|cursor| cursor.get_i64("id"));
    if let Ok(id) = cursor {
        server.run(doc! { "killCursors": "$cmd.aggregate", "cursors": [id] }).await?;
    }
    Ok(cursor.is_ok_and(|id| id != 0))
}

async fn undoes_aborted(server: &Server, name: &str) -> Result<bool> {
    let collection = server.records().collection::<Document>(name);
    let mut session = server.session().await?;
    begin(&mut session).await?;
    collection.insert_one(doc! { "_id": "aborted" }).session(&mut session).await.map_err(from_mongo)?;
    session.abort_transaction().await.map_err(from_mongo)?;
    let found = collection.find_one(doc! { "_id": "aborted" }).await.map_err(from_mongo)?;
    Ok(found.is_none())
}

async fn fence_holds(server: &Server, name: &str) -> Result<bool> {
    let records = server.records();
    let collection = records.collection::<Document>(name);
    records.run_command(closing(name, "probe")).await.map_err(from_mongo)?;
    let refused = match collection.insert_one(doc! { "_id": "fenced" }).await {
        Ok(_) => false,
        Err(error) if code(&error) == Some(DOCUMENT_INVALID) => true,
        Err(error) => return Err(from_mongo(error)),
    };
    collection
        .insert_one(doc! { "_id": "ours" })
        .bypass_document_validation(true)
        .await
        .map_err(from_mongo)?;
    records.run_command(doc! { "collMod": name, "validator": {} }).await.map_err(from_mongo)?;
    collection.insert_one(doc! { "_id": "free" }).await.map_err(from_mongo)?;
    Ok(refused)
}

async fn waits_for_transactions(server: &Server, name: &str) -> Result<bool> {
    let records = server.records();
    let collection = records.collection::<Document>(name);
    let mut session = server.session().await?;
    begin(&mut session).await?;
    collection.insert_one(doc! { "_id": "open" }).session(&mut session).await.map_err(from_mongo)?;
    let command = doc! { "collMod": name, "validator": {}, "maxTimeMS": millis(WAITS) };
    let outcome = records.run_command(command).await;
    session.abort_transaction().await.map_err(from_mongo)?;
    match outcome {
        Ok(_) => Ok(false),
        // LockTimeout is the other word for it.
        Err(error) if matches!(code(&error), Some(MAX_TIME_EXPIRED | 24)) => Ok(true),
        Err(error) => Err(from_mongo(error)),
    }
}

async fn uuids_last(server: &Server, name: &str, renamed: &str) -> Result<bool> {
    let before = uuid_in(server, name).await?;
    rename(server, &server.settings().state_name, name, renamed).await?;
    Ok(!before.is_empty() && uuid_in(server, renamed).await? == before)
}

async fn uuid_in(server: &Server, name: &str) -> Result<String> {
    let entry = inspect::entry(&server.records(), name).await?;
    Ok(entry.as_ref().map(inspect::uuid_of).unwrap_or_default())
}
