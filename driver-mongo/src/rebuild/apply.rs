//! Documents as they are now: read again, and written in one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::ClientSession;
use mongodb::error::{Error as MongoError, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use replank_core::driver::Applied;
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::value::{Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::{Core, Target};
use crate::error::{duplicate_at, from_mongo, is_too_large};
use crate::key;

/// What a transaction may write, unless it is a single document. Chosen: half of the largest document, in four lanes far below the part
/// of its cache that a server gives to what is not committed.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// One batch, in one transaction of one snapshot for each collection that is written; in several where its documents are large. What
/// collides with a document that a later one removes is left out, and comes again.
pub async fn apply(core: &Core, changes: &[Change]) -> Result<Applied> {
    let mut left_out: BTreeSet<String> = BTreeSet::new();
    if changes.is_empty() {
        return Ok(Applied::default());
    }
    let ids = key::decode_all(changes.iter().map(|change| &change.key))?;
    for target in core.targets()? {
        let mut due = vec![ids.as_slice()];
        while let Some(piece) = due.pop() {
            match attempt(core, &target, piece, &left_out).await? {
                Attempt::Done => {}
                // Each round leaves one more document out; without any it cannot collide any more.
                Attempt::Collides(key) => {
                    left_out.insert(key);
                    due.push(piece);
                }
                Attempt::TooLarge => {
                    let (first, second) = piece.split_at(piece.len() / 2);
                    due.extend([second, first]);
                }
            }
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

/// How it went; but where it is done, nothing was written.
enum Attempt {
    Done,
    /// Another document keeps that of this key out.
    Collides(String),
    /// It is more than one transaction should have, and more than one document.
    TooLarge,
}

async fn attempt(
    core: &Core,
    target: &Target<'_>,
    ids: &[Bson],
    left_out: &BTreeSet<String>,
) -> Result<Attempt> {
    let mut session = core.transaction().await?;
    let outcome = match within(core, target, ids, left_out, &mut session).await {
        Ok(Attempt::Done) => {
            reached(Boundary::BatchWritten);
            // An answer that was lost leaves the outcome open: the batch is applied again, which changes nothing.
            match commit(&mut session).await {
                Ok(()) => return Ok(Attempt::Done),
                Err(error) => refused(error, ids.len()),
            }
        }
        other => other,
    };
    abort(&mut session).await;
    outcome
}

/// A server that takes no transaction of this size may take a part of it.
fn refused(error: MongoError, documents: usize) -> Result<Attempt> {
    if documents > 1 && is_too_large(&error) { Ok(Attempt::TooLarge) } else { Err(from_mongo(error)) }
}

/// The server's limit. What passes it is told by its key here, where the client would call it an argument of ours.
const LARGEST: usize = 16 * 1024 * 1024;

async fn within(
    core: &Core,
    target: &Target<'_>,
    ids: &[Bson],
    left_out: &BTreeSet<String>,
    session: &mut ClientSession,
) -> Result<Attempt> {
    let bytes_max = if ids.len() > 1 { BYTES_MAX } else { usize::MAX };
    let Some(now) = read(core, ids, &target.pipeline, bytes_max, session).await? else {
        return Ok(Attempt::TooLarge);
    };
    let written = core.collection(&target.name).clone_with_type::<RawDocumentBuf>();
    if let Err(error) = written.delete_many(doc! { "_id": { "$in": ids } }).session(&mut *session).await {
        return refused(error, ids.len());
    }
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
        return Ok(Attempt::Done);
    }
    let inserting = written.insert_many(&documents).bypass_document_validation(true).session(&mut *session);
    match inserting.await {
        Ok(_) => Ok(Attempt::Done),
        Err(error) => match duplicate_at(&error).and_then(|at| keys.get(at)) {
            Some(key) => Ok(Attempt::Collides(key.clone())),
            None => refused(error, ids.len()),
        },
    }
}

/// The live documents of some keys, through a pipeline, as the session sees them; `None` where they are more than so many bytes.
async fn read(
    core: &Core,
    ids: &[Bson],
    pipeline: &[Document],
    bytes_max: usize,
    session: &mut ClientSession,
) -> Result<Option<Vec<RawDocumentBuf>>> {
    let mut stages = vec![doc! { "$match": { "_id": { "$in": ids } } }];
    stages.extend(pipeline.iter().cloned());
    let mut found = core
        .collection(core.live())
        .aggregate(stages)
        .with_type::<RawDocumentBuf>()
        .session(&mut *session)
        .await
        .map_err(from_mongo)?;
    let mut stream = found.stream(session);
    let (mut documents, mut bytes) = (Vec::new(), 0);
    while let Some(document) = stream.try_next().await.map_err(from_mongo)? {
        bytes += document.as_bytes().len();
        if bytes > bytes_max {
            return Ok(None);
        }
        documents.push(document);
    }
    Ok(Some(documents))
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
pub async fn commit(session: &mut ClientSession) -> mongodb::error::Result<()> {
    let mut commits = 1;
    loop {
        match session.commit_transaction().await {
            Err(error) if commits < COMMITS && error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                commits += 1;
                tokio::time::sleep(COMMIT_AGAIN).await;
            }
            committed => return committed,
        }
    }
}

/// Undoes what it can; the server undoes it by itself when the session is not heard of, and so does whoever takes over.
pub async fn abort(session: &mut ClientSession) {
    if let Err(error) = session.abort_transaction().await {
        tracing::debug!(%error, "a transaction is left to its time-out");
    }
}
