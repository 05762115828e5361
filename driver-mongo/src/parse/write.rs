//! `update` and `delete` of many documents.

use bson::{Bson, Document};
use replank_core::{Error, ErrorKind, Result};

use super::fields::Fields;

/// One entry of `updates`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Which documents.
    pub filter: Document,
    /// Operators, or a pipeline.
    pub change: Bson,
    /// `arrayFilters`.
    pub array_filters: Option<Bson>,
}

/// One entry of `deletes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// Which documents.
    pub filter: Document,
}

/// The `updates` of a command.
pub fn updates(fields: &mut Fields) -> Result<Vec<Update>> {
    let entries = fields.documents("updates")?;
    let entries = fields.needed("updates", entries)?;
    ordered(fields)?;
    some(entries.into_iter().map(update).collect::<Result<_>>()?, "updates")
}

fn update(given: Document) -> Result<Update> {
    let mut fields = Fields::of("an update", given);
    let filter = fields.document("q")?;
    let filter = fields.needed("q", filter)?;
    let change = fields.take("u");
    let change = fields.needed("u", change)?;
    let is_operators = change
        .as_document()
        .is_some_and(|change| !change.is_empty() && change.keys().all(|name| name.starts_with('$')));
    if !is_operators && change.as_array().is_none_or(Vec::is_empty) {
        return Err(Error::new(ErrorKind::Usage, "`u` is an object of operators, or a pipeline")
            .hint("many documents are not replaced by one: write {\"$set\": …}"));
    }
    if fields.flag("upsert")? {
        return Err(Error::new(ErrorKind::Refused, "an update of many documents that also inserts one")
            .hint("insert that document by itself"));
    }
    if !fields.flag("multi")? {
        return Err(Error::new(ErrorKind::Usage, "an update of one document is no change of a collection")
            .hint("send it as an application does, or add \"multi\": true"));
    }
    let array_filters = fields.take("arrayFilters");
    own_way(&mut fields)?;
    fields.end()?;
    Ok(Update { filter, change, array_filters })
}

/// The `deletes` of a command.
pub fn deletes(fields: &mut Fields) -> Result<Vec<Delete>> {
    let entries = fields.documents("deletes")?;
    let entries = fields.needed("deletes", entries)?;
    ordered(fields)?;
    some(entries.into_iter().map(delete).collect::<Result<_>>()?, "deletes")
}

fn delete(given: Document) -> Result<Delete> {
    let mut fields = Fields::of("a delete", given);
    let filter = fields.document("q")?;
    let filter = fields.needed("q", filter)?;
    let limit = fields.take("limit");
    let is_all = matches!(limit, Some(Bson::Int32(0) | Bson::Int64(0))) || limit == Some(Bson::Double(0.0));
    if !is_all {
        return Err(Error::new(ErrorKind::Usage, "a delete of one document is no change of a collection")
            .hint("send it as an application does, or write \"limit\": 0"));
    }
    own_way(&mut fields)?;
    fields.end()?;
    Ok(Delete { filter })
}

/// How documents are found is ours: by ranges of `_id`, in the collection's own collation.
fn own_way(fields: &mut Fields) -> Result<()> {
    for name in ["hint", "collation", "sort"] {
        if fields.take(name).is_some() {
            return Err(Error::new(ErrorKind::Refused, format!("`{name}` cannot be said here"))
                .hint("documents are gone through by ranges of `_id`, in the collection's own collation"));
        }
    }
    Ok(())
}

fn ordered(fields: &mut Fields) -> Result<()> {
    fields.flag("ordered").map(|_| ())
}

fn some<T>(entries: Vec<T>, name: &str) -> Result<Vec<T>> {
    match entries.is_empty() {
        false => Ok(entries),
        true => Err(Error::new(ErrorKind::Usage, format!("`{name}` is empty"))),
    }
}
