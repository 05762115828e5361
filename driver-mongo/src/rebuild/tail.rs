//! Deletes that were acknowledged between the last look at the oplog and the rename: the fence lets them pass.
//!
//! They took place in the collection that the rename destroyed, so what they removed is still in the new one. The stream has
//! them, in front of the rename. Each is made good unless the document was written again behind the rename: then the
//! later write stands.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use replank_core::run::Direction;
use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, apply, log};
use crate::error::from_mongo;
use crate::feed::{Place, Stream, What};
use crate::key;
use crate::state::{Object, ObjectRole};

/// A server that does not hand out our own mark within this is not asked any longer; the next command goes on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes from where on the stream is to be looked at, before the rename is sent.
pub async fn intend(core: &Core, incoming: &str, from: &Position) -> Result<()> {
    let direction = match core.job.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
    };
    let extra = doc! { "direction": direction, "from": &from.0 };
    core.objects.put(&core.server, ObjectRole::Tail, incoming, extra).await
}

/// Makes the deletes good. Calling it again is harmless. That something else than a delete got through the fence is told, and kept
/// in the records.
pub async fn settle(core: &Core) -> Result<()> {
    let Some(intent) = core.objects.one(&core.server, ObjectRole::Tail).await? else { return Ok(()) };
    if intent.extra.contains_key("left") {
        return Ok(());
    }
    let from = intent.extra.get_str("from").map_err(|error| {
        Error::new(ErrorKind::Server, "the record of a swap cannot be read").caused_by(error)
    })?;
    let from = Place::read(&Position(from.to_owned()))?;
    let mut seen = Seen::default();
    let collections = [core.live().to_owned(), core.log()];
    let mut stream = match Stream::open(&core.server, &collections, &from).await {
        Ok(stream) => stream,
        // A run that nobody could ever end would help nobody.
        Err(error) if error.kind() == ErrorKind::FeedGap => {
            let says = format!(
                "deletes of the moment of the swap may have come back: the oplog no longer has it ({error})"
            );
            return keep(core, &intent, says).await;
        }
        Err(error) => return Err(error),
    };
    seen.read_to_now(core, &mut stream, &from).await?;
    for id in seen.deleted.clone() {
        let id = apply::id_of(&key::from_bytes(id)?)?;
        let Some(image) = image(core, &id).await? else { continue };
        // What was written behind the rename, up to the image at least.
        seen.read_to_now(core, &mut stream, &from).await?;
        if !seen.written_later.contains(&key::bytes(&id)?) {
            remove(core, &id, &image).await?;
        }
    }
    if seen.passed.is_empty() {
        return core.objects.remove(&core.server, ObjectRole::Tail).await;
    }
    let keys: Vec<String> = seen.passed.iter().take(5).cloned().collect();
    let says = format!(
        "{} documents were written to the old collection although writes were refused, and are not in the new one; a person must look: {}",
        seen.passed.len(),
        keys.join(", ")
    );
    keep(core, &intent, says).await
}

/// What cannot be made good stays in the records, and is told by `status`.
async fn keep(core: &Core, intent: &Object, says: String) -> Result<()> {
    tracing::error!("{says}");
    let mut extra = intent.extra.clone();
    extra.insert("left", says);
    core.objects.put(&core.server, ObjectRole::Tail, &intent.name, extra).await
}

/// What could not be made good, in words.
pub async fn left(core: &Core) -> Result<Option<String>> {
    let intent = core.objects.one(&core.server, ObjectRole::Tail).await?;
    Ok(intent.and_then(|intent| intent.extra.get_str("left").map(ToOwned::to_owned).ok()))
}

#[derive(Default)]
struct Seen {
    is_renamed: bool,
    deleted: BTreeSet<Vec<u8>>,
    written_later: BTreeSet<Vec<u8>>,
    passed: BTreeSet<String>,
}

impl Seen {
    async fn read_to_now(&mut self, core: &Core, stream: &mut Stream, from: &Place) -> Result<()> {
        let goal = Place::read(&log::head(core).await?)?;
        let asked = std::time::Instant::now();
        loop {
            let Some(event) = stream.next(Duration::from_millis(500)).await? else {
                if asked.elapsed() > PATIENCE {
                    return Err(Error::new(
                        ErrorKind::Server,
                        "the change stream does not come to what was just written",
                    ));
                }
                continue;
            };
            if event.collection == core.log() {
                if event.mark.is_some_and(|mark| mark >= goal.mark) {
                    return Ok(());
                }
                continue;
            }
            match event.what {
                What::Renamed { to } if core.is_own_swap(&event.collection, &to) => self.is_renamed = true,
                What::Written { id, .. } if self.is_renamed => {
                    self.written_later.insert(key::bytes(&id)?);
                }
                What::Written { id, removed: true } => {
                    self.deleted.insert(key::bytes(&id)?);
                }
                // The stream begins with the write that it is to begin behind.
                What::Written { id, removed: false } if event.time > from.time => {
                    self.passed.insert(key::encode(&id)?.0);
                }
                _ => {}
            }
        }
    }
}

async fn image(core: &Core, id: &Bson) -> Result<Option<RawDocumentBuf>> {
    let live = core.collection(core.live()).clone_with_type::<RawDocumentBuf>();
    live.find_one(doc! { "_id": id }).await.map_err(from_mongo)
}

/// Removes a document that is still what it was.
async fn remove(core: &Core, id: &Bson, image: &RawDocumentBuf) -> Result<()> {
    let live = core.collection(core.live()).clone_with_type::<RawDocumentBuf>();
    let mut session = core.server.transaction().await?;
    let filter: Document = doc! { "_id": id };
    let now = live.find_one(filter.clone()).session(&mut session).await.map_err(from_mongo)?;
    if now.as_ref().is_some_and(|now| now.as_bytes() == image.as_bytes()) {
        live.delete_one(filter).session(&mut session).await.map_err(from_mongo)?;
        return apply::commit(&mut session).await;
    }
    apply::abort(&mut session).await;
    Ok(())
}
