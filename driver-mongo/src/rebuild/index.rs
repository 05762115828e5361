//! The indexes of the collections that are written: built after the copy, with all their options.

use bson::{Bson, Document, doc};
use replank_core::driver::IndexBuild;
use replank_core::value::{Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::{Core, Target, prepare};
use crate::connect::{answer, majority_document};
use crate::inspect::{self, index_name, is_set};
use crate::key;
use crate::spec::documents;
use crate::state::ObjectRole;
use crate::unique;

/// In front of the names of indexes of the collection that is kept for the way back.
const KEPT: &str = "kept:";

/// Those that are not there yet.
pub async fn deferred(core: &Core) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for target in core.targets()? {
        let there = inspect::indexes(&core.server, &target.name).await?;
        for index in documents(&target.side.indexes) {
            if !there.iter().any(|other| prepare::same_index(other, &index)) {
                missing.push(format!("{}{}", prefix(&target), index_name(&index)));
            }
        }
    }
    Ok(missing)
}

fn prefix(target: &Target<'_>) -> &'static str {
    if target.role == ObjectRole::Retired { KEPT } else { "" }
}

/// Builds one, and reads it back: a server that says ok and does nothing is an error.
pub async fn build(core: &Core, name: &str) -> Result<IndexBuild> {
    core.check_token().await?;
    let targets = core.targets()?;
    let found = targets.iter().find_map(|target| {
        let plain = name.strip_prefix(prefix(target))?;
        let index = target.side.indexes.iter().find(|index| index_name(&index.0) == plain)?;
        Some((target, index.0.clone()))
    });
    let (target, index) =
        found.ok_or_else(|| Error::new(ErrorKind::Internal, format!("no index `{name}` was deferred")))?;
    let command = doc! {
        "createIndexes": &target.name,
        "indexes": [index.clone()],
        "writeConcern": majority_document(),
        "comment": core.comment(),
    };
    match answer(core.server.database().run_command(command).await) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Duplicate => {
            return Ok(IndexBuild::Duplicates(duplicates(core, &target.name, &index).await?));
        }
        Err(error) => return Err(error.with("index", index_name(&index))),
    }
    let there = inspect::indexes(&core.server, &target.name).await?;
    if there.iter().any(|other| prepare::same_index(other, &index)) {
        return Ok(IndexBuild::Built);
    }
    Err(Error::new(
        ErrorKind::Server,
        format!("the server says that index `{}` is built, and has another one or none", index_name(&index)),
    )
    .with("wanted", crate::ejson::document_text(&index)))
}

/// The documents of a collection that collide under a unique index.
async fn duplicates(core: &Core, name: &str, index: &Document) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for group in groups(core, name, &[], index, None).await? {
        for id in ["first", "last"].into_iter().filter_map(|which| group.get(which)) {
            changes.push(key::change(id, false, core.collation())?);
        }
    }
    Ok(changes)
}

/// Whether the source itself shows these documents colliding under the new shape's unique indexes.
pub async fn collisions(core: &Core, keys: &[Key]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let ids = key::decode_all(keys)?;
    for target in core.targets()? {
        for index in documents(&target.side.indexes) {
            if !is_set(&index, "unique") {
                continue;
            }
            for group in groups(core, core.live(), &target.pipeline, &index, Some(&ids)).await? {
                let text = |field: &str| group.get(field).map(crate::ejson::text).unwrap_or_default();
                let name = index_name(&index);
                found.push(format!(
                    "{name} {}: {} documents, among them {} and {}",
                    text("_id"),
                    text("n"),
                    text("first"),
                    text("last")
                ));
            }
        }
    }
    Ok(found)
}

/// Groups of documents with one value of a unique index, at most 100; with `ids`, of those that touch these. Of each its value, how many
/// documents there are, and two of them: all of them may be more than fits into a document.
async fn groups(
    core: &Core,
    name: &str,
    pipeline: &[Document],
    index: &Document,
    ids: Option<&[Bson]>,
) -> Result<Vec<Document>> {
    let mut stages = pipeline.to_vec();
    stages.extend(by_value(index, ids));
    unique::find(&core.server, name, index, stages).await
}

/// The stages that group documents as an index does.
fn by_value(index: &Document, ids: Option<&[Bson]>) -> Vec<Document> {
    let mut stages = unique::indexed(index);
    let fields = unique::key(index);
    let names: Vec<String> = (0..fields.len()).map(|number| format!("f{number}")).collect();
    let mut values = doc! { "_id": 1 };
    let mut group = Document::new();
    for (name, field) in names.iter().zip(fields.keys()) {
        // A document without the field counts as one with null.
        values.insert(name, doc! { "$ifNull": [format!("${field}"), null] });
        group.insert(name, format!("${name}"));
    }
    stages.push(doc! { "$project": values });
    // An index has each item of an array, at each step of a path; of an empty one it has a value that is not null.
    for (name, field) in names.iter().zip(fields.keys()) {
        for _step in field.split('.') {
            stages
                .push(doc! { "$unwind": { "path": format!("${name}"), "preserveNullAndEmptyArrays": true } });
        }
    }
    let mut more = Document::new();
    let mut wanted = doc! { "n": { "$gt": 1 } };
    if let Some(ids) = ids {
        more.insert("is_one", doc! { "$max": { "$in": ["$_id.id", { "$literal": ids }] } });
        wanted.insert("is_one", true);
    }
    stages.extend(unique::by_value(group, more));
    stages.extend([doc! { "$match": wanted }, doc! { "$limit": 100 }]);
    stages
}
