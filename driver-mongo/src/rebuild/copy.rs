//! Chunks of the copy: the server writes them itself, and never over a document.

use bson::doc;
use replank_core::driver::Copied;
use replank_core::value::Bounds;
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use crate::error::from_mongo;
use crate::inspect;
use crate::ranges;

/// Copies a range into every collection that is written.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    core.check_token().await?;
    let filter = ranges::filter(bounds)?;
    let read = ranges::counted(&core.server, core.live(), &filter).await?;
    let mut written = 0;
    for (at, target) in core.targets()?.into_iter().enumerate() {
        if !inspect::exists(&core.server, &target.name).await? {
            return Err(fenced(&target.name));
        }
        // What is written is told of the collection that is to come in, which is the first.
        let before =
            if at == 0 { Some(ranges::counted(&core.server, &target.name, &filter).await?) } else { None };
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
            .hint(ranges::by_id())
            .bypass_document_validation(true)
            .allow_disk_use(true)
            .comment(core.comment())
            .await
            .map_err(from_mongo)?;
        if let Some(before) = before {
            written = ranges::counted(&core.server, &target.name, &filter).await?.saturating_sub(before);
        }
    }
    Ok(Copied { read, written, bytes: 0, displaced: Vec::new() })
}

/// The written collection does not have the name of our token.
pub fn fenced(name: &str) -> Error {
    Error::new(ErrorKind::Fenced, format!("there is no collection `{name}`"))
        .hint("another runner took over, or removed it; `replank status` shows who")
}
