//! The collection whose only document is written to learn where the oplog is.
//!
//! A change stream says how far it is by the events that it hands out, and on a database in which nobody writes it may say
//! nothing for ten seconds. A write of our own is in it at once, behind everything that was committed before.

use bson::doc;
use mongodb::options::ReturnDocument;
use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use crate::connect::majority;
use crate::error::from_mongo;
use crate::feed::Place;
use crate::inspect::number;

/// The document's `_id`, and the field that counts.
pub const MARK: &str = "mark";

/// A place behind everything that the majority has acknowledged by now.
pub async fn head(core: &Core) -> Result<Position> {
    let mut session = core.server.session().await?;
    let marked = core
        .collection(&core.log())
        .find_one_and_update(doc! { "_id": MARK }, doc! { "$inc": { "n": 1_i64 } })
        .return_document(ReturnDocument::After)
        .write_concern(majority())
        .session(&mut session)
        .await
        .map_err(from_mongo)?;
    let marked = marked.ok_or_else(|| {
        Error::new(ErrorKind::ForeignDdl, format!("the collection `{}` of this run is not there", core.log()))
            .hint("somebody removed it: abort the run, and begin again")
    })?;
    let time = session.operation_time().ok_or_else(|| {
        Error::new(ErrorKind::Server, "the server does not say at what time it wrote")
            .hint("is it a replica set?")
    })?;
    let mark = marked.get("n").map_or(0, number);
    Ok(Place { time, mark, token: None }.write())
}
