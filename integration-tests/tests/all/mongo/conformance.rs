//! The contract's sentences, held against the driver on a real server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{ErrorKind, WriteFailure};
use replank_core::driver::{Request, Session, Settings};
use replank_core::ident::TableId;
use replank_core::testkit::conformance::{Fixture, Hold, Write, cases};

use super::collection::{connect, documents};
use crate::server::{Database, mongo_database};

/// What the server itself lacks: it lists no transaction, and its `collMod` waits for none. Each of these must be
/// broken there, and hold on every other server.
const WAITS_FOR_NOBODY: [&str; 2] = [
    "cut_over::lock_times_out_within_its_budget_and_changes_nothing",
    "cut_over::holders_names_an_old_transaction",
];

/// A collection in a database of its own.
struct Mongo {
    database: Database,
}

impl Mongo {
    async fn new() -> Self {
        let database = mongo_database().await;
        connect(&database.url).await.create_collection("t").await.expect("made");
        Self { database }
    }

    async fn try_write(
        &self,
        table: &TableId,
        writes: &[Write],
        session: &mut ClientSession,
    ) -> mongodb::error::Result<()> {
        let collection = connect_with(session, &self.database.name).collection::<Document>(&table.name);
        session.start_transaction().await?;
        for write in writes {
            match write {
                Write::Insert(key, value) => {
                    let document = doc! { "_id": *key, "v": *value };
                    collection.insert_one(document).session(&mut *session).await?;
                }
                Write::Update(key, value) => {
                    let update = doc! { "$set": { "v": *value } };
                    collection.update_one(doc! { "_id": *key }, update).session(&mut *session).await?;
                }
                Write::Delete(key) => {
                    collection.delete_one(doc! { "_id": *key }).session(&mut *session).await?;
                }
                Write::Rekey(key, new) => {
                    let was =
                        collection.find_one_and_delete(doc! { "_id": *key }).session(&mut *session).await?;
                    let mut document = was.expect("it is there");
                    document.insert("_id", *new);
                    collection.insert_one(document).session(&mut *session).await?;
                }
            }
        }
        session.commit_transaction().await
    }
}

fn connect_with(session: &ClientSession, name: &str) -> mongodb::Database {
    session.client().database(name)
}

/// The fence, or a collection that changes its name at this moment: a careful application tries again.
fn is_refused_for_now(error: &mongodb::error::Error) -> bool {
    let code = match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    };
    code == Some(121) || error.contains_label("TransientTransactionError")
}

#[async_trait]
impl Fixture for Mongo {
    async fn session(&self) -> Arc<dyn Session> {
        let driver = replank_driver_mongo::driver();
        // Records are the whole server's, and some cases say what all of them are.
        let settings =
            Settings { state_name: format!("_replank_{}", self.database.name), ..Settings::default() };
        driver.connect(&self.database.url, &settings).await.expect("the driver connects")
    }

    fn table(&self) -> TableId {
        TableId { schema: Some(self.database.name.clone()), name: "t".to_owned() }
    }

    fn change(&self) -> Request {
        Request::Rebuild {
            table: "t".to_owned(),
            shape: None,
            // A word of the other shape's becomes a number, and a number stays one.
            pipeline: Some(r#"[{"$set": {"v": {"$toInt": "$v"}}}]"#.to_owned()),
            reverse_pipeline: Some(r#"[{"$set": {"v": {"$toString": "$v"}}}]"#.to_owned()),
            capture: None,
        }
    }

    async fn write(&self, table: &TableId, writes: &[Write]) {
        let database = connect(&self.database.url).await;
        loop {
            let mut session = database.client().start_session().await.expect("a session");
            match self.try_write(table, writes, &mut session).await {
                Ok(()) => return,
                Err(error) if is_refused_for_now(&error) => {
                    session.abort_transaction().await.ok();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{writes:?}: {error}"),
            }
        }
    }

    async fn rows(&self, table: &TableId) -> Vec<(String, String)> {
        let database = connect(&self.database.url).await;
        let mut rows: Vec<(String, String)> = documents(&database, &table.name)
            .await
            .iter()
            .map(|document| {
                let document = Document::try_from(document.clone()).expect("a document");
                let text = |field: &str| match document.get(field) {
                    Some(Bson::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                (text("_id"), text("v"))
            })
            .collect();
        rows.sort();
        rows
    }

    async fn hold(&self) -> Box<dyn Hold> {
        let database = connect(&self.database.url).await;
        let mut session = database.client().start_session().await.expect("a session");
        session.start_transaction().await.expect("begun");
        let collection = database.collection::<Document>("t");
        let update = doc! { "$set": { "v": "1" } };
        collection.update_one(doc! { "_id": "a" }, update).session(&mut session).await.expect("written");
        Box::new(Holding { session })
    }
}

struct Holding {
    session: ClientSession,
}

#[async_trait]
impl Hold for Holding {
    async fn release(mut self: Box<Self>) {
        self.session.abort_transaction().await.expect("aborted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_every_sentence_of_the_contract_holds() {
    let cases = cases();
    assert!(!cases.is_empty());
    let mut broken = Vec::new();
    for case in cases {
        let outcome = tokio::spawn(async move {
            tokio::time::timeout(Duration::from_secs(60), (case.run)(&Mongo::new().await))
                .await
                .expect("in time");
        })
        .await;
        if let Err(error) = outcome {
            let says = error.try_into_panic().map_or_else(
                |error| error.to_string(),
                |panic| panic.downcast_ref::<String>().cloned().unwrap_or_default(),
            );
            broken.push((case.name, says));
        }
    }
    let product = Mongo::new().await.session().await.server().await.expect("the server answers").product;
    let lacks: &[&str] = if product.starts_with("SecantusDB") { &WAITS_FOR_NOBODY } else { &[] };
    let names: Vec<&str> = broken.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, lacks, "broken: {broken:#?}");
}
