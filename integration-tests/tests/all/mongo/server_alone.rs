//! What the test server does by itself: a test that finds something lost must know that it was not the server.

use mongodb::bson::doc;

use super::collection::{command, connect, documents, insert_many};
use crate::server::{mongo_database, mongo_own_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_two_databases_of_the_shared_server_are_apart() {
    let (one, other) = (mongo_database().await, mongo_database().await);
    assert_ne!(one.name, other.name);
    let (one, other) = (connect(&one.url).await, connect(&other.url).await);
    insert_many(&one, "orders", &[doc! { "_id": 2, "v": "b" }, doc! { "_id": 1, "v": "a" }]).await;
    let found = documents(&one, "orders").await;
    assert_eq!(
        found.iter().map(|document| document.get_i32("_id").expect("a key")).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(documents(&other, "orders").await.is_empty());
    // A client that was given one address finds the set by it, as the driver does with a person's.
    let hello = command(&one, doc! { "hello": 1 }).await.expect("answered");
    assert!(hello.get_str("setName").is_ok(), "{hello}");
    one.drop().await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_server_that_was_killed_or_restarted_has_its_data() {
    let server = mongo_own_server(&[]).await;
    let database = connect(&server.database().await.url).await;
    insert_many(&database, "orders", &[doc! { "_id": 1, "v": "a" }]).await;
    server.kill().await;
    server.start().await;
    assert_eq!(documents(&database, "orders").await.len(), 1);
    insert_many(&database, "orders", &[doc! { "_id": 2, "v": "a" }]).await;
    server.restart().await;
    assert_eq!(documents(&database, "orders").await.len(), 2);
}
