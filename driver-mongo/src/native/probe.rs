//! How a step stands, from the catalogue.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::driver::Probe;
use replank_core::{Error, ErrorKind, Result};

use super::act::{Act, Role};
use super::same::{are_options, is_index, is_key};
use crate::connect::Server;
use crate::error::{NAMESPACE_NOT_FOUND, code, from_mongo};
use crate::inspect::{self, Collection, index_name, is_set};

/// How it stands.
///
/// # Errors
/// [`ErrorKind::ForeignDdl`] where something else is in its place.
pub async fn probe(server: &Server, act: &Act, role: Role) -> Result<Probe> {
    match act {
        Act::Build { collection, index, .. } => build(server, collection, &index.0).await,
        Act::DropIndex { collection, index } => {
            Ok(match found(server, collection, index_name(&index.0)).await? {
                None => Probe::Done,
                Some(found) if is_key(&found, &index.0) => Probe::Absent,
                Some(found) => return Err(foreign("index", index_name(&index.0), &found)),
            })
        }
        Act::Index { collection, name, set } => {
            // What is gone cannot be as it was to be, and there is nothing of it to be taken back: the command itself tells.
            let Some(found) = found(server, collection, name).await? else { return Ok(gone(role)) };
            let is_so = |(option, wanted): (&String, &bson::Bson)| match wanted {
                bson::Bson::Boolean(wanted) => is_set(&found, option) == *wanted,
                number => found.get(option).is_some_and(|found| super::same::equal(found, number)),
            };
            // What was prepared for is no longer said once it is so.
            let is_past = is_set(&set.0, "prepareUnique") && is_set(&found, "unique");
            Ok(done(is_past || set.0.iter().all(is_so)))
        }
        Act::Options { collection, set, .. } => {
            let Some(found) = Collection::read(server, collection).await? else { return Ok(gone(role)) };
            Ok(done(are_options(&found.options, &set.0)))
        }
        Act::Create { collection, options } => match inspect::entry(&server.database(), collection).await? {
            None => Ok(Probe::Absent),
            Some(entry) => {
                let found = entry.get_document("options").cloned().unwrap_or_default();
                let is_so = are_options(&found, &options.0);
                if is_so { Ok(Probe::Done) } else { Err(foreign("collection", collection, &found)) }
            }
        },
        Act::Unmake { collection, aside } => {
            let is_gone =
                !inspect::exists(server, collection).await? && !inspect::exists(server, aside).await?;
            Ok(done(is_gone))
        }
        Act::Rename { from, to, uuid } => rename(server, from, to, uuid.as_deref()).await,
        Act::Drop { collection, kind } => match inspect::entry(&server.database(), collection).await? {
            None => Ok(Probe::Done),
            Some(entry) if entry.get_str("type").unwrap_or("collection") == kind => Ok(Probe::Absent),
            Some(entry) => Err(foreign("object", collection, &entry)),
        },
        // How far it is stands in the run's record, and it leaves nothing that would be taken away.
        Act::Write(_) => Ok(Probe::Absent),
    }
}

/// How an act stands whose collection or index is gone.
fn gone(role: Role) -> Probe {
    match role {
        Role::Forward => Probe::Absent,
        Role::Back | Role::Last => Probe::Done,
    }
}

fn done(is_done: bool) -> Probe {
    if is_done { Probe::Done } else { Probe::Absent }
}

fn foreign(kind: &str, name: &str, found: &Document) -> Error {
    Error::new(ErrorKind::ForeignDdl, format!("there is another {kind} `{name}`"))
        .with("found", crate::ejson::document_text(found))
        .hint("somebody else has made it: compare, and drop or rename one of them")
}

async fn found(server: &Server, collection: &str, name: &str) -> Result<Option<Document>> {
    let indexes = inspect::indexes(server, collection).await?;
    Ok(indexes.into_iter().find(|index| index_name(index) == name))
}

/// `listIndexes` tells of indexes that are being built as if they were there.
async fn build(server: &Server, collection: &str, index: &Document) -> Result<Probe> {
    let Some(found) = found(server, collection, index_name(index)).await? else { return Ok(Probe::Absent) };
    if !is_index(&found, index) {
        return Err(foreign("index", index_name(index), &found));
    }
    let is_building = being_built(server, collection).await?.iter().any(|name| name == index_name(index));
    Ok(if is_building { Probe::Running } else { Probe::Done })
}

/// Names of indexes that are being built.
///
/// `listIndexes` marks them where it is asked to, which needs no further privilege. A server that does not know the word may know
/// `$indexStats`; one that knows neither builds none that long.
pub async fn being_built(server: &Server, collection: &str) -> Result<Vec<String>> {
    let asking = doc! { "listIndexes": collection, "includeBuildUUIDs": true };
    let listed =
        async { server.database().run_cursor_command(asking).await?.try_collect::<Vec<Document>>().await };
    match listed.await {
        Ok(found) => {
            let built = found.iter().filter(|index| index.contains_key("buildUUID"));
            let spec = |index: &Document| index.get_document("spec").unwrap_or(index).clone();
            return Ok(built.map(|index| index_name(&spec(index)).to_owned()).collect());
        }
        Err(error) if code(&error) == Some(NAMESPACE_NOT_FOUND) => return Ok(Vec::new()),
        Err(error) if code(&error).is_none() => return Err(from_mongo(error)),
        Err(error) => tracing::debug!(%error, "listIndexes does not tell what is being built"),
    }
    let handled = server.database().collection::<Document>(collection);
    let statistics =
        async { handled.aggregate([doc! { "$indexStats": {} }]).await?.try_collect::<Vec<Document>>().await };
    match statistics.await {
        Ok(found) => {
            let building = found.iter().filter(|index| is_set(index, "building"));
            Ok(building.map(|index| index_name(index).to_owned()).collect())
        }
        Err(error) if code(&error).is_none() => Err(from_mongo(error)),
        Err(error) => {
            tracing::debug!(%error, "what is being built is not known");
            Ok(Vec::new())
        }
    }
}

/// By the identity where that lasts: an application that still writes the old name makes another collection of it.
async fn rename(server: &Server, from: &str, to: &str, uuid: Option<&str>) -> Result<Probe> {
    let (source, target) = (inspect::uuid(server, from).await?, inspect::uuid(server, to).await?);
    match uuid {
        Some(_) if target.as_deref() == uuid => Ok(Probe::Done),
        Some(_) if source.as_deref() == uuid => Ok(Probe::Absent),
        Some(_) => Err(Error::new(
            ErrorKind::ForeignDdl,
            format!("neither `{from}` nor `{to}` is the collection that was planned for"),
        )
        .hint("somebody else has renamed or dropped it")),
        None if source.is_none() && target.is_some() => Ok(Probe::Done),
        None if source.is_some() => Ok(Probe::Absent),
        None => Err(Error::new(ErrorKind::ForeignDdl, format!("neither `{from}` nor `{to}` is there"))
            .hint("somebody else has renamed or dropped it")),
    }
}
