//! Values and ids on which other tools have lost, bent or invented documents, each with writes in the middle of the copy.
//! Collections are small: a look for an `_id` reads all of one on the server that is tested.

use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, Timestamp, doc};

use super::change::{file, path};
use super::collection::{command, is_secantus};
use super::kept::{KEPT, Kept, Write, rebuild};
use super::wire::{Held, Rule, Wire};

const PAUSE: Duration = Duration::from_millis(60);

/// What an `_id` may be, several of each type where there are several.
fn ids() -> Vec<Bson> {
    let mut ids = vec![
        Bson::MinKey,
        Bson::Null,
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Double(f64::INFINITY),
        Bson::Double(-0.0),
        Bson::Boolean(true),
        Bson::Boolean(false),
        Bson::String(String::new()),
        Bson::JavaScriptCode("x".into()),
        Bson::MaxKey,
    ];
    let subtypes = [
        BinarySubtype::Generic,
        BinarySubtype::UuidOld,
        BinarySubtype::Uuid,
        BinarySubtype::UserDefined(128),
    ];
    for n in 1..=4_u8 {
        let number = i32::from(n);
        ids.extend([
            Bson::Int32(number * 10),
            Bson::Int64(i64::from(n) * 10 + 1),
            Bson::Double(f64::from(n) + 0.5),
            Bson::Decimal128(format!("{n}.250").parse::<Decimal128>().expect("a number")),
            Bson::String(format!("text {n}")),
            Bson::Document(doc! { "a": number }),
            Bson::Document(doc! { "b": i64::from(n), "a": 1 }),
            Bson::ObjectId(ObjectId::from_bytes([n; 12])),
            Bson::DateTime(DateTime::from_millis(i64::from(n) - 2)),
            Bson::Timestamp(Timestamp { time: u32::from(n), increment: 2 }),
            Bson::Binary(Binary { subtype: subtypes[usize::from(n) - 1], bytes: vec![n; 16] }),
        ]);
    }
    ids
}

/// Other tools have passed over ids of other types between their partitions. Here five documents of each type, and three in a
/// partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_ids_of_every_type_are_copied_and_followed_in_small_chunks() {
    let whole = |id: &Bson, n: i32| doc! { "_id": id.clone(), "n": n, "v": "was" };
    let all: Vec<Document> = ids().iter().map(|id| whole(id, 0)).collect();
    let mut kept = Kept::with(doc! {}, &all).await;
    let mut writes = Vec::new();
    for (at, id) in ids().into_iter().enumerate() {
        // Not every server finds what is no number to update it.
        let is_nan = matches!(id, Bson::Double(number) if number.is_nan());
        if is_nan || at % 4 == 0 {
            writes.push(Write::Delete(id.clone()));
            writes.push(Write::Put(whole(&id, 7)));
        }
        if !is_nan {
            writes.push(Write::Update(id, doc! { "$inc": { "n": 1 } }));
        }
    }
    // Each once or so while it is copied.
    let writing = kept.write(writes, Duration::from_millis(15)).await;
    kept.rebuild(&kept.url(), &["--throttle", "chunk_rows_max=3"]).await.exits(0);
    let count = writing.stop(&mut kept).await;
    println!("{count} writes");
    assert!(count > 20, "{count}");
    kept.check().await;
    kept.go_on("revert").await.exits(0);
    kept.check().await;
}

/// A collation that ignores case has made updates hit another document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_collation_is_carried_over_and_finds_no_other_document() {
    let folded = doc! { "locale": "en", "strength": 2 };
    // Where case counts, there are both.
    let cases = [
        (doc! { "collation": folded.clone() }, vec!["a", "B", "Éa", "z"]),
        (doc! {}, vec!["a", "A", "b", "B", "é", "É"]),
    ];
    for (options, ids) in cases {
        let all: Vec<Document> = ids.iter().map(|id| doc! { "_id": *id, "n": 0, "t": *id }).collect();
        let mut kept = Kept::with(options.clone(), &all).await;
        let database = kept.connect().await;
        let index = doc! { "key": { "t": 1 }, "name": "by_t", "collation": folded.clone() };
        command(&database, doc! { "createIndexes": KEPT, "indexes": [index] }).await.expect("built");
        let before = definition(&kept, KEPT).await;
        let mut writes: Vec<Write> = Vec::new();
        for id in &ids {
            writes.push(Write::Update((*id).into(), doc! { "$inc": { "n": 1 }, "$set": { "by": *id } }));
        }
        writes.push(Write::Delete(ids[0].into()));
        writes.push(Write::Put(doc! { "_id": ids[0], "n": 100 }));
        let writing = kept.write(writes, PAUSE).await;
        let more = ["--throttle", "chunk_rows_max=2", "--cutover", "manual"];
        kept.rebuild(&kept.url(), &more).await.exits(5);
        let names = database.list_collection_names().await.expect("listed");
        let made: Vec<&String> = names.iter().filter(|name| name.starts_with("_rp_")).collect();
        for name in made.iter().filter(|name| !name.ends_with("_log")) {
            assert_eq!(definition(&kept, name).await, before, "the collations are carried over");
        }
        assert_eq!(made.len(), 3, "{made:?}");
        // The server that is tested forgets a collation when it renames a collection.
        if options.is_empty() || !is_secantus(&database).await {
            kept.go_on("cutover").await.exits(0);
            writing.stop(&mut kept).await;
            kept.check().await;
            assert_eq!(definition(&kept, KEPT).await, before, "and kept");
            kept.go_on("revert").await.exits(0);
        } else {
            writing.stop(&mut kept).await;
            kept.go_on("abort").await.exits(0);
        }
        kept.check().await;
    }
}

/// The collation of a collection, and its indexes.
async fn definition(kept: &Kept, name: &str) -> (Option<Bson>, Document) {
    let database = kept.connect().await;
    let listed = command(&database, doc! { "listCollections": 1, "filter": { "name": name } }).await;
    let batch = |reply: &Document| {
        reply
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"))
            .expect("a batch")
            .clone()
    };
    let entry = batch(&listed.expect("listed"))[0].as_document().expect("an entry").clone();
    let collation = entry.get_document("options").expect("options").get("collation").cloned();
    let indexes = command(&database, doc! { "listIndexes": name }).await.expect("listed");
    let indexes = batch(&indexes).into_iter().filter_map(|index| {
        let index = index.as_document()?.clone();
        Some((index.get_str("name").ok()?.to_owned(), Bson::Document(index)))
    });
    (collation, indexes.collect())
}

/// A path of an event is not always one way to read: `arr.0.10` is a field of an element here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_fields_named_by_numbers_with_dots_or_dollars_stay_what_they_are() {
    let odd = |id: i32| {
        doc! {
            "_id": id, "arr": [{ "10": "x", "n": 1 }, 5], "m": { "0": "a", "b.c": 1 }, "a.b": 1, "$c": 2, "": 3,
            "a": { "b": "not a.b" }, "list": [1, 2, 3], "z": { "y": 1, "x": { "$d": 2 } },
        }
    };
    let all: Vec<Document> = (0..24).map(odd).collect();
    let mut kept = Kept::with(doc! {}, &all).await;
    let mut writes = Vec::new();
    for id in 0..24 {
        writes.push(match id % 6 {
            0 => Write::Update(id.into(), doc! { "$set": { "arr.0.10": format!("y{id}") } }),
            1 => Write::Update(id.into(), doc! { "$set": { "m.0": "b", "arr.1": { "2": [] } } }),
            2 => Write::Update(id.into(), doc! { "$push": { "list": { "$each": [7, 8], "$slice": -2 } } }),
            3 => Write::Update(id.into(), doc! { "$push": { "list": { "$each": [9], "$slice": 0 } } }),
            4 => Write::Update(
                id.into(),
                doc! { "$pop": { "list": 1 }, "$set": { "arr.0.n": 2, "a.b": "set" } },
            ),
            // No update takes a whole document with such a name.
            _ => Write::Delete(id.into()),
        });
        if id % 6 == 5 {
            writes.push(Write::Put(odd(id)));
        }
    }
    let writing = kept.write(writes, PAUSE).await;
    kept.rebuild(&kept.url(), &["--throttle", "chunk_rows_max=5"]).await.exits(0);
    writing.stop(&mut kept).await;
    kept.check().await;
    kept.go_on("revert").await.exits(0);
    kept.check().await;
}

/// What becomes too large is told by its key before anything is made, or ends the run, which does not begin again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_document_that_becomes_too_large_is_told_and_never_tried_for_ever() {
    const MIB: usize = 1 << 20;
    let doubling = file(r#"[{"$set": {"again": "$b"}}]"#);
    let pipeline = path(&doubling);
    let more = ["--pipeline", &pipeline, "--no-revert"];
    let mut kept = Kept::with(doc! {}, &[doc! { "_id": "small", "b": "x" }]).await;
    kept.write_once(&[Write::Put(doc! { "_id": "large", "b": "x".repeat(9 * MIB) })]).await;
    let told = kept.rebuild(&kept.url(), &more).await.exits(3).says("larger than 16 MiB");
    told.says("large");
    kept.check().await;
    // It becomes large once the documents were looked at, copied and compared.
    kept.write_once(&[Write::Put(doc! { "_id": "large", "b": "x" })]).await;
    let held = Held::default();
    let wire = Wire::before(&kept.url(), vec![Rule::on("collMod").of(KEPT).held_by(&held)]).await;
    let through = wire.url(&kept.url());
    let grows = async {
        held.comes().await;
        kept.write_once(&[Write::Put(doc! { "_id": "large", "b": "x".repeat(9 * MIB) })]).await;
        held.goes_on();
    };
    let (ended, ()) = tokio::join!(rebuild(&through, &more), grows);
    ended.exits(1).says("larger than 16 MiB").says("large");
    kept.write_once(&[Write::Update("large".into(), doc! { "$set": { "c": 1 } })]).await;
    kept.check().await;
    kept.go_on("abort").await.exits(0);
    // As it is, it fits, however large the event of its update is.
    let writes = vec![
        Write::Put(doc! { "_id": "large", "b": "y".repeat(9 * MIB) }),
        Write::Put(doc! { "_id": "large", "b": "z".repeat(9 * MIB) }),
    ];
    let writing = kept.write(writes, Duration::from_millis(300)).await;
    kept.rebuild(&kept.url(), &["--no-revert"]).await.exits(0);
    writing.stop(&mut kept).await;
    kept.check().await;
}

/// An event's own image may be a later one, or none: a document that goes and comes again and again is what it is in the end,
/// however late its events are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_document_that_goes_and_comes_while_events_are_late_is_what_it_was_last() {
    let all: Vec<Document> = (0..6).map(|id| doc! { "_id": id, "n": 0 }).collect();
    let mut kept = Kept::with(doc! {}, &all).await;
    let mut writes = Vec::new();
    for id in 0..3 {
        writes.extend([
            Write::Update(id.into(), doc! { "$inc": { "n": 1 } }),
            Write::Delete(id.into()),
            Write::Put(doc! { "_id": id, "n": 1000, "again": true }),
            Write::Update(id.into(), doc! { "$inc": { "n": 1 } }),
        ]);
    }
    let held = Held::default();
    let late = Rule::on("getMore").of("$cmd.aggregate").times(3).held_by(&held);
    let wire = Wire::before(&kept.url(), vec![late]).await;
    let through = wire.url(&kept.url());
    let writing = kept.write(writes, Duration::from_millis(25)).await;
    let delays = async {
        for _ in 0..3 {
            held.comes().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            held.goes_on();
        }
        // One that is deleted stays so, though its last event is that of a delete.
        writing.stop(&mut kept).await
    };
    let (ended, count) = tokio::join!(rebuild(&through, &[]), delays);
    ended.exits(0);
    println!("{count} writes");
    kept.check().await;
    kept.write_once(&[Write::Delete(0.into()), Write::Update(1.into(), doc! { "$inc": { "n": 1 } })]).await;
    kept.go_on("revert").await.exits(0);
    kept.check().await;
}
