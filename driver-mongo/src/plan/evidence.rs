//! What the documents that are there say about the new shape: counted before anything is made.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::plan::{Evidence, Unfit};
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Server;
use crate::ejson;
use crate::error::from_mongo;
use crate::inspect::number;
use crate::key;
use crate::spec::Side;

/// As many keys are named as a person reads.
const SAMPLES: i64 = 5;
/// Documents that the pipeline is tried on.
const TRIED: i64 = 1000;
/// The server's limit for a document.
const LARGEST: i64 = 16 * 1024 * 1024;

/// Runs the pipeline over every document, and asks the new validator about what comes out.
///
/// # Errors
/// [`ErrorKind::Refused`] where the pipeline fails for a document, or makes another `_id`.
pub async fn gather(
    server: &Server,
    name: &str,
    forward: &[Document],
    new: &Side,
    evidence: &mut Evidence,
) -> Result<()> {
    if !forward.is_empty() {
        fits(server, name, forward).await?;
        keeps_ids(server, name, forward).await?;
    }
    if let Ok(validator) = new.options.0.get_document("validator")
        && !validator.is_empty()
        && new.options.0.get_str("validationLevel").ok() != Some("off")
    {
        let what = "the validator of the new shape".to_owned();
        let unfit = breaking(server, name, forward, validator, what).await?;
        evidence.unfit.extend(unfit);
    }
    Ok(())
}

/// Tries the pipeline on every document: the first that it fails for ends it, and none may become larger than the server takes.
async fn fits(server: &Server, name: &str, forward: &[Document]) -> Result<()> {
    let mut stages = forward.to_vec();
    // The size asks for the whole document: nothing of the pipeline is optimised away.
    stages.push(doc! { "$set": { "_rp_size": { "$bsonSize": "$$ROOT" } } });
    stages.push(doc! { "$match": { "_rp_size": { "$gt": LARGEST } } });
    stages.push(doc! { "$limit": 1 });
    stages.push(doc! { "$project": { "_rp_size": 1 } });
    let found = run(server, name, stages).await.map_err(|error| match error.kind() {
        ErrorKind::Server | ErrorKind::Unfit => {
            Error::new(ErrorKind::Refused, "the pipeline fails for a document that is there")
                .with("server", error.message())
                .hint("give such values something to become, for example by $convert with onError")
        }
        _ => error,
    })?;
    match found.first() {
        None => Ok(()),
        Some(large) => Err(Error::new(ErrorKind::Refused, "a document becomes larger than 16 MiB")
            .with("_id", ejson::text(large.get("_id").unwrap_or(&Bson::Null)))
            .with("bytes", ejson::text(large.get("_rp_size").unwrap_or(&Bson::Null)))
            .hint("make the pipeline keep it smaller, or the document")),
    }
}

/// Tries on some documents that `_id` stays what it is. Of stages that name fields the text was looked at; what whole documents
/// are made of, only a trial shows. A document that slips through here is found by the comparison.
async fn keeps_ids(server: &Server, name: &str, forward: &[Document]) -> Result<()> {
    let first = vec![doc! { "$sort": { "_id": 1 } }, doc! { "$limit": TRIED }];
    let ids = doc! { "$project": { "_id": 1 } };
    let bytes = |found: Vec<Document>| -> Result<Vec<(Vec<u8>, Bson)>> {
        found
            .iter()
            .map(|one| one.get("_id").cloned().unwrap_or(Bson::Null))
            .map(|id| Ok((key::bytes(&id)?, id)))
            .collect()
    };
    let before = bytes(run(server, name, [first.clone(), vec![ids.clone()]].concat()).await?)?;
    let before: BTreeSet<Vec<u8>> = before.into_iter().map(|(bytes, _)| bytes).collect();
    for (bytes, id) in bytes(run(server, name, [first, forward.to_vec(), vec![ids]].concat()).await?)? {
        // One that was written between the two looks is there.
        let there = vec![doc! { "$match": { "_id": id.clone() } }, doc! { "$limit": 1 }];
        if !before.contains(&bytes) && run(server, name, there).await?.is_empty() {
            return Err(Error::new(
                ErrorKind::Refused,
                "the pipeline changes `_id`, by which a document is found again",
            )
            .with("into", ejson::text(&id))
            .hint("a rebuild with another `_id` is not there yet"));
        }
    }
    Ok(())
}

/// Documents that break a validator, after a pipeline; `None` where there are none.
pub async fn breaking(
    server: &Server,
    name: &str,
    forward: &[Document],
    validator: &Document,
    what: String,
) -> Result<Option<Unfit>> {
    let mut stages = forward.to_vec();
    stages.push(doc! { "$match": { "$nor": [validator.clone()] } });
    stages.push(doc! { "$facet": {
        "count": [{ "$count": "n" }],
        "samples": [{ "$limit": SAMPLES }, { "$project": { "_id": 1 } }],
    } });
    let found = run(server, name, stages).await?;
    let Some(found) = found.first() else { return Ok(None) };
    let first = |field: &str| found.get_array(field).cloned().unwrap_or_default();
    let rows =
        first("count").first().and_then(Bson::as_document).and_then(|count| count.get("n")).map_or(0, number);
    if rows == 0 {
        return Ok(None);
    }
    let samples = first("samples")
        .iter()
        .filter_map(|sample| sample.as_document().and_then(|sample| sample.get("_id")))
        .map(ejson::text)
        .collect();
    Ok(Some(Unfit { what, rows, samples }))
}

async fn run(server: &Server, name: &str, stages: Vec<Document>) -> Result<Vec<Document>> {
    let found = server.database().collection::<Document>(name).aggregate(stages).allow_disk_use(true).await;
    found.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)
}
