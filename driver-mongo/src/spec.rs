//! The driver's own part of a plan for a rebuild: all that is needed to carry it out, and nothing that another day's
//! catalogue would say differently.

use bson::{Document, RawDocumentBuf};
use replank_core::run::Direction;
use replank_core::value::{hex, unhex};
use replank_core::{Error, ErrorKind, Result};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a rebuild does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The collection as it was when the plan was made.
    pub old: Side,
    /// The collection as it will be.
    pub new: Side,
    /// How documents of the old shape become documents of the new one: stages of an aggregation.
    pub forward: Vec<Stored>,
    /// The way back, if there is one.
    pub backward: Option<Vec<Stored>>,
    /// The identity of the collection that was there when the plan was made.
    pub uuid: String,
    /// A collection keeps its identity when it is renamed.
    pub uuids_last: bool,
    /// A fence waits for what is being written.
    pub fence_waits: bool,
}

/// A collection's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// What `create` takes.
    pub options: Stored,
    /// Its indexes but that of `_id`, as `createIndexes` takes them.
    pub indexes: Vec<Stored>,
}

/// A document that is kept to the byte. JSON would forget the order of its fields, by which an index differs from another.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored(pub Document);

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawDocumentBuf::try_from(&self.0).map_err(S::Error::custom)?;
        serializer.serialize_str(&hex(raw.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let bytes = unhex(&digits).ok_or_else(|| D::Error::custom("a document in hex digits"))?;
        let raw = RawDocumentBuf::from_bytes(bytes).map_err(D::Error::custom)?;
        Document::try_from(raw).map(Self).map_err(D::Error::custom)
    }
}

/// The documents of a list.
pub fn documents(stored: &[Stored]) -> Vec<Document> {
    stored.iter().map(|stored| stored.0.clone()).collect()
}

/// A list of documents to be kept.
pub fn stored(documents: Vec<Document>) -> Vec<Stored> {
    documents.into_iter().map(Stored).collect()
}

impl Spec {
    /// Reads what [`Spec::write`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for another driver's, or another version's.
    pub fn read(json: &serde_json::Value) -> Result<Self> {
        Self::deserialize(json).map_err(|error| {
            Error::new(ErrorKind::Internal, "the run's plan cannot be read")
                .hint("was it made by another version of replank?")
                .caused_by(error)
        })
    }

    /// The spec as JSON.
    pub fn write(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "a plan cannot be written as JSON").caused_by(error)
        })
    }

    /// The collection that applications write in a direction.
    pub fn live(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Forward => &self.old,
            Direction::Reverse => &self.new,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_spec_is_read_as_it_was_written_and_keeps_the_order_of_fields() {
        let key = doc! { "key": { "z": 1, "a": -1 }, "name": "z_1_a_-1" };
        let side = Side { options: Stored(doc! {}), indexes: stored(vec![key.clone()]) };
        let spec = Spec {
            old: side.clone(),
            new: side,
            forward: stored(vec![doc! { "$set": { "v": { "$toInt": "$v" } } }]),
            backward: None,
            uuid: "00".into(),
            uuids_last: true,
            fence_waits: true,
        };
        let read = Spec::read(&spec.write().expect("written")).expect("read");
        assert_eq!(read, spec);
        let fields = read.old.indexes[0].0.get_document("key").expect("a key");
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["z", "a"]);
    }
}
