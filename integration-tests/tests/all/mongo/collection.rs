//! Collections as the tests make and read them. Nothing here waits for ever: a server may hold a write that another
//! transaction's write is in the way of until that one ends.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Result;
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Database};

/// Longer than anything that a test asks for takes.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a client looks for a server, which may be dead just now.
const SELECTION: Duration = Duration::from_secs(5);
const BATCH: usize = 1_000;

/// The database that an address names, as a careful application opens it: what it is told of is written by a majority,
/// and what it reads as well. A write whose answer is lost is not sent again behind its back.
///
/// # Panics
/// When the address cannot be read, or names no database.
pub async fn connect(url: &str) -> Database {
    let mut options = ClientOptions::parse(url).await.expect("an address");
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).build());
    options.read_concern = Some(ReadConcern::majority());
    options.retry_writes = Some(false);
    options.server_selection_timeout = Some(SELECTION);
    let client = Client::with_options(options).expect("a client");
    client.default_database().expect("the address names a database")
}

/// Runs a command, as in `command(&database, doc! { "collMod": "orders", "validator": {} })`, and answers what the server
/// does.
///
/// # Panics
/// When there is no answer in a minute.
pub async fn command(database: &Database, command: Document) -> Result<Document> {
    let name = command.keys().next().cloned().unwrap_or_default();
    within(&name, database.run_command(command)).await
}

/// Whether it is SecantusDB, which does not do all that MongoDB does: `server_alone` has what it does otherwise.
pub async fn is_secantus(database: &Database) -> bool {
    command(database, doc! { "buildInfo": 1 }).await.expect("answered").contains_key("secantusVersion")
}

/// All documents of a collection, in the order of their bytes: two collections that hold the same answer the same. In
/// bytes, other than in `Document`, an order of fields and a type of a number count.
///
/// # Panics
/// When they cannot be read in a minute.
pub async fn documents(database: &Database, collection: &str) -> Vec<RawDocumentBuf> {
    let all = async {
        let found = database.collection::<RawDocumentBuf>(collection).find(Document::new()).await?;
        found.try_collect::<Vec<_>>().await
    };
    let mut all = within("find", all).await.expect("the documents");
    all.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    all
}

/// Inserts documents, however many.
///
/// # Panics
/// When one of them is refused.
pub async fn insert_many(database: &Database, collection: &str, documents: &[Document]) {
    for batch in documents.chunks(BATCH) {
        let collection = database.collection::<Document>(collection);
        within("insert", async { collection.insert_many(batch).await }).await.expect("inserted");
    }
}

/// Copies the documents of a collection, as they are, into another one.
///
/// # Panics
/// When they cannot be read or inserted.
pub async fn copy(database: &Database, from: &str, to: &str) {
    let all: Vec<Document> = documents(database, from)
        .await
        .iter()
        .map(|raw| Document::try_from(raw.as_ref()).expect("a document"))
        .collect();
    insert_many(database, to, &all).await;
}

/// # Panics
/// When there is no answer in a minute.
async fn within<T>(what: &str, answer: impl IntoFuture<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(LIMIT, answer.into_future()).await {
        Ok(answer) => answer,
        Err(_elapsed) => panic!("{what} was not answered in {LIMIT:?}"),
    }
}
