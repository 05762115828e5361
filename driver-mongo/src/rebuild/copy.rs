//! Chunks of the copy: the server writes them itself, and never over a document.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::driver::Copied;
use replank_core::value::{Bounds, Key};
use replank_core::{Error, ErrorKind, Result};

use super::{Core, range};
use crate::error::from_mongo;
use crate::inspect::{self, number};
use crate::key;

/// The `_id` of the `rows`th document behind `after`.
pub async fn next_bound(core: &Core, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
    let bounds = Bounds { lower: after.cloned(), upper: None };
    let found = core
        .collection(core.live())
        .find(range::filter(&bounds)?)
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": 1 })
        .hint(range::by_id())
        .skip(rows.saturating_sub(1))
        .limit(1)
        .await
        .map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    found.first().and_then(|found| found.get("_id")).map(key::encode).transpose()
}

/// Copies a range into every collection that is written.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    core.check_token().await?;
    let filter = range::filter(bounds)?;
    let read = counted(core, core.live(), &filter).await?;
    let mut written = 0;
    for (at, target) in core.targets()?.into_iter().enumerate() {
        if !inspect::exists(&core.server, &target.name).await? {
            return Err(fenced(&target.name));
        }
        // What is written is told of the collection that is to come in, which is the first.
        let before = if at == 0 { Some(counted(core, &target.name, &filter).await?) } else { None };
        let mut stages = vec![doc! { "$match": filter.clone() }];
        stages.extend(target.pipeline.iter().cloned());
        // `keepExisting` would write the fields in the order of their names. A pipeline that leaves what is there as it is makes the
        // server store what is not there as it came.
        stages.push(doc! { "$merge": {
            "into": &target.name,
            "on": "_id",
            "whenMatched": [{ "$replaceWith": "$$ROOT" }],
            "whenNotMatched": "insert",
        } });
        core.collection(core.live())
            .aggregate(stages)
            .hint(range::by_id())
            .bypass_document_validation(true)
            .allow_disk_use(true)
            .comment(core.comment())
            .await
            .map_err(from_mongo)?;
        if let Some(before) = before {
            written = counted(core, &target.name, &filter).await?.saturating_sub(before);
        }
    }
    Ok(Copied { read, written, bytes: 0, displaced: Vec::new() })
}

/// Documents in a range, by the index of `_id` alone.
async fn counted(core: &Core, name: &str, filter: &Document) -> Result<u64> {
    let stages =
        vec![doc! { "$match": filter.clone() }, doc! { "$project": { "_id": 1 } }, doc! { "$count": "n" }];
    let found = core.collection(name).aggregate(stages).hint(range::by_id()).await;
    let found: Vec<Document> = found.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
    Ok(found.first().and_then(|found| found.get("n")).map_or(0, number))
}

/// The written collection does not have the name of our token.
pub fn fenced(name: &str) -> Error {
    Error::new(ErrorKind::Fenced, format!("there is no collection `{name}`"))
        .hint("another runner took over, or removed it; `replank status` shows who")
}
