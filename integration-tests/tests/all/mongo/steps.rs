//! Single steps of a rebuild that no run of the binary comes to by itself in a test's time.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Bson, doc};
use replank_core::driver::{
    Effort, IndexBuild, LeaseHolder, Rebuild, RebuildJob, Request, Session, Settings,
};
use replank_core::ident::{RunId, TableId};
use replank_core::run::Direction;
use replank_core::value::{Bounds, Change, Key, Lane};

use super::collection::{command, connect, documents, insert_many};
use crate::server::{Database, mongo_database};

const COLLECTION: &str = "parts";

/// A rebuild by hand, without a way back.
struct Steps {
    database: Database,
    rebuild: Arc<dyn Rebuild>,
}

impl Steps {
    /// Of a collection that is there, as it is or through a pipeline; prepared, and nothing copied.
    async fn prepared(database: Database, pipeline: Option<&str>) -> Self {
        let settings = Settings { state_name: format!("_replank_{}", database.name), ..Settings::default() };
        let driver = replank_driver_mongo::driver();
        let session: Arc<dyn Session> = driver.connect(&database.url, &settings).await.expect("connected");
        let request = Request::Rebuild {
            table: COLLECTION.to_owned(),
            shape: None,
            pipeline: pipeline.map(ToOwned::to_owned),
            reverse_pipeline: None,
            capture: None,
        };
        let draft = session.draft(&request).await.expect("a plan");
        let run = RunId::random();
        let table = TableId { schema: Some(database.name.clone()), name: COLLECTION.to_owned() };
        session.state().ensure().await.expect("records");
        let holder =
            LeaseHolder { host: "here".into(), boot: "now".into(), pid: 7, started: 7, run: run.clone() };
        let lasts = Duration::from_mins(10);
        let taken = session.state().take_lease(&table, None, &holder, lasts).await;
        let job = RebuildJob {
            run,
            table,
            direction: Direction::Forward,
            fence: taken.expect("asked").expect("the lease"),
            revertible: false,
            fence_budget: std::time::Duration::from_secs(3),
            spec: draft.candidates[0].spec.clone(),
        };
        let rebuilder = session.rebuilder().expect("this driver rebuilds");
        let rebuild = rebuilder.open(&job).await.expect("opened");
        rebuild.prepare().await.expect("prepared");
        Self { database, rebuild }
    }

    /// The collection that is written.
    async fn shadow(&self) -> String {
        let names = connect(&self.database.url).await.list_collection_names().await.expect("listed");
        names.into_iter().find(|name| name.ends_with("shadow")).expect("a shadow")
    }
}

fn key(id: i32) -> Key {
    Key(Bson::Int32(id).into_canonical_extjson().to_string())
}

/// What one transaction takes is bounded by the server's cache: 72 MiB here. More than that is written in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_batch_of_large_documents_is_written_in_parts() {
    const DOCUMENTS: i32 = 12;
    let database = mongo_database().await;
    let text = "x".repeat(8 << 20);
    for id in 0..DOCUMENTS {
        let one = doc! { "_id": id, "text": &text };
        insert_many(&connect(&database.url).await, COLLECTION, &[one]).await;
    }
    let steps = Steps::prepared(database, None).await;
    // One of them is not there, and so small that nobody would split for it.
    let change = |id| Change { key: key(id), lane: Lane(0), removed: false };
    let changes: Vec<Change> = (0..=DOCUMENTS).map(change).collect();
    let applied = steps.rebuild.apply(&changes).await.expect("applied");
    assert!(applied.displaced.is_empty());
    let there = connect(&steps.database.url).await;
    assert!(documents(&there, COLLECTION).await == documents(&there, &steps.shadow().await).await);
    steps.rebuild.discard().await.expect("discarded");
    there.drop().await.expect("dropped");
}

/// An index over an array has each of its items, and two documents collide by one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_documents_that_collide_by_an_item_of_an_array_are_named() {
    let database = mongo_database().await;
    let there = connect(&database.url).await;
    let all = [
        doc! { "_id": 1, "codes": ["A", "x"] },
        doc! { "_id": 2, "codes": ["y", "y"] },
        doc! { "_id": 3, "codes": ["z", "a"] },
        doc! { "_id": 4, "codes": "b" },
        doc! { "_id": 5, "codes": ["B"] },
        doc! { "_id": 6, "codes": [] },
        doc! { "_id": 7 },
    ];
    insert_many(&there, COLLECTION, &all).await;
    let index = doc! { "key": { "codes": 1 }, "name": "codes", "unique": true };
    command(&there, doc! { "createIndexes": COLLECTION, "indexes": [index] }).await.expect("built");
    let lower = r#"[{"$set": {"codes": {"$cond": [{"$isArray": "$codes"},
        {"$map": {"input": "$codes", "in": {"$toLower": "$$this"}}}, "$codes"]}}}]"#;
    let steps = Steps::prepared(database, Some(lower)).await;
    steps.rebuild.copy(&Bounds::all()).await.expect("copied");
    let built = steps.rebuild.build_index("codes", Effort::Usual).await.expect("answered");
    let IndexBuild::Duplicates(changes) = built else { panic!("1 and 3 collide, and 4 and 5") };
    let mut keys: Vec<Key> = changes.into_iter().map(|change| change.key).collect();
    keys.sort();
    assert_eq!(keys, [key(1), key(3), key(4), key(5)]);
    let told = steps.rebuild.collisions(&[key(3), key(2)]).await.expect("looked");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("codes ") && told[0].contains("2 documents"), "{told:?}");
    assert!(steps.rebuild.collisions(&[key(2), key(6)]).await.expect("looked").is_empty());
    steps.rebuild.discard().await.expect("discarded");
}
