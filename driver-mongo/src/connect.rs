//! One client of a replica set, and how commands are sent to it.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions,
    WriteConcern,
};
use mongodb::{Client, ClientSession, Database};
use replank_core::driver::Settings;
use replank_core::{Error, ErrorKind, Result};

use crate::error::{from_mongo, kind};

/// A set without a primary elects one within some ten seconds; a run waits longer than that by itself. Chosen.
const FIND_SERVER_WITHIN: Duration = Duration::from_secs(5);

/// The server of a target, and the database that it names.
pub struct Server {
    client: Client,
    database: String,
    settings: Settings,
}

impl Server {
    /// Connects, and asks the server for its name: a wrong password or address is told here.
    ///
    /// Every read and write of this client is of the majority and on the primary: what an election could undo must never be
    /// taken for done.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a URL that cannot be meant, or that names no database.
    pub async fn open(url: &str, settings: &Settings) -> Result<Self> {
        let mut options = ClientOptions::parse(url).await.map_err(|error| {
            let error = from_mongo(error);
            let hint =
                "a MongoDB target looks like mongodb://user:password@host:27017/database?replicaSet=rs0";
            if error.kind() == ErrorKind::Usage { error.hint(hint) } else { error }
        })?;
        let database = options.default_database.clone().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the target names no database").hint(
                "add it to the URL: mongodb://host:27017/database; `authSource` says where the user is kept",
            )
        })?;
        options.app_name = Some("replank".to_owned());
        options.write_concern = Some(majority());
        options.read_concern = Some(ReadConcern::majority());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.server_selection_timeout.get_or_insert(FIND_SERVER_WITHIN);
        options.retry_writes = Some(true);
        options.retry_reads = Some(true);
        let client = Client::with_options(options).map_err(from_mongo)?;
        let server = Self { client, database, settings: settings.clone() };
        server.admin(doc! { "ping": 1 }).await?;
        Ok(server)
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The database of the target.
    pub fn database(&self) -> Database {
        self.client.database(&self.database)
    }

    /// Its name.
    pub fn database_name(&self) -> &str {
        &self.database
    }

    /// Where the records are.
    pub fn records(&self) -> Database {
        self.client.database(&self.settings.state_name)
    }

    /// What the connection was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs a command on the target's database.
    pub async fn run(&self, command: Document) -> Result<Document> {
        answer(self.database().run_command(command).await)
    }

    /// Runs a command on the database `admin`.
    pub async fn admin(&self, command: Document) -> Result<Document> {
        answer(self.client.database("admin").run_command(command).await)
    }

    /// A session in which reads see what was read and written before.
    pub async fn session(&self) -> Result<ClientSession> {
        self.client.start_session().causal_consistency(true).await.map_err(from_mongo)
    }
}

/// Begins a transaction: reads of one moment, writes of the majority. The server knows of it from its first statement on. What a run
/// does in one is begun by [`Core::transaction`](crate::rebuild::Core::transaction), since it may outlive its runner.
pub async fn begin(session: &mut ClientSession) -> Result<()> {
    let options =
        TransactionOptions::builder().read_concern(ReadConcern::snapshot()).write_concern(majority()).build();
    session.start_transaction().with_options(options).await.map_err(from_mongo)
}

/// A length of time as commands take it; milliseconds.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Acknowledged by the majority, in its journals.
pub fn majority() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).build()
}

/// The same, for commands that are written out.
pub fn majority_document() -> Document {
    doc! { "w": "majority" }
}

/// A command's answer: the errors that come within a good answer are errors, too.
pub fn answer(reply: mongodb::error::Result<Document>) -> Result<Document> {
    let reply = reply.map_err(from_mongo)?;
    let within = reply
        .get_array("writeErrors")
        .ok()
        .and_then(|errors| errors.first())
        .and_then(|error| error.as_document())
        .or_else(|| reply.get_document("writeConcernError").ok());
    match within {
        None => Ok(reply),
        Some(error) => {
            let code = error.get_i32("code").unwrap_or_default();
            let message = error.get_str("errmsg").unwrap_or("a write failed");
            Err(Error::new(kind(code), format!("mongodb: {message}")).with("code", code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_within_a_good_answer_are_errors() {
        let written = doc! { "ok": 1.0, "n": 1 };
        assert_eq!(answer(Ok(written.clone())).expect("an answer"), written);
        let by_one = doc! { "ok": 1.0, "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
        assert_eq!(answer(Ok(by_one)).expect_err("not of the majority").kind(), ErrorKind::ConnectionLost);
        let refused = doc! { "ok": 1.0, "writeErrors": [{ "index": 0, "code": 121, "errmsg": "it breaks the validator" }] };
        assert_eq!(answer(Ok(refused)).expect_err("refused").kind(), ErrorKind::Unfit);
    }
}
