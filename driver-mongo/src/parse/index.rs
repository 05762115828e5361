//! Indexes as commands name and define them.

use bson::{Bson, Document};
use replank_core::{Error, ErrorKind, Result};

use super::fields::Fields;

/// What an index may have besides its key and name. Source: <https://www.mongodb.com/docs/manual/reference/command/createIndexes/>.
const OPTIONS: [&str; 17] = [
    "unique",
    "partialFilterExpression",
    "sparse",
    "expireAfterSeconds",
    "hidden",
    "collation",
    "storageEngine",
    "weights",
    "default_language",
    "language_override",
    "textIndexVersion",
    "2dsphereIndexVersion",
    "bits",
    "min",
    "max",
    "wildcardProjection",
    "prepareUnique",
];

/// Indexes to be dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Which {
    /// All but that of `_id`.
    All,
    /// By their names.
    Names(Vec<String>),
    /// By its key.
    Key(Document),
}

/// What `collMod` does to an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexChange {
    /// Which.
    pub which: Which,
    /// What becomes of it: `hidden`, `expireAfterSeconds`, `prepareUnique`, `unique`.
    pub set: Document,
}

/// The indexes of `createIndexes`, each with a name: one that has none gets the name that a shell gives it.
pub fn definitions(given: Vec<Document>) -> Result<Vec<Document>> {
    let mut indexes: Vec<Document> = Vec::new();
    for given in given {
        let index = definition(given)?;
        let name = crate::inspect::index_name(&index);
        if indexes.iter().any(|other| crate::inspect::index_name(other) == name) {
            return Err(Error::new(ErrorKind::Usage, format!("the index `{name}` is there twice")));
        }
        indexes.push(index);
    }
    if indexes.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "`createIndexes` names no index"));
    }
    Ok(indexes)
}

fn definition(given: Document) -> Result<Document> {
    let mut fields = Fields::of("an index", given);
    let key = fields.document("key")?;
    let key = fields.needed("key", key)?;
    if key.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the key of an index is empty"));
    }
    let name = match fields.text("name")? {
        Some(name) => name,
        None => name_of(&key),
    };
    // Ignored by every server that is supported; the version of the format is the server's to choose.
    for past in ["background", "v", "ns"] {
        fields.take(past);
    }
    let mut index = bson::doc! { "key": key, "name": name };
    for option in OPTIONS {
        if let Some(value) = fields.take(option) {
            // What is not so is not said by the server either, nor is the collation that compares bytes.
            let is_simple = value
                .as_document()
                .is_some_and(|value| value.get_str("locale").is_ok_and(|locale| locale == "simple"));
            if value != Bson::Boolean(false) && !is_simple {
                index.insert(option, value);
            }
        }
    }
    fields.end()?;
    Ok(index)
}

/// As every client names an index: its fields and directions.
fn name_of(key: &Document) -> String {
    let parts = key.iter().map(|(field, direction)| match direction {
        Bson::String(kind) => format!("{field}_{kind}"),
        other => format!("{field}_{}", crate::ejson::text(other)),
    });
    parts.collect::<Vec<_>>().join("_")
}

/// What `dropIndexes` names.
pub fn which(given: Bson) -> Result<Which> {
    match given {
        Bson::String(name) if name == "*" => Ok(Which::All),
        Bson::String(name) => Ok(Which::Names(vec![name])),
        Bson::Document(key) => Ok(Which::Key(key)),
        Bson::Array(names) if names.iter().all(|name| name.as_str().is_some()) => {
            Ok(Which::Names(names.iter().filter_map(|name| name.as_str().map(ToOwned::to_owned)).collect()))
        }
        other => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "`index` is a name, a list of names, a key or \"*\", and not {}",
                crate::ejson::text(&other)
            ),
        )),
    }
}

/// The `index` of `collMod`.
pub fn change(given: Document) -> Result<IndexChange> {
    let mut fields = Fields::of("`index` of collMod", given);
    let name = fields.text("name")?;
    let key = fields.document("keyPattern")?;
    let which = match (name, key) {
        (Some(name), None) => Which::Names(vec![name]),
        (None, Some(key)) => Which::Key(key),
        _ => {
            return Err(Error::new(ErrorKind::Usage, "`index` of collMod has a `name`, or a `keyPattern`"));
        }
    };
    let mut set = Document::new();
    for option in ["hidden", "prepareUnique", "unique"] {
        if let Some(value) = fields.take(option) {
            if value.as_bool().is_none() {
                return Err(Error::new(ErrorKind::Usage, format!("`{option}` is true or false")));
            }
            set.insert(option, value);
        }
    }
    if let Some(seconds) = fields.take("expireAfterSeconds") {
        if !matches!(seconds, Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_)) {
            return Err(Error::new(ErrorKind::Usage, "`expireAfterSeconds` is a number"));
        }
        set.insert("expireAfterSeconds", seconds);
    }
    fields.end()?;
    if set.len() != 1 {
        return Err(Error::new(ErrorKind::Usage, "`index` of collMod changes one thing at a time")
            .hint("give several commands in a list"));
    }
    Ok(IndexChange { which, set })
}
