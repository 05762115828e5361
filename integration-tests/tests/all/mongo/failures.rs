//! What other tools have lost in between: while a collection gets another name, a transaction is undone, a stream ends, a place is
//! saved, or the names are exchanged. Each is done to a rebuild here.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{ErrorKind, WriteFailure};
use mongodb::{ClientSession, Database};
use replank_core::driver::{RebuildJob, Settings};
use replank_core::value::Bounds;
use tokio::time::sleep;

use super::change::{file, path};
use super::collection::{command, connect, documents, insert_many};
use super::kept::{KEPT, Kept, Write, rebuild};
use super::wire::{Held, Rule, Wire, every};
use crate::random::{Random, seed};

const PAUSE: Duration = Duration::from_millis(60);

fn numbered(count: i32) -> Vec<Document> {
    (0..count).map(|id| doc! { "_id": id, "n": 0, "e": format!("e{id}") }).collect()
}

/// Which collection bears a name is told by more than the name: a run that waits at its gate meanwhile swaps nothing over another
/// one, and says what was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_collection_that_is_renamed_or_made_anew_meanwhile_ends_the_run_and_keeps_its_documents() {
    for is_dropped in [false, true] {
        let kept = Kept::with(doc! {}, &numbered(20)).await;
        let database = kept.connect().await;
        insert_many(&database, "other", &[doc! { "_id": "other", "n": 1 }]).await;
        kept.rebuild(&kept.url(), &["--cutover", "manual"]).await.exits(5);
        if is_dropped {
            command(&database, doc! { "drop": KEPT }).await.expect("dropped");
            insert_many(&database, KEPT, &[doc! { "_id": 1, "made": "anew" }]).await;
        } else {
            for (from, to) in [(KEPT, "away"), ("other", KEPT)] {
                let [from, to] = [from, to].map(|name| format!("{}.{name}", kept.name()));
                let rename = doc! { "renameCollection": from, "to": to };
                command(&database.client().database("admin"), rename).await.expect("renamed");
            }
        }
        let before = documents(&database, KEPT).await;
        assert_eq!(before.len(), 1);
        let ended = kept.go_on("cutover").await.exits(1);
        assert!(["dropped", "renamed"].iter().any(|word| ended.err.contains(word)), "{}", ended.err);
        kept.go_on("abort").await.exits(0);
        assert_eq!(documents(&database, KEPT).await, before, "nothing was written to it");
        let mut names = database.list_collection_names().await.expect("listed");
        names.sort();
        assert_eq!(names, if is_dropped { vec![KEPT, "other"] } else { vec!["away", KEPT] });
    }
}

/// One transfer between two accounts; `is_kept` says whether it is committed.
async fn transfer(session: &mut ClientSession, database: &Database, [from, to]: [i32; 2], is_kept: bool) {
    session.start_transaction().await.expect("begun");
    for (id, amount) in [(from, -1), (to, 1)] {
        let accounts = database.collection::<Document>(KEPT);
        let change = doc! { "$inc": { "n": amount } };
        accounts.update_one(doc! { "_id": id }, change).session(&mut *session).await.expect("moved");
    }
    if is_kept {
        session.commit_transaction().await.expect("committed");
    } else {
        session.abort_transaction().await.expect("aborted");
    }
}

/// Transfers while everything is copied and followed, some of them taken back, beside commits that are lost; the swap waits for
/// them to end, since the server that is tested lets a transaction pass its fence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_transaction_arrives_whole_or_not_at_all() {
    let seed = seed("on_mongo_a_transaction_arrives_whole_or_not_at_all");
    let kept = Kept::with(doc! {}, &numbered(20)).await;
    let script = vec![
        Rule::on("commitTransaction").after(1).done_and_cut(),
        Rule::on("getMore").of("$cmd.aggregate").with(every(4)).times(3).cut(),
        Rule::on("commitTransaction").after(2).fails(251),
    ];
    let wire = Wire::before(&kept.url(), script).await;
    let transfers = async {
        let mut random = Random::new(seed, 1);
        let database = kept.connect().await;
        let mut session = database.client().start_session().await.expect("a session");
        for _ in 0..40 {
            let [from, step] = [20, 19].map(|bound| i32::try_from(random.below(bound)).expect("small"));
            transfer(&mut session, &database, [from, (from + 1 + step) % 20], !random.one_in(3)).await;
            sleep(PAUSE).await;
        }
    };
    let through = wire.url(&kept.url());
    let (gated, ()) = tokio::join!(rebuild(&through, &["--cutover", "manual"]), transfers);
    gated.exits(5);
    let database = kept.connect().await;
    let before = documents(&database, KEPT).await;
    kept.go_on("cutover").await.exits(0);
    let all = documents(&database, KEPT).await;
    assert_eq!(all, before, "each as it was");
    let sum: i32 = all.iter().map(|account| account.get_i32("n").expect("a number")).sum();
    assert_eq!(sum, 0, "no half of a transfer");
}

/// Again and again in one run, which is made longer by fences that are not raised in time; and what is told again is not written
/// over what came later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_stream_that_breaks_again_and_again_goes_on_where_it_was() {
    let mut kept = Kept::with(doc! {}, &numbered(20)).await;
    let events = || Rule::on("getMore").of("$cmd.aggregate");
    let script = vec![
        events().with(every(2)).times(10).done_and_cut(),
        events().with(every(2)).times(10).fails(10107),
        Rule::on("collMod").of(KEPT).with(is_closing).times(5).fails(50),
    ];
    let wire = Wire::before(&kept.url(), script).await;
    let writes = (0..20).map(|id| Write::Update(id.into(), doc! { "$inc": { "n": 1 } })).collect();
    let writing = kept.write(writes, Duration::from_millis(30)).await;
    rebuild(&wire.url(&kept.url()), &[]).await.exits(0);
    let struck = wire.struck();
    writing.stop(&mut kept).await;
    kept.check().await;
    println!("broken {struck:?} times");
    assert!(struck[0] + struck[1] >= 6, "{struck:?}");
}

fn is_closing(asked: &Document) -> bool {
    asked.get_document("validator").is_ok_and(|validator| *validator == doc! { "$expr": false })
}

/// One batch's commit waits while later ones come and go: what is saved does not pass it, and never goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_the_saved_place_never_goes_back_nor_past_a_batch_that_waits() {
    let mut kept = Kept::with(doc! {}, &numbered(20)).await;
    let held = Held::default();
    let script = vec![
        Rule::on("commitTransaction").held_by(&held),
        Rule::on("update").of("runs").after(4).times(2).done_and_fails(91),
    ];
    let wire = Wire::before(&kept.url(), script).await;
    let through = wire.url(&kept.url());
    let writes = (0..20).map(|id| Write::Update(id.into(), doc! { "$inc": { "n": 1 } })).collect();
    let writing = kept.write(writes, Duration::from_millis(30)).await;
    let records = kept.connect().await.client().database(&format!("_replank_{}", kept.name()));
    let (url, sampled) = (kept.url(), connect(&kept.url()).await);
    let samples = async {
        held.comes().await;
        // Whatever is written from here on is behind what waits.
        let mark = doc! { "update": "elsewhere", "updates": [{ "q": { "_id": 1 }, "u": { "n": 1 }, "upsert": true }] };
        let answer = command(&sampled, mark).await.expect("written");
        let waits = answer.get_timestamp("operationTime").expect("a set says when it wrote");
        let mut places = Vec::new();
        for at in 0..60 {
            places.extend(saved_place(&records).await);
            if at == 40 {
                held.goes_on();
            }
            if at <= 40 {
                let passed = places.iter().find(|place| **place > (waits.time, waits.increment));
                assert_eq!(passed, None, "nothing is saved that is behind a batch in flight: {waits}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        places
    };
    let (ended, places) = tokio::join!(rebuild(&through, &[]), samples);
    ended.exits(0);
    println!("{url}: {} samples from {:?} to {:?}", places.len(), places.first(), places.last());
    assert!(places.is_sorted(), "{places:?}");
    assert!(places.first() < places.last(), "it went on at all");
    writing.stop(&mut kept).await;
    kept.check().await;
}

/// Where the run would go on from, by its record.
async fn saved_place(records: &Database) -> Option<(u32, u32)> {
    let run = records.collection::<Document>("runs").find_one(doc! {}).await.expect("read")?;
    let body: serde_json::Value = serde_json::from_str(run.get_str("body").expect("a text")).expect("JSON");
    let position = body["checkpoint"]["position"].as_str()?;
    let position: serde_json::Value = serde_json::from_str(position).expect("JSON");
    let part = |at: usize| u32::try_from(position["time"][at].as_u64().expect("a number")).expect("32 bits");
    Some((part(0), part(1)))
}

/// The rename is held back while others write: inserts and updates are refused, and a delete, which no validation refuses, is not
/// lost with the collection that it was done to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_what_is_written_between_the_last_event_and_the_rename_is_refused_or_kept() {
    let mut kept = Kept::with(doc! {}, &numbered(20)).await;
    let held = Held::default();
    let swap = Rule::on("renameCollection").with(|asked| asked.contains_key("dropTarget")).held_by(&held);
    let wire = Wire::before(&kept.url(), vec![swap]).await;
    let through = wire.url(&kept.url());
    let between = async {
        held.comes().await;
        let collection = kept.connect().await.collection::<Document>(KEPT);
        let refused = [
            collection.insert_one(doc! { "_id": "new" }).await.err(),
            collection.update_one(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } }).await.err(),
            collection.replace_one(doc! { "_id": 2 }, doc! { "n": 5 }).await.err(),
        ];
        let deleted = collection.delete_one(doc! { "_id": 3 }).await.expect("acknowledged").deleted_count;
        held.goes_on();
        (refused, deleted)
    };
    let (ended, (refused, deleted)) = tokio::join!(rebuild(&through, &[]), between);
    ended.exits(0);
    for error in refused {
        let error = error.expect("it is refused");
        let is_refused = matches!(
            error.kind.as_ref(),
            ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == 121
        );
        assert!(is_refused, "{error}");
    }
    assert_eq!(deleted, 1);
    let found = documents(&kept.connect().await, KEPT).await;
    assert!(found.iter().all(|one| one.get_i32("_id").is_ok_and(|id| id != 3)), "what was deleted stays so");
    assert_eq!(found.len(), 19, "and nothing else is gone");
    insert_many(&kept.connect().await, KEPT, &[doc! { "_id": 3, "n": 0, "e": "e3" }]).await;
    kept.write_once(&[Write::Update(1.into(), doc! { "$inc": { "n": 1 } })]).await;
    kept.check().await;
}

/// The index fails for documents that came after the plan: it is named with them, nothing is swapped, and once the application
/// has mended them all indexes are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_an_index_that_cannot_be_built_is_named_and_keeps_the_swap_away() {
    let mut kept = Kept::with(doc! {}, &numbered(20)).await;
    let database = kept.connect().await;
    let indexes = doc! {
        "createIndexes": KEPT,
        "indexes": [
            { "key": { "n": 1 }, "name": "a" },
            { "key": { "e": 1 }, "name": "by e", "unique": true },
            { "key": { "e": -1, "n": 1 }, "name": "z", "sparse": true },
        ],
    };
    command(&database, indexes).await.expect("built");
    let before = names(&database).await;
    let lower = file(r#"[{"$set": {"e": {"$toLower": "$e"}}}]"#);
    let held = Held::default();
    let wire = Wire::before(&kept.url(), vec![Rule::on("create").of("_rp_").held_by(&held)]).await;
    let through = wire.url(&kept.url());
    let pipeline = path(&lower);
    let mend = async {
        held.comes().await;
        kept.write_once(&[Write::Put(doc! { "_id": "again", "n": 0, "e": "E7" })]).await;
        held.goes_on();
        // It is tried, told, and tried again.
        sleep(Duration::from_secs(5)).await;
        let uuid = identity(&database).await;
        kept.write_once(&[Write::Put(doc! { "_id": "again", "n": 0, "e": "e77" })]).await;
        uuid
    };
    let started = identity(&database).await;
    let more = ["--pipeline", &pipeline, "--no-revert"];
    let (ended, uuid) = tokio::join!(rebuild(&through, &more), mend);
    assert_eq!(uuid, started, "nothing was swapped meanwhile");
    ended.exits(0).says("rows collide under a new unique key");
    kept.check().await;
    assert_eq!(names(&database).await, before, "every index is there");
}

async fn names(database: &Database) -> BTreeSet<String> {
    let listed = command(database, doc! { "listIndexes": KEPT }).await.expect("listed");
    let batch =
        listed.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("a batch");
    batch.iter().filter_map(|index| Some(index.as_document()?.get_str("name").ok()?.to_owned())).collect()
}

async fn identity(database: &Database) -> Bson {
    let listed =
        command(database, doc! { "listCollections": 1, "filter": { "name": KEPT } }).await.expect("listed");
    let batch =
        listed.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("a batch");
    let info = batch[0].as_document().and_then(|entry| entry.get_document("info").ok()).expect("an entry");
    info.get("uuid").expect("an identity").clone()
}

/// In 300 documents 30 differ, in a value, in a type, in the order of fields, or are on one side only: these are what is found,
/// and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_comparison_finds_what_differs_and_nothing_else() {
    let mut random = Random::new(seed("on_mongo_a_comparison_finds_what_differs_and_nothing_else"), 0);
    let kept = Kept::with(doc! {}, &numbered(300)).await;
    kept.rebuild(&kept.url(), &[]).await.exits(0);
    let state_name = format!("_replank_{}", kept.name());
    let settings = Settings { state_name, ..Settings::default() };
    let session = replank_driver_mongo::driver().connect(&kept.url(), &settings).await.expect("connected");
    let run = session.state().runs().await.expect("read").pop().expect("a run");
    let job = RebuildJob::of(&run, run.fence);
    let rebuild = session.rebuilder().expect("it rebuilds").open(&job).await.expect("opened");
    let everything = Bounds { lower: None, upper: None };
    let none = rebuild.compare(&everything).await.expect("compared");
    assert_eq!((none.rows, none.differing.len()), (300, 0));

    let database = kept.connect().await;
    let helpers = database.list_collection_names().await.expect("listed");
    let retired = helpers.iter().find(|name| name.ends_with("_retired")).expect("the other collection");
    let mut bent = BTreeSet::new();
    while bent.len() < 30 {
        let id = i32::try_from(random.below(300)).expect("small");
        if !bent.insert(id) {
            continue;
        }
        let query = doc! { "_id": id };
        let change = match bent.len() % 5 {
            0 => doc! { "delete": retired, "deletes": [{ "q": query, "limit": 1 }] },
            1 => doc! { "delete": KEPT, "deletes": [{ "q": query, "limit": 1 }] },
            kind => {
                let other = match kind {
                    2 => doc! { "_id": id, "n": 1, "e": format!("e{id}") },
                    3 => doc! { "_id": id, "n": 0_i64, "e": format!("e{id}") },
                    _ => doc! { "_id": id, "e": format!("e{id}"), "n": 0 },
                };
                doc! { "update": retired, "updates": [{ "q": query, "u": other }] }
            }
        };
        command(&database, change).await.expect("bent");
    }
    let found = rebuild.compare(&everything).await.expect("compared").differing;
    let keys: BTreeSet<i32> = found
        .iter()
        .map(|change| {
            let key: serde_json::Value = serde_json::from_str(&change.key.0).expect("JSON");
            key["$numberInt"].as_str().and_then(|number| number.parse().ok()).expect("a number")
        })
        .collect();
    assert_eq!((keys, found.len()), (bent, 30));
}
