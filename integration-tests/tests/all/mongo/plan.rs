//! What the writers do: drawn from a seed, so that a failure can be replayed.

use mongodb::bson::{Bson, Document, doc};

use super::Settings;
use super::orders::{id, whole};
use crate::random::Random;

/// One write of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Which document.
    pub key: u64,
    /// What is done to it.
    pub kind: Kind,
}

/// What can be done to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It is not there: it is new, or comes back.
    Insert { customer: u64 },
    /// `$set` of one field.
    Set { field: &'static str, value: String },
    /// `$inc` of `version`.
    Increment,
    /// The whole of it by another one.
    Replace { customer: u64 },
    /// It goes.
    Delete,
    /// The whole of it, whether it is there or not.
    PutWhole { customer: u64 },
    /// `$set` of one field, whether it is there or not.
    PutField { field: &'static str, value: String },
}

impl Operation {
    /// What the document is afterwards.
    pub fn after(&self, before: Option<&Document>) -> Option<Document> {
        match &self.kind {
            Kind::Insert { customer } | Kind::Replace { customer } | Kind::PutWhole { customer } => {
                Some(whole(self.key, *customer))
            }
            Kind::Set { field, value } | Kind::PutField { field, value } => {
                let mut document = before.cloned().unwrap_or_else(|| doc! { "_id": id(self.key) });
                document.insert(*field, value.clone());
                Some(document)
            }
            Kind::Increment => {
                let mut document = before.cloned().unwrap_or_default();
                let version = document.get_i32("version").unwrap_or(0);
                document.insert("version", Bson::Int32(version + 1));
                Some(document)
            }
            Kind::Delete => None,
        }
    }

    /// Whether the document is in the shape of its writer afterwards, whatever it was in before. What sets `customer`
    /// is for changes of that field alone.
    pub fn decides_the_shape(&self, before: Option<&Document>) -> bool {
        match &self.kind {
            Kind::Set { field, .. } | Kind::PutField { field, .. } => {
                before.is_none() || *field == "customer"
            }
            Kind::Increment => false,
            _ => true,
        }
    }
}

/// Draws a write of a document that is there or is not.
pub fn draw(random: &mut Random, key: u64, is_there: bool, settings: &Settings) -> Operation {
    let field = settings.field;
    let customer = random.below(1_000_000);
    let value = customer.to_string();
    let kind = match (is_there, random.below(100)) {
        (true, 0..35) => Kind::Set { field, value },
        (true, 35..55) => Kind::Increment,
        (true, 55..70) => Kind::Replace { customer },
        (true, 70..82) if settings.deletes => Kind::Delete,
        (false, 0..60) => Kind::Insert { customer },
        (_, 82..90) => Kind::PutField { field, value },
        _ => Kind::PutWhole { customer },
    };
    Operation { key, kind }
}
