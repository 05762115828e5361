//! Commands that the server carries out itself: there and back, beside a collection that the server was told the same of by hand.

use mongodb::bson::{Bson, DateTime, Document, doc};

use super::collection::{command, copy, documents, insert_many, is_secantus};
use super::orders::{COLLECTION, Orders};
use crate::binary::{Ended, run_beside};

/// The server is told the same of this one, by a shell.
const TWIN: &str = "twin";

async fn replank(orders: &Orders, args: &[&str]) -> Ended {
    let url = orders.url();
    let mut all = args.to_vec();
    all.extend(["-t", &url, "--yes"]);
    run_beside(&all, &[]).await
}

async fn apply(orders: &Orders, command: &str, more: &[&str]) -> Ended {
    let mut args = vec!["apply", "-e", command];
    args.extend(more);
    replank(orders, &args).await
}

/// `orders`, and a twin with the same documents.
async fn both(count: u64) -> Orders {
    let orders = Orders::with_documents(count).await;
    let database = orders.connect().await;
    copy(&database, COLLECTION, TWIN).await;
    orders
}

/// Tells the server the same of the twin.
async fn tell_twin(orders: &Orders, text: &str) {
    let text = text.replace(&format!("\"{COLLECTION}\""), &format!("\"{TWIN}\""));
    // A `Document` keeps the order of the fields.
    let told: Document = serde_json::from_str(&text).expect("Extended JSON");
    let Bson::Document(told) = as_typed(Bson::Document(told)) else { unreachable!("it is one") };
    command(&orders.connect().await, told).await.expect("done");
}

/// Numbers in the type that a shell gives them.
fn as_typed(value: Bson) -> Bson {
    match value {
        Bson::Int64(number) => i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32),
        Bson::Document(fields) => {
            Bson::Document(fields.into_iter().map(|(name, value)| (name, as_typed(value))).collect())
        }
        Bson::Array(items) => Bson::Array(items.into_iter().map(as_typed).collect()),
        other => other,
    }
}

/// Whether the server refuses a write: the answer itself is a good one.
async fn is_refused(orders: &Orders, write: Document) -> bool {
    let reply = command(&orders.connect().await, write).await.expect("answered");
    reply.contains_key("writeErrors")
}

fn batch(reply: &Document) -> Vec<Document> {
    let batch =
        reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("a batch");
    batch.iter().map(|item| item.as_document().expect("a document").clone()).collect()
}

/// What the server says of a collection: its options, and its indexes by name.
async fn definition(orders: &Orders, name: &str) -> (Document, Vec<Document>) {
    let database = orders.connect().await;
    let listed =
        command(&database, doc! { "listCollections": 1, "filter": { "name": name } }).await.expect("listed");
    let options = batch(&listed).remove(0).get_document("options").expect("options").clone();
    let mut indexes = batch(&command(&database, doc! { "listIndexes": name }).await.expect("listed"));
    for index in &mut indexes {
        index.remove("ns");
        for said in ["prepareUnique", "hidden"] {
            if index.get_bool(said).is_ok_and(|is_so| !is_so) {
                index.remove(said);
            }
        }
    }
    indexes.sort_by_key(|index| index.get_str("name").expect("a name").to_owned());
    (options, indexes)
}

async fn index(orders: &Orders, name: &str) -> Option<Document> {
    let (_, indexes) = definition(orders, COLLECTION).await;
    indexes.into_iter().find(|index| index.get_str("name").is_ok_and(|found| found == name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_indexes_of_every_kind_are_what_the_server_makes_of_them_and_go_again() {
    let orders = both(60).await;
    let before = definition(&orders, COLLECTION).await;
    let mut indexes = vec![
        r#"{"key": {"version": -1, "customer": 1}}"#,
        r#"{"key": {"place.city": 1}, "name": "city", "sparse": true}"#,
        r#"{"key": {"amount": 1}, "name": "large", "partialFilterExpression": {"amount": {"$gt": 100}}}"#,
        r#"{"key": {"note": 1}, "name": "note", "collation": {"locale": "en", "strength": 2}}"#,
        r#"{"key": {"at": 1}, "name": "old", "expireAfterSeconds": 86400}"#,
        r#"{"key": {"$**": 1}, "name": "all"}"#,
        r#"{"key": {"amount": -1}, "name": "unseen", "hidden": true}"#,
        r#"{"key": {"where": "2dsphere"}, "name": "where"}"#,
        r#"{"key": {"_id": 1, "customer": 1}, "name": "single", "unique": true}"#,
    ];
    // SecantusDB has neither.
    if !is_secantus(&orders.connect().await).await {
        indexes.push(r#"{"key": {"note": "text"}, "name": "words"}"#);
        indexes.push(r#"{"key": {"customer": "hashed"}, "name": "hash"}"#);
    }
    let text = format!(
        r#"{{"createIndexes": "orders", "indexes": [{}], "commitQuorum": "majority"}}"#,
        indexes.join(", ")
    );
    let named = text.replacen(
        r#"{"key": {"version": -1, "customer": 1}}"#,
        r#"{"key": {"version": -1, "customer": 1}, "name": "version_-1_customer_1"}"#,
        1,
    );
    tell_twin(&orders, &named).await;
    apply(&orders, &text, &[]).await.exits(0).says("can be taken back");
    assert_eq!(definition(&orders, COLLECTION).await, definition(&orders, TWIN).await);
    // The same again changes nothing.
    apply(&orders, &text, &[]).await.exits(0).says("nothing to do");
    replank(&orders, &["revert", "last"]).await.exits(0);
    assert_eq!(definition(&orders, COLLECTION).await, before);
    // And what was taken back can be done again, and made final.
    apply(&orders, &text, &[]).await.exits(0);
    replank(&orders, &["finalize", "last"]).await.exits(0);
    assert_eq!(definition(&orders, COLLECTION).await, definition(&orders, TWIN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_duplicates_are_counted_before_a_unique_index_is_built_and_named() {
    let orders = Orders::with_documents(40).await;
    let database = orders.connect().await;
    let doubled = doc! { "_id": "twice", "customer": "3", "tags": ["x", "x"] };
    insert_many(&database, COLLECTION, &[doubled]).await;
    let unique = r#"{"createIndexes": "orders", "indexes": [{"key": {"customer": 1}, "name": "one", "unique": true}]}"#;
    apply(&orders, unique, &[])
        .await
        .exits(3)
        .says("C010")
        .says("1 values are not unique under `one`")
        .says("\"twice\"");
    assert_eq!(index(&orders, "one").await, None, "nothing was begun");
    // Elements of an array are values of their own: `a` is in all of them. Within a document nothing collides.
    let many =
        r#"{"createIndexes": "orders", "indexes": [{"key": {"tags": 1}, "name": "tag", "unique": true}]}"#;
    apply(&orders, many, &[]).await.exits(3).says("not unique under `tag`").says("\"a\"");
    command(&database, doc! { "delete": COLLECTION, "deletes": [{ "q": { "_id": "twice" }, "limit": 1 }] })
        .await
        .expect("gone");
    apply(&orders, unique, &[]).await.exits(0);
    let made = index(&orders, "one").await.expect("it is there");
    assert!(made.get_bool("unique").expect("it is unique"), "{made}");
    let again = doc! { "insert": COLLECTION, "documents": [{ "_id": "again", "customer": "3" }] };
    assert!(is_refused(&orders, again).await, "the index refuses it");
    replank(&orders, &["revert", "last"]).await.exits(0);
    assert_eq!(index(&orders, "one").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_an_index_that_goes_is_hidden_until_it_is_final() {
    let orders = Orders::with_documents(30).await;
    let database = orders.connect().await;
    let built = doc! { "createIndexes": COLLECTION, "indexes": [
        { "key": { "amount": 1, "version": -1 }, "name": "kept", "partialFilterExpression": { "amount": { "$gt": 5 } } },
    ] };
    command(&database, built).await.expect("built");
    let before = index(&orders, "kept").await.expect("there");
    let drop = r#"{"dropIndexes": "orders", "index": {"amount": 1, "version": -1}}"#;
    apply(&orders, drop, &[]).await.exits(0).says("D304");
    match index(&orders, "kept").await {
        Some(hidden) => assert!(hidden.get_bool("hidden").expect("no query uses it"), "{hidden}"),
        // SecantusDB answers `ok: 1` to `hidden: true`, and hides nothing: there it goes at once.
        None => assert!(is_secantus(&database).await, "it is kept up"),
    }
    replank(&orders, &["revert", "last"]).await.exits(0);
    assert_eq!(index(&orders, "kept").await, Some(before));
    apply(&orders, drop, &[]).await.exits(0);
    replank(&orders, &["finalize", "last"]).await.exits(0);
    assert_eq!(index(&orders, "kept").await, None);
    apply(&orders, drop, &[]).await.exits(2).says("has no index");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_validator_becomes_strict_in_steps_once_nothing_breaks_it() {
    let orders = Orders::with_documents(50).await;
    let database = orders.connect().await;
    insert_many(&database, COLLECTION, &[doc! { "_id": "odd", "customer": 7 }]).await;
    let before = definition(&orders, COLLECTION).await;
    let strict = r#"{"collMod": "orders", "validator": {"customer": {"$type": "string"}}}"#;
    apply(&orders, strict, &[])
        .await
        .exits(3)
        .says("D309")
        .says("1 document breaks the validator")
        .says("odd");
    assert_eq!(definition(&orders, COLLECTION).await, before);
    let moderate = r#"{"collMod": "orders", "validator": {"customer": {"$type": "string"}}, "validationLevel": "moderate"}"#;
    apply(&orders, moderate, &[]).await.exits(0).says("D309");
    let set = |value: Bson| doc! { "update": COLLECTION, "updates": [{ "q": { "_id": "odd" }, "u": { "$set": { "note": value } } }] };
    assert!(!is_refused(&orders, set(Bson::from("let be"))).await, "it is let be");
    let wrong = doc! { "insert": COLLECTION, "documents": [{ "_id": "new", "customer": 8 }] };
    assert!(is_refused(&orders, wrong).await, "what is new is refused");
    command(&database, doc! { "delete": COLLECTION, "deletes": [{ "q": { "_id": "odd" }, "limit": 1 }] })
        .await
        .expect("gone");
    replank(&orders, &["finalize", "last"]).await.exits(0);
    apply(&orders, r#"{"collMod": "orders", "validationLevel": "strict"}"#, &[]).await.exits(0);
    let (options, _) = definition(&orders, COLLECTION).await;
    assert_eq!(options.get_str("validationLevel").unwrap_or("strict"), "strict");
    assert_eq!(
        options.get_document("validator").expect("it stays"),
        &doc! { "customer": { "$type": "string" } }
    );
    replank(&orders, &["revert", "last"]).await.exits(0);
    let (options, _) = definition(&orders, COLLECTION).await;
    assert_eq!(options.get_str("validationLevel").expect("a level"), "moderate");
}

/// SecantusDB answers `ok: 1` to a new size of a capped collection, and leaves it as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_what_the_server_says_and_does_not_do_is_an_error() {
    let orders = Orders::with_documents(10).await;
    let database = orders.connect().await;
    command(&database, doc! { "create": "ring", "capped": true, "size": 4096 }).await.expect("made");
    let larger = r#"{"collMod": "ring", "cappedSize": 8192}"#;
    let ended = apply(&orders, larger, &["--no-revert"]).await;
    let (options, _) = definition(&orders, "ring").await;
    let size = options.get("size").and_then(|size| size.as_i64().or(size.as_i32().map(i64::from)));
    if size == Some(8192) {
        ended.exits(0);
    } else {
        ended.exits(1).says("without an error, and it is not done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_collection_that_goes_is_kept_until_it_is_final() {
    let orders = Orders::with_documents(40).await;
    let database = orders.connect().await;
    let built =
        doc! { "createIndexes": COLLECTION, "indexes": [{ "key": { "amount": 1 }, "name": "amount" }] };
    command(&database, built).await.expect("built");
    let (before, all) = (definition(&orders, COLLECTION).await, documents(&database, COLLECTION).await);
    apply(&orders, r#"{"drop": "orders"}"#, &[]).await.exits(0).says("D322");
    let names = database.list_collection_names().await.expect("listed");
    assert!(!names.contains(&COLLECTION.to_owned()), "{names:?}");
    // Who still writes makes another one of that name, which nothing may hide.
    insert_many(&database, COLLECTION, &[doc! { "_id": "late" }]).await;
    replank(&orders, &["revert", "last"]).await.exits(3).says("there is a collection `orders` already");
    assert_eq!(documents(&database, COLLECTION).await.len(), 1);
    command(&database, doc! { "drop": COLLECTION }).await.expect("moved away");
    replank(&orders, &["revert", "last"]).await.exits(0);
    assert_eq!(definition(&orders, COLLECTION).await, before);
    assert_eq!(documents(&database, COLLECTION).await, all);
    apply(&orders, r#"{"drop": "orders"}"#, &[]).await.exits(0);
    replank(&orders, &["finalize", "last"]).await.exits(0);
    assert!(database.list_collection_names().await.expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_collection_is_made_with_its_indexes_renamed_and_unmade_only_while_it_is_empty() {
    let orders = Orders::with_documents(5).await;
    let database = orders.connect().await;
    let made = r#"[{"create": "people", "collation": {"locale": "en", "strength": 2}, "validator": {"name": {"$exists": true}}},
        {"createIndexes": "people", "indexes": [{"key": {"name": 1}, "unique": true}]}]"#;
    apply(&orders, made, &[]).await.exits(0);
    let (options, indexes) = definition(&orders, "people").await;
    assert!(options.contains_key("validator") && indexes.len() == 2, "{options} {indexes:?}");
    insert_many(&database, "people", &[doc! { "_id": 1, "name": "Ada" }]).await;
    replank(&orders, &["revert", "last"]).await.exits(3).says("has been written to");
    assert_eq!(documents(&database, "people").await.len(), 1);
    command(&database, doc! { "delete": "people", "deletes": [{ "q": {}, "limit": 0 }] })
        .await
        .expect("emptied");
    replank(&orders, &["revert", "last"]).await.exits(0);
    let names = database.list_collection_names().await.expect("listed");
    assert_eq!(names, [COLLECTION]);
    let rename = format!(r#"{{"renameCollection": "{0}.orders", "to": "{0}.sales"}}"#, orders.name());
    apply(&orders, &rename, &[]).await.exits(3).says("C003");
    let waived = ["-D", "waive=C003 reason=\"nobody runs\""];
    let all = documents(&database, COLLECTION).await;
    apply(&orders, &rename, &waived).await.exits(0);
    assert_eq!(documents(&database, "sales").await, all);
    replank(&orders, &["revert", "last"]).await.exits(0);
    assert_eq!(documents(&database, COLLECTION).await, all);
}

/// What a TTL index deletes at once is told before, and asks for a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_what_would_expire_at_once_is_counted() {
    let orders = Orders::with_documents(5).await;
    let database = orders.connect().await;
    let day = 86_400_000;
    let now = DateTime::now().timestamp_millis();
    let events: Vec<Document> = (0..10_i32)
        .map(|number| doc! { "_id": number, "at": DateTime::from_millis(now - i64::from(number) * day) })
        .collect();
    insert_many(&database, "events", &events).await;
    let ttl = r#"{"createIndexes": "events", "indexes": [{"key": {"at": 1}, "expireAfterSeconds": 475200}]}"#;
    // Five and a half days: six to nine days old are four.
    apply(&orders, ttl, &[])
        .await
        .exits(3)
        .says("4 documents whose `at` is older than 475200 s expire at once")
        .says("--no-revert");
    apply(&orders, ttl, &["--no-revert"]).await.exits(0).says("D305");
    let (_, indexes) = definition(&orders, "events").await;
    assert_eq!(indexes.len(), 2, "{indexes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_commands_that_cannot_be_meant_change_nothing() {
    let orders = Orders::with_documents(5).await;
    let before = definition(&orders, COLLECTION).await;
    let cases = [
        (
            r#"{"createIndexes": "nowhere", "indexes": [{"key": {"a": 1}}]}"#,
            2,
            "there is no collection `nowhere`",
        ),
        (
            r#"{"createIndexes": "orders", "indexes": [{"key": {"a": 1}, "uniqe": true}]}"#,
            2,
            "takes no `uniqe`",
        ),
        (r#"{"creatIndexes": "orders"}"#, 2, "no command `creatIndexes`"),
        (r#"{"convertToCapped": "orders", "size": 4096}"#, 3, "nobody can read or write"),
        (
            r#"{"create": "orders", "capped": true, "size": 4096}"#,
            3,
            "there is a collection `orders` already",
        ),
        (r#"{"dropIndexes": "orders", "index": "_id_"}"#, 2, "that of `_id`"),
        (
            r#"{"update": "orders", "updates": [{"q": {}, "u": {"$rename": {"customer": "client"}}, "multi": true}]}"#,
            3,
            "D307",
        ),
        (
            r#"{"update": "orders", "updates": [{"q": {}, "u": {"$inc": {"version": 1}}, "multi": true}]}"#,
            3,
            "when it is done again",
        ),
        (
            r#"{"update": "orders", "updates": [{"q": {}, "u": [{"$set": {"version": {"$add": ["$version", 1]}}}], "multi": true}]}"#,
            3,
            "would match again when it is done",
        ),
        ("{", 2, "not JSON"),
    ];
    for (text, code, says) in cases {
        apply(&orders, text, &["--no-revert"]).await.exits(code).says(says);
    }
    assert_eq!(definition(&orders, COLLECTION).await, before);
    assert_eq!(documents(&orders.connect().await, COLLECTION).await.len(), 5);
}

/// What is kept does not go on expiring under its other name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_what_is_kept_expires_no_more() {
    let orders = Orders::with_documents(20).await;
    let database = orders.connect().await;
    let ttl = doc! { "createIndexes": COLLECTION, "indexes": [{ "key": { "at": 1 }, "name": "old", "expireAfterSeconds": 60 }] };
    command(&database, ttl).await.expect("built");
    let before = definition(&orders, COLLECTION).await;
    apply(&orders, r#"{"drop": "orders"}"#, &[]).await.exits(0);
    let kept = database.list_collection_names().await.expect("listed").remove(0);
    let (_, indexes) = definition(&orders, &kept).await;
    let old = indexes.iter().find(|index| index.contains_key("expireAfterSeconds")).expect("it is there");
    assert_eq!(old.get_i32("expireAfterSeconds").expect("a limit"), i32::MAX);
    replank(&orders, &["revert", "last"]).await.exits(0);
    assert_eq!(definition(&orders, COLLECTION).await, before);
}

/// Somebody has put a collection in the place of the view that was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_view_is_taken_back_and_nothing_else_of_its_name() {
    let orders = Orders::with_documents(20).await;
    let database = orders.connect().await;
    let view = r#"{"create": "few", "viewOn": "orders", "pipeline": [{"$match": {"version": 0}}]}"#;
    apply(&orders, view, &[]).await.exits(0);
    assert_eq!(documents(&database, "few").await.len(), 20);
    command(&database, doc! { "drop": "few" }).await.expect("dropped");
    insert_many(&database, "few", &[doc! { "_id": "precious" }]).await;
    replank(&orders, &["revert", "last"]).await.exits(1).says("another object `few`");
    assert_eq!(documents(&database, "few").await.len(), 1);
    command(&database, doc! { "drop": "few" }).await.expect("moved away");
    replank(&orders, &["revert", "last"]).await.exits(0);
}
