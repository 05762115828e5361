//! Runs, each one JSON text with a revision and the token of its table's lease.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::driver::Revision;
use replank_core::ident::{Fence, RunId};
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};

use super::{broken, check_token, missing, records, signed, unsigned, unwritable};
use crate::connect::Server;
use crate::error::{from_mongo, is_duplicate};

/// Adds a run at revision 1.
pub async fn create(server: &Server, run: &Run) -> Result<Revision> {
    check_token(server, None, &run.table, run.fence).await?;
    let runs = records(server, "runs");
    let document = doc! {
        "_id": run.id.as_str(),
        "number": super::lease::now_ms(server).await?,
        "table": run.table.to_string(),
        "state": run.state.word(),
        "token": signed(run.fence.0),
        "revision": 1_i64,
        "body": text(run)?,
    };
    match runs.insert_one(document).await {
        Ok(_) => {}
        Err(error) if is_duplicate(&error) => {
            return Err(Error::new(ErrorKind::Internal, format!("run {} is there already", run.id)));
        }
        Err(error) => return Err(from_mongo(error)),
    }
    // Who took the lease between the look and the write has not seen this run.
    if let Err(error) = check_token(server, None, &run.table, run.fence).await {
        if error.kind() == ErrorKind::Fenced {
            runs.delete_one(doc! { "_id": run.id.as_str() }).await.map_err(from_mongo)?;
        }
        return Err(error);
    }
    Ok(Revision(1))
}

/// A run with its revision.
pub async fn load(server: &Server, id: &RunId) -> Result<Option<(Run, Revision)>> {
    let found = records(server, "runs").find_one(doc! { "_id": id.as_str() }).await.map_err(from_mongo)?;
    let Some(found) = found else { return Ok(None) };
    let revision = found.get_i64("revision").map_err(missing("a run"))?;
    Ok(Some((parsed(&found)?, Revision(unsigned(revision)))))
}

/// Every run, oldest first.
pub async fn all(server: &Server) -> Result<Vec<Run>> {
    let found = records(server, "runs").find(doc! {}).sort(doc! { "number": 1, "_id": 1 }).await;
    let found: Vec<Document> = found.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
    found.iter().map(parsed).collect()
}

/// Replaces a run, if its revision and the token are still these.
pub async fn save(server: &Server, run: &Run, expected: Revision, token: Fence) -> Result<Revision> {
    let filter = doc! { "_id": run.id.as_str(), "revision": signed(expected.0), "token": signed(token.0) };
    let update = doc! {
        "$set": { "state": run.state.word(), "body": text(run)? },
        "$inc": { "revision": 1_i64 },
    };
    let done = records(server, "runs").update_one(filter, update).await.map_err(from_mongo)?;
    if done.matched_count == 1 {
        return Ok(Revision(expected.0 + 1));
    }
    check_token(server, None, &run.table, token).await?;
    Err(Error::new(ErrorKind::Fenced, format!("run {} was saved by another runner", run.id))
        .with("revision", expected.0)
        .hint("`replank status` shows who runs it"))
}

fn text(run: &Run) -> Result<String> {
    serde_json::to_string(run).map_err(|error| unwritable("a run", error))
}

fn parsed(found: &Document) -> Result<Run> {
    let body = found.get_str("body").map_err(missing("a run"))?;
    serde_json::from_str(body).map_err(|error| broken("a run", error))
}
