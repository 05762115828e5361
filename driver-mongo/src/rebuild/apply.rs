//! Documents as they are now: read again, and written in one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::ClientSession;
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use replank_core::driver::Applied;
use replank_core::value::{Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::{Core, Target};
use crate::error::{duplicate_at, from_mongo};
use crate::key;
use crate::state::check_token;

/// One batch, in one transaction of one snapshot for each collection that is written.
pub async fn apply(core: &Core, changes: &[Change]) -> Result<Applied> {
    let mut left_out: BTreeSet<String> = BTreeSet::new();
    if changes.is_empty() {
        return Ok(Applied::default());
    }
    for target in core.targets()? {
        // Each round leaves one more document out; without any it cannot collide any more.
        while let Some(collides) = attempt(core, &target, changes, &left_out).await? {
            left_out.insert(collides);
        }
    }
    // The feed may have spelled a key otherwise than the document does: 1 and 1.0 are one.
    let displaced = left_out
        .into_iter()
        .map(|key| {
            let known = changes.iter().find(|change| change.key.0 == key).cloned();
            known.map_or_else(|| key::change(&key::decode(&Key(key))?, false, core.collation()), Ok)
        })
        .collect::<Result<_>>()?;
    Ok(Applied { displaced })
}

/// Answers with the key of a document that another one keeps out.
async fn attempt(
    core: &Core,
    target: &Target<'_>,
    changes: &[Change],
    left_out: &BTreeSet<String>,
) -> Result<Option<String>> {
    let mut session = core.server.transaction().await?;
    match within(core, target, changes, left_out, &mut session).await {
        Ok(None) => {
            commit(&mut session).await?;
            Ok(None)
        }
        Ok(Some(collides)) => {
            abort(&mut session).await;
            Ok(Some(collides))
        }
        Err(error) => {
            abort(&mut session).await;
            Err(error)
        }
    }
}

/// The server's limit. What passes it is told by its key here, where the client would call it an argument of ours.
const LARGEST: usize = 16 * 1024 * 1024;

async fn within(
    core: &Core,
    target: &Target<'_>,
    changes: &[Change],
    left_out: &BTreeSet<String>,
    session: &mut ClientSession,
) -> Result<Option<String>> {
    check_token(&core.server, Some(&mut *session), &core.job.table, core.fence()).await?;
    let ids = key::decode_all(changes.iter().map(|change| &change.key))?;
    let now = read(core, core.live(), &ids, &target.pipeline, session).await?;
    let written = core.collection(&target.name).clone_with_type::<RawDocumentBuf>();
    written.delete_many(doc! { "_id": { "$in": &ids } }).session(&mut *session).await.map_err(from_mongo)?;
    let mut keys = Vec::new();
    let mut documents = Vec::new();
    for document in now {
        let key = key::encode(&id_of(&document)?)?.0;
        if document.as_bytes().len() > LARGEST {
            let says = "a document becomes larger than 16 MiB, which the server does not take";
            return Err(Error::new(ErrorKind::Unfit, says)
                .with("_id", key)
                .hint("make the document smaller, and begin again; or make the pipeline keep it smaller"));
        }
        if !left_out.contains(&key) {
            keys.push(key);
            documents.push(document);
        }
    }
    if documents.is_empty() {
        return Ok(None);
    }
    let inserting = written.insert_many(&documents).bypass_document_validation(true).session(&mut *session);
    match inserting.await {
        Ok(_) => Ok(None),
        Err(error) => match duplicate_at(&error).and_then(|at| keys.get(at)) {
            Some(key) => Ok(Some(key.clone())),
            None => Err(from_mongo(error)),
        },
    }
}

/// The documents of some keys, through a pipeline, as the session sees them.
pub async fn read(
    core: &Core,
    name: &str,
    ids: &[Bson],
    pipeline: &[Document],
    session: &mut ClientSession,
) -> Result<Vec<RawDocumentBuf>> {
    let mut stages = vec![doc! { "$match": { "_id": { "$in": ids } } }];
    stages.extend(pipeline.iter().cloned());
    let mut found = core
        .collection(name)
        .aggregate(stages)
        .with_type::<RawDocumentBuf>()
        .session(&mut *session)
        .await
        .map_err(from_mongo)?;
    found.stream(session).try_collect().await.map_err(from_mongo)
}

/// Which of these the live collection has.
pub async fn those_there(core: &Core, ids: &[Bson]) -> Result<BTreeSet<Key>> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let live = core.collection(core.live());
    let found = live.find(doc! { "_id": { "$in": ids } }).projection(doc! { "_id": 1 });
    let found: Vec<Document> = found.await.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
    found.iter().filter_map(|document| document.get("_id")).map(key::encode).collect()
}

/// A document's `_id`.
pub fn id_of(document: &RawDocumentBuf) -> Result<Bson> {
    let broken = |error: bson::error::Error| {
        Error::new(ErrorKind::Server, "a document that the server sent cannot be read").caused_by(error)
    };
    match document.get("_id").map_err(broken)? {
        Some(id) => Bson::try_from(id).map_err(broken),
        None => Ok(Bson::Null),
    }
}

/// A set that elects a primary has one within seconds, and the client itself waits for it. Chosen.
const COMMITS: u32 = 5;
const COMMIT_AGAIN: Duration = Duration::from_millis(200);

/// Commits. A commit may be sent again, and answers what came of the first one: a transaction that is left open keeps its
/// documents from the next attempt until the server gives it up. One that is unknown even then is made good by that attempt,
/// which changes nothing where the first one was done.
pub async fn commit(session: &mut ClientSession) -> Result<()> {
    let mut commits = 1;
    loop {
        match session.commit_transaction().await {
            Err(error) if commits < COMMITS && error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                commits += 1;
                tokio::time::sleep(COMMIT_AGAIN).await;
            }
            committed => return committed.map_err(from_mongo),
        }
    }
}

/// Undoes what it can; the server undoes it by itself when the session is not heard of.
pub async fn abort(session: &mut ClientSession) {
    if let Err(error) = session.abort_transaction().await {
        tracing::debug!(%error, "a transaction is left to its time-out");
    }
}
