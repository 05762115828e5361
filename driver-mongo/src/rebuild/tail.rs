//! Deletes that were acknowledged between the last look at the oplog and the rename: the fence lets them pass.
//!
//! They took place in the collection that the rename destroyed, so what they removed is still in the new one. The stream has
//! them, in front of the rename. Each is made good unless the document was written again behind the rename: then the
//! later write stands.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::run::Direction;
use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};

use super::{Core, apply, log};
use crate::error::from_mongo;
use crate::feed::{Place, Stream, What};
use crate::key;
use crate::state::ObjectRole;

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
            return keep(core, says).await;
        }
        Err(error) => return Err(error),
    };
    seen.read_to_now(core, &mut stream, &from).await?;
    for id in seen.deleted.clone() {
        let id = apply::id_of(&key::from_bytes(id)?)?;
        let Some(image) = image(core, &id).await? else { continue };
        // Most of what was written behind the rename is seen without keeping anybody from writing it.
        seen.read_to_now(core, &mut stream, &from).await?;
        if !seen.written_later.contains(&key::bytes(&id)?) {
            reached(Boundary::Fencing);
            remove(core, &mut seen, &mut stream, &from, &id, &image).await?;
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
    keep(core, says).await
}

/// What cannot be made good stays in the records, whatever becomes of the run, and is told by `status`.
async fn keep(core: &Core, says: String) -> Result<()> {
    tracing::error!("{says}");
    let mut all = all_left(core).await?;
    // Who was killed behind this comes here once more.
    if !all.contains(&says) {
        all.push(says);
    }
    core.objects.put(&core.server, ObjectRole::Left, core.live(), doc! { "says": all }).await?;
    core.objects.remove(&core.server, ObjectRole::Tail).await
}

async fn all_left(core: &Core) -> Result<Vec<String>> {
    let left = core.objects.one(&core.server, ObjectRole::Left).await?;
    let says = left.as_ref().and_then(|left| left.extra.get_array("says").ok());
    Ok(says.into_iter().flatten().filter_map(Bson::as_str).map(ToOwned::to_owned).collect())
}

/// What could not be made good, in words.
pub async fn left(core: &Core) -> Result<Option<String>> {
    let all = all_left(core).await?;
    Ok((!all.is_empty()).then(|| all.join("; ")))
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

/// Removes a document that nobody has written since the rename. That it is still what it was does not tell: it may have been deleted
/// and inserted again just so. So it is removed first, which keeps everybody else from writing it, and then the stream is read to
/// its end before that is committed.
async fn remove(
    core: &Core,
    seen: &mut Seen,
    stream: &mut Stream,
    from: &Place,
    id: &Bson,
    image: &RawDocumentBuf,
) -> Result<()> {
    let live = core.collection(core.live()).clone_with_type::<RawDocumentBuf>();
    let mut session = core.transaction().await?;
    let removed = async {
        let filter: Document = doc! { "_id": id };
        let now = live.find_one(filter.clone()).session(&mut session).await.map_err(from_mongo)?;
        if now.is_none_or(|now| now.as_bytes() != image.as_bytes()) {
            return Ok(false);
        }
        live.delete_one(filter).session(&mut session).await.map_err(from_mongo)?;
        seen.read_to_now(core, stream, from).await?;
        Ok(!seen.written_later.contains(&key::bytes(id)?))
    }
    .await;
    match removed {
        Ok(true) => apply::commit(&mut session).await.map_err(from_mongo),
        Ok(false) => {
            apply::abort(&mut session).await;
            Ok(())
        }
        Err(error) => {
            apply::abort(&mut session).await;
            Err(error)
        }
    }
}
