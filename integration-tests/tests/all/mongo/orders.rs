//! The collection that an application lives on.

use mongodb::Database;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::collection::{connect, insert_many};
use crate::server::{self, mongo_database};

/// Its name.
pub const COLLECTION: &str = "orders";

/// A database with `orders`, which has the documents `0..documents`.
pub struct Orders {
    target: server::Database,
    /// How many documents there were before anybody wrote.
    pub documents: u64,
}

impl Orders {
    /// In a database of its own on the shared server.
    pub async fn with_documents(documents: u64) -> Self {
        Self::within(mongo_database().await, documents).await
    }

    /// The same in this database.
    pub async fn within(target: server::Database, documents: u64) -> Self {
        let orders = Self { target, documents };
        let all: Vec<Document> = (0..documents).map(first).collect();
        insert_many(&orders.connect().await, COLLECTION, &all).await;
        orders
    }

    /// The target, as a person types it.
    pub fn url(&self) -> String {
        self.target.url.clone()
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// The database, as an application opens it.
    pub async fn connect(&self) -> Database {
        connect(&self.url()).await
    }
}

/// The `_id` of a document: numbers, texts and object ids in one collection.
pub fn id(key: u64) -> Bson {
    let number = i64::try_from(key).expect("far below 2^63");
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&key.to_be_bytes());
    match key % 4 {
        0 | 1 => Bson::Int64(number),
        2 => Bson::String(format!("order {key}")),
        _ => Bson::ObjectId(ObjectId::from_bytes(bytes)),
    }
}

/// A document as the application writes the whole of it. `customer` is a number in digits.
pub fn whole(key: u64, customer: u64) -> Document {
    let number = i64::try_from(customer).expect("far below 2^63");
    let mut document = doc! {
        "_id": id(key),
        "customer": customer.to_string(),
        "amount": number * 25,
        "place": { "city": format!("city {}", customer % 7), "zip": format!("{:05}", customer % 100_000) },
        "tags": ["a", customer.to_string()],
        "version": 0,
    };
    // Not every document has every field.
    if !customer.is_multiple_of(3) {
        document.insert("note", format!("note {customer}"));
    }
    document
}

/// A document as it was before anybody wrote.
pub fn first(key: u64) -> Document {
    whole(key, key % 1_000)
}

/// `customer` as a number, as the tests' change makes it.
pub fn retyped(document: &Document) -> Document {
    let mut document = document.clone();
    if let Ok(customer) = document.get_str("customer") {
        let customer: i32 = customer.parse().expect("digits");
        document.insert("customer", customer);
    }
    document
}
