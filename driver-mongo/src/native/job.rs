//! A write of many documents, in ranges of `_id`.

use bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use crate::parse::{Delete, Update};
use crate::spec::Stored;

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Documents that match are updated.
    Update {
        /// Of this collection.
        collection: String,
        /// Which.
        filter: Stored,
        /// The operators or the pipeline, in an object with the one field `u`.
        change: Stored,
        /// `arrayFilters`, in an object with that one field, if there are any.
        array_filters: Option<Stored>,
    },
    /// Documents that match are deleted.
    Delete {
        /// Of this collection.
        collection: String,
        /// Which.
        filter: Stored,
        /// They are kept here first.
        kept: Option<String>,
    },
    /// What was kept comes back, where nothing of its `_id` was written since.
    PutBack {
        /// Into this collection.
        collection: String,
        /// From this one.
        kept: String,
    },
}

impl Job {
    /// That of an update.
    pub fn update(collection: &str, update: Update) -> Self {
        Self::Update {
            collection: collection.to_owned(),
            filter: Stored(update.filter),
            change: Stored(doc! { "u": update.change }),
            array_filters: update.array_filters.map(|filters| Stored(doc! { "arrayFilters": filters })),
        }
    }

    /// That of a delete.
    pub fn delete(collection: &str, delete: Delete, kept: Option<String>) -> Self {
        Self::Delete { collection: collection.to_owned(), filter: Stored(delete.filter), kept }
    }

    /// The collection whose documents are gone through.
    pub fn swept(&self) -> &str {
        match self {
            Self::PutBack { kept, .. } => kept,
            other => other.collection(),
        }
    }

    /// The collection that is written.
    pub fn collection(&self) -> &str {
        match self {
            Self::Update { collection, .. }
            | Self::Delete { collection, .. }
            | Self::PutBack { collection, .. } => collection,
        }
    }

    /// The whole of it as one command.
    pub fn command(&self) -> Document {
        match self {
            Self::PutBack { collection, kept } => doc! {
                "aggregate": kept,
                "pipeline": [{ "$merge": { "into": collection, "whenMatched": "keepExisting" } }],
            },
            other => other.within(None),
        }
    }

    /// The write of the documents that match within a range; of all, without one.
    pub fn within(&self, range: Option<&Document>) -> Document {
        let both = |filter: &Document| match range {
            Some(range) if !range.is_empty() => doc! { "$and": [range.clone(), filter.clone()] },
            _ => filter.clone(),
        };
        match self {
            Self::Update { collection, filter, change, array_filters, .. } => {
                let u = change.0.get("u").cloned().unwrap_or(Bson::Null);
                let mut entry = doc! { "q": both(&filter.0), "u": u, "multi": true };
                if let Some(filters) = array_filters {
                    entry.extend(filters.0.clone());
                }
                doc! { "update": collection, "updates": [entry] }
            }
            Self::Delete { collection, filter, .. } => {
                doc! { "delete": collection, "deletes": [{ "q": both(&filter.0), "limit": 0 }] }
            }
            Self::PutBack { .. } => self.command(),
        }
    }

    /// Which documents of the swept collection it is about.
    pub fn filter(&self) -> Document {
        match self {
            Self::Update { filter, .. } | Self::Delete { filter, .. } => filter.0.clone(),
            Self::PutBack { .. } => Document::new(),
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
        let job = Job::update("c", update);
        let range = doc! { "_id": { "$gt": 5 } };
        let expected = doc! {
            "update": "c",
            "updates": [{
                "q": { "$and": [{ "_id": { "$gt": 5 } }, { "v": { "$exists": false } }] },
                "u": { "$set": { "l.$[e]": 1 } },
                "multi": true,
                "arrayFilters": [{ "e": 2 }],
            }],
        };
        assert_eq!(job.within(Some(&range)), expected);
        let whole = job.command();
        let entry = whole.get_array("updates").expect("updates")[0].as_document().expect("an entry");
        assert_eq!(entry.get_document("q").expect("a filter"), &doc! { "v": { "$exists": false } });
    }
}
