//! Documents that share a value of a unique index. How a value is made of a document is for whoever asks.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Server;
use crate::error::from_mongo;
use crate::inspect::is_set;

/// Stages that leave the documents that an index has: those of a partial one, and of a sparse one those with a field of its key.
pub fn indexed(index: &Document) -> Vec<Document> {
    let mut stages = Vec::new();
    if let Ok(partial) = index.get_document("partialFilterExpression") {
        stages.push(doc! { "$match": partial.clone() });
    }
    if is_set(index, "sparse") {
        let there: Vec<Document> =
            key(index).keys().map(|field| doc! { field: { "$exists": true } }).collect();
        stages.push(doc! { "$match": { "$or": there } });
    }
    stages
}

/// The fields of an index, with their directions.
pub fn key(index: &Document) -> Document {
    index.get_document("key").cloned().unwrap_or_default()
}

/// Grouped by a value: how many documents have it, and the first and the last of them. Twice, since a list of all of them may be more
/// than fits into a document or into memory; and a value that one document has twice is no duplicate.
pub fn by_value(value: Document, more: Document) -> [Document; 2] {
    let mut found = doc! {
        "_id": "$_id.value",
        "n": { "$sum": 1 },
        "first": { "$min": "$_id.id" },
        "last": { "$max": "$_id.id" },
    };
    found.extend(more);
    [doc! { "$group": { "_id": { "value": value, "id": "$_id" } } }, doc! { "$group": found }]
}

/// Runs stages over a collection, with texts compared as the index compares them.
pub async fn find(
    server: &Server,
    collection: &str,
    index: &Document,
    stages: Vec<Document>,
) -> Result<Vec<Document>> {
    let handled = server.database().collection::<Document>(collection);
    let mut finding = handled.aggregate(stages).allow_disk_use(true);
    if let Ok(collation) = index.get_document("collation") {
        let collation = bson::deserialize_from_document(collation.clone()).map_err(|error| {
            Error::new(ErrorKind::Usage, "the index's collation cannot be read").caused_by(error)
        })?;
        finding = finding.collation(collation);
    }
    finding.await.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)
}
