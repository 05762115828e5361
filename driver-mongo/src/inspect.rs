//! What the server says about a collection.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use replank_core::value::hex;
use replank_core::{Error, ErrorKind, Result};

use crate::connect::Server;
use crate::error::{NAMESPACE_NOT_FOUND, code, from_mongo};

/// A collection as the catalogue has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// What `create` took, or `collMod` made of it.
    pub options: Document,
    /// Its identity; empty where the server gives none.
    pub uuid: String,
    /// `collection`, `view` or `timeseries`.
    pub kind: String,
    /// Its indexes but that of `_id`, as `createIndexes` takes them.
    pub indexes: Vec<Document>,
}

impl Collection {
    /// Reads a collection; `None` where there is none of that name.
    pub async fn read(server: &Server, name: &str) -> Result<Option<Self>> {
        let Some(entry) = entry(&server.database(), name).await? else { return Ok(None) };
        let kind = entry.get_str("type").unwrap_or("collection").to_owned();
        let indexes = if kind == "view" { Vec::new() } else { indexes(server, name).await? };
        let options = entry.get_document("options").cloned().unwrap_or_default();
        Ok(Some(Self { options, uuid: uuid_of(&entry), kind, indexes }))
    }

    /// The same, where it must be there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], with the names that there are.
    pub async fn expect(server: &Server, name: &str) -> Result<Self> {
        if let Some(found) = Self::read(server, name).await? {
            return Ok(found);
        }
        let mut names = server.database().list_collection_names().await.map_err(from_mongo)?;
        names.retain(|name| !name.starts_with("system.") && !name.starts_with("_rp_"));
        names.sort_unstable();
        let missing = Error::new(ErrorKind::NotFound, format!("there is no collection `{name}`"))
            .with("database", server.database_name());
        Err(match names.len() {
            0 => missing.hint("the database has no collections; is it the right one?"),
            _ => missing.hint(format!(
                "there are: {}",
                names.iter().take(20).cloned().collect::<Vec<_>>().join(", ")
            )),
        })
    }
}

/// The entry of a collection in the catalogue of its database.
pub async fn entry(database: &Database, name: &str) -> Result<Option<Document>> {
    let listing = doc! { "listCollections": 1, "filter": { "name": name } };
    let mut found: Vec<Document> = database
        .run_cursor_command(listing)
        .await
        .map_err(from_mongo)?
        .try_collect()
        .await
        .map_err(from_mongo)?;
    Ok(found.pop())
}

/// The identity of a collection; `None` where there is none of that name, empty where the server gives none.
pub async fn uuid(server: &Server, name: &str) -> Result<Option<String>> {
    Ok(entry(&server.database(), name).await?.as_ref().map(uuid_of))
}

/// The identity in an entry of `listCollections`.
pub fn uuid_of(entry: &Document) -> String {
    match entry.get_document("info").ok().and_then(|info| info.get("uuid")) {
        Some(Bson::Binary(binary)) => hex(&binary.bytes),
        _ => String::new(),
    }
}

/// Whether there is a collection of that name.
pub async fn exists(server: &Server, name: &str) -> Result<bool> {
    Ok(entry(&server.database(), name).await?.is_some())
}

/// The indexes of a collection but that of `_id`, in the order of their names; none where it is not there.
pub async fn indexes(server: &Server, name: &str) -> Result<Vec<Document>> {
    let listing = server.database().run_cursor_command(doc! { "listIndexes": name }).await;
    let listing = match listing {
        Ok(listing) => listing,
        Err(error) if code(&error) == Some(NAMESPACE_NOT_FOUND) => return Ok(Vec::new()),
        Err(error) => return Err(from_mongo(error)),
    };
    let mut found: Vec<Document> = listing.try_collect().await.map_err(from_mongo)?;
    found.retain(|index| index.get_str("name").ok() != Some("_id_"));
    for index in &mut found {
        // The version of the format is the server's to choose, and `ns` was said by old ones.
        index.remove("v");
        index.remove("ns");
        // What `collMod` leaves where it was said and taken back.
        for name in ["prepareUnique", "hidden"] {
            if index.get_bool(name).is_ok_and(|is_set| !is_set) {
                index.remove(name);
            }
        }
    }
    found.sort_by(|one, other| index_name(one).cmp(index_name(other)));
    Ok(found)
}

/// Whether an option is there and true.
pub fn is_set(options: &Document, option: &str) -> bool {
    options.get_bool(option).unwrap_or(false)
}

/// An index's name.
pub fn index_name(index: &Document) -> &str {
    index.get_str("name").unwrap_or_default()
}

/// How large a collection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Documents, as the server's counters say.
    pub documents: u64,
    /// Bytes of the documents and indexes on the disk; `None` where the server does not say.
    pub bytes: Option<u64>,
}

/// The size of a collection.
pub async fn size(server: &Server, name: &str) -> Result<Size> {
    let stages = [doc! { "$collStats": { "count": {}, "storageStats": {} } }];
    let found = server.database().collection::<Document>(name).aggregate(stages).await.map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    let mut size = Size::default();
    // One for each shard.
    for part in &found {
        size.documents += part.get("count").map_or(0, number);
        if let Ok(storage) = part.get_document("storageStats") {
            let of = |name: &str| storage.get(name).map_or(0, number);
            let bytes = of("storageSize") + of("totalIndexSize");
            if bytes > 0 {
                size.bytes = Some(size.bytes.unwrap_or_default() + bytes);
            }
        }
    }
    Ok(size)
}

/// A number of the server's, of whatever type it comes in.
pub fn number(value: &Bson) -> u64 {
    match value {
        Bson::Int32(number) => u64::try_from(*number).unwrap_or(0),
        Bson::Int64(number) => u64::try_from(*number).unwrap_or(0),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size, which is neither"
        )]
        Bson::Double(number) => *number as u64,
        _ => 0,
    }
}
