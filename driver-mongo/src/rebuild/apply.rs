//! Documents as they are now: read again, and written in one transaction.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::ClientSession;
use replank_core::driver::Applied;
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::value::{Change, Key};
use replank_core::{ErrorKind, Result};

use super::{Core, Target};
use crate::error::{duplicate_at, from_mongo};
use crate::key;

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
    let mut session = core.transaction().await?;
    match within(core, target, changes, left_out, &mut session).await {
        Ok(None) => {
            reached(Boundary::BatchWritten);
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

async fn within(
    core: &Core,
    target: &Target<'_>,
    changes: &[Change],
    left_out: &BTreeSet<String>,
    session: &mut ClientSession,
) -> Result<Option<String>> {
    let ids = key::decode_all(changes.iter().map(|change| &change.key))?;
    let now = read(core, core.live(), &ids, &target.pipeline, session).await?;
    let written = core.collection(&target.name).clone_with_type::<RawDocumentBuf>();
    written.delete_many(doc! { "_id": { "$in": &ids } }).session(&mut *session).await.map_err(from_mongo)?;
    let mut keys = Vec::new();
    let mut documents = Vec::new();
    for document in now {
        let key = key::encode(&id_of(&document)?)?.0;
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
        replank_core::Error::new(ErrorKind::Server, "a document that the server sent cannot be read")
            .caused_by(error)
    };
    match document.get("_id").map_err(broken)? {
        Some(id) => Bson::try_from(id).map_err(broken),
        None => Ok(Bson::Null),
    }
}

/// Commits. An answer that was lost leaves the outcome open: the batch is applied again, which changes nothing.
async fn commit(session: &mut ClientSession) -> Result<()> {
    session.commit_transaction().await.map_err(from_mongo)
}

/// Undoes what it can; the server undoes it by itself when the session is not heard of, and so does whoever takes over.
pub async fn abort(session: &mut ClientSession) {
    if let Err(error) = session.abort_transaction().await {
        tracing::debug!(%error, "a transaction is left to its time-out");
    }
}
