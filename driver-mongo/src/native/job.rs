//! A write of many documents, in ranges of `_id`.

use bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use crate::parse::{Delete, Update};
use crate::spec::Stored;

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Of this collection.
    pub collection: String,
    /// The identity that it had when the plan was made; empty where the server gives none.
    pub uuid: String,
    /// Which documents.
    pub filter: Stored,
    /// What becomes of them.
    pub change: Change,
}

/// What becomes of documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// What an entry of `updates` has besides its filter: `u`, and perhaps `arrayFilters`.
    Update(Stored),
    /// They go.
    Delete,
}

impl Job {
    /// That of an update.
    pub fn update(collection: &str, uuid: &str, update: Update) -> Self {
        let mut entry = doc! { "u": update.change };
        if let Some(filters) = update.array_filters {
            entry.insert("arrayFilters", filters);
        }
        Self {
            collection: collection.to_owned(),
            uuid: uuid.to_owned(),
            filter: Stored(update.filter),
            change: Change::Update(Stored(entry)),
        }
    }

    /// That of a delete.
    pub fn delete(collection: &str, uuid: &str, delete: Delete) -> Self {
        Self {
            collection: collection.to_owned(),
            uuid: uuid.to_owned(),
            filter: Stored(delete.filter),
            change: Change::Delete,
        }
    }

    /// The whole of it as one command.
    pub fn command(&self) -> Document {
        self.writing(self.filter.0.clone(), Document::new())
    }

    /// The write of the documents that match within a range, which is found by the index of `_id`.
    pub fn within(&self, range: &Document) -> Document {
        let filter = match range.is_empty() {
            true => self.filter.0.clone(),
            false => doc! { "$and": [range.clone(), self.filter.0.clone()] },
        };
        self.writing(filter, doc! { "hint": { "_id": 1 } })
    }

    fn writing(&self, filter: Document, more: Document) -> Document {
        let mut entry = doc! { "q": filter };
        match &self.change {
            Change::Update(change) => {
                entry.extend(change.0.clone());
                entry.insert("multi", true);
                entry.extend(more);
                doc! { "update": &self.collection, "updates": [entry] }
            }
            Change::Delete => {
                entry.insert("limit", Bson::Int32(0));
                entry.extend(more);
                doc! { "delete": &self.collection, "deletes": [entry] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_narrows_what_is_matched_and_nothing_else() {
        let update = Update {
            filter: doc! { "v": { "$exists": false } },
            change: Bson::Document(doc! { "$set": { "l.$[e]": 1 } }),
            array_filters: Some(Bson::Array(vec![Bson::Document(doc! { "e": 2 })])),
        };
        let job = Job::update("c", "", update);
        let expected = doc! {
            "update": "c",
            "updates": [{
                "q": { "$and": [{ "_id": { "$gt": 5 } }, { "v": { "$exists": false } }] },
                "u": { "$set": { "l.$[e]": 1 } },
                "arrayFilters": [{ "e": 2 }],
                "multi": true,
                "hint": { "_id": 1 },
            }],
        };
        assert_eq!(job.within(&doc! { "_id": { "$gt": 5 } }), expected);
        let whole = job.command();
        let entry = whole.get_array("updates").expect("updates")[0].as_document().expect("an entry");
        assert_eq!(entry.get_document("q").expect("a filter"), &doc! { "v": { "$exists": false } });
        let job = Job::delete("c", "", Delete { filter: doc! { "a": 1 } });
        assert_eq!(job.command(), doc! { "delete": "c", "deletes": [{ "q": { "a": 1 }, "limit": 0 }] });
    }
}
