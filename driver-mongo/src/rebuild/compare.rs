//! Both collections, document by document, by type and bytes: 1 and 1.0 differ here, and so do fields in another order.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::ClientSession;
use replank_core::Result;
use replank_core::driver::Compared;
use replank_core::value::{Bounds, Change, Key};

use super::{Core, apply};
use crate::error::from_mongo;
use crate::key;
use crate::ranges;

/// The documents of a range.
pub async fn range(core: &Core, bounds: &Bounds) -> Result<Compared> {
    compared(core, &ranges::filter(bounds)?).await
}

/// The documents of some keys.
pub async fn keys(core: &Core, keys: &[Key]) -> Result<Compared> {
    if keys.is_empty() {
        return Ok(Compared::default());
    }
    compared(core, &doc! { "_id": { "$in": key::decode_all(keys)? } }).await
}

async fn compared(core: &Core, filter: &Document) -> Result<Compared> {
    let mut compared = Compared::default();
    let mut differing: BTreeMap<Key, Change> = BTreeMap::new();
    for target in core.targets()? {
        let mut session = core.transaction().await?;
        let both = both(core, filter, &target.pipeline, &target.name, &mut session).await;
        // Nothing was written: how it ends is all the same.
        apply::abort(&mut session).await;
        let (rows, keys) = both?;
        compared.rows = compared.rows.max(rows);
        for id in keys {
            let change = key::change(&id, false, core.collation())?;
            differing.insert(change.key.clone(), change);
        }
    }
    compared.differing = differing.into_values().collect();
    Ok(compared)
}

/// Reads both sides in one snapshot. Of one side digests are kept, 32 bytes for each document of the chunk.
async fn both(
    core: &Core,
    filter: &Document,
    pipeline: &[Document],
    written: &str,
    session: &mut ClientSession,
) -> Result<(u64, Vec<Bson>)> {
    let mut stages = vec![doc! { "$match": filter.clone() }];
    stages.extend(pipeline.iter().cloned());
    let mut left: BTreeMap<Vec<u8>, blake3::Hash> = BTreeMap::new();
    let mut source = core
        .collection(core.live())
        .aggregate(stages)
        .hint(ranges::by_id())
        .with_type::<RawDocumentBuf>()
        .session(&mut *session)
        .await
        .map_err(from_mongo)?;
    let mut documents = source.stream(&mut *session);
    let mut source_rows = 0;
    while let Some(document) = documents.try_next().await.map_err(from_mongo)? {
        source_rows += 1;
        left.insert(key::bytes(&apply::id_of(&document)?)?, digest(&document)?);
    }
    drop(documents);
    let mut differing = Vec::new();
    let mut other = core
        .collection(written)
        .clone_with_type::<RawDocumentBuf>()
        .find(filter.clone())
        .hint(ranges::by_id())
        .session(&mut *session)
        .await
        .map_err(from_mongo)?;
    let mut documents = other.stream(&mut *session);
    let mut written_rows = 0;
    while let Some(document) = documents.try_next().await.map_err(from_mongo)? {
        written_rows += 1;
        let id = apply::id_of(&document)?;
        match left.remove(&key::bytes(&id)?) {
            Some(expected) if expected == digest(&document)? => {}
            _ => differing.push(id),
        }
    }
    drop(documents);
    for bytes in left.into_keys() {
        differing.push(apply::id_of(&key::from_bytes(bytes)?)?);
    }
    Ok((std::cmp::max(source_rows, written_rows), differing))
}

/// Of all fields in order, `_id` first: where a server puts it when it stores a document.
fn digest(document: &RawDocumentBuf) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let is_first = document
        .iter_elements()
        .next()
        .is_some_and(|first| first.is_ok_and(|first| first.key().as_str() == "_id"));
    if is_first {
        hasher.update(document.as_bytes());
        return Ok(hasher.finalize());
    }
    let mut ordered = RawDocumentBuf::new();
    let broken = |error: bson::error::Error| {
        replank_core::Error::new(replank_core::ErrorKind::Server, "a document cannot be read")
            .caused_by(error)
    };
    for wanted in [true, false] {
        for element in document.iter() {
            let (name, value) = element.map_err(broken)?;
            if (name.as_str() == "_id") == wanted {
                ordered.append(name, value);
            }
        }
    }
    hasher.update(ordered.as_bytes());
    Ok(hasher.finalize())
}
