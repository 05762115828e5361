//! The collation of a collection: which texts are equal, an `_id` among them.

use bson::Document;

/// A collection's default collation.
#[derive(Debug, Clone, PartialEq)]
pub struct Collation(Option<Document>);

impl Collation {
    /// That of a collection with these options.
    #[must_use]
    pub fn of(options: &Document) -> Self {
        let given = options.get_document("collation").ok();
        Self(given.filter(|collation| collation.get_str("locale").ok() != Some("simple")).cloned())
    }

    /// Whether only equal bytes are equal texts.
    #[must_use]
    pub fn is_simple(&self) -> bool {
        self.0.is_none()
    }
}
