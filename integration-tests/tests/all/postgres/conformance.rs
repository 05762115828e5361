//! The contract's sentences, held against the driver on a real server.

use std::sync::Arc;

use async_trait::async_trait;
use replank_core::driver::{Request, Session, Settings};
use replank_core::ident::TableId;
use replank_core::testkit::conformance::{Fixture, Hold, Write, cases};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::table::{connect, query, run};
use crate::server::{Database, postgres_database_on, postgres_own_server};

/// A table in a database of its own.
pub struct Postgres {
    pub database: Database,
    capture: &'static str,
}

impl Postgres {
    /// On a server; changes are captured in this way.
    pub async fn new(server: &str, capture: &'static str) -> Self {
        let database = postgres_database_on(server).await;
        let mut connection = connect(&database.url).await;
        let table = "CREATE TABLE t (k varchar(20) NOT NULL PRIMARY KEY, v varchar(20) NOT NULL)";
        run(&mut connection, table).await.expect(table);
        Self { database, capture }
    }
}

fn name(table: &TableId) -> String {
    format!("{}.\"{}\"", table.schema.as_deref().unwrap_or("public"), table.name)
}

#[async_trait]
impl Fixture for Postgres {
    async fn session(&self) -> Arc<dyn Session> {
        let driver = replank_driver_postgres::driver();
        driver.connect(&self.database.url, &Settings::default()).await.expect("the driver connects")
    }

    fn table(&self) -> TableId {
        TableId { schema: Some("public".to_owned()), name: "t".to_owned() }
    }

    fn change(&self) -> Request {
        Request::Statement {
            text: "ALTER TABLE t ALTER COLUMN v TYPE int USING v::int".to_owned(),
            forward: Vec::new(),
            reverse: Vec::new(),
            capture: Some(self.capture.to_owned()),
        }
    }

    async fn write(&self, table: &TableId, writes: &[Write]) {
        let name = name(table);
        let mut connection = connect(&self.database.url).await;
        let mut statements = vec!["BEGIN".to_owned()];
        statements.extend(writes.iter().map(|write| match write {
            // A literal of no type yet is one of either shape's.
            Write::Insert(key, value) => format!("INSERT INTO {name} VALUES ('{key}', '{value}')"),
            Write::Update(key, value) => format!("UPDATE {name} SET v = '{value}' WHERE k = '{key}'"),
            Write::Delete(key) => format!("DELETE FROM {name} WHERE k = '{key}'"),
            Write::Rekey(key, new) => format!("UPDATE {name} SET k = '{new}' WHERE k = '{key}'"),
        }));
        statements.push("COMMIT".to_owned());
        for statement in statements {
            run(&mut connection, &statement).await.expect(&statement);
        }
    }

    async fn rows(&self, table: &TableId) -> Vec<(String, String)> {
        let mut connection = connect(&self.database.url).await;
        let sql = format!("SELECT k::text, v::text FROM {} ORDER BY k COLLATE \"C\"", name(table));
        query(&mut connection, &sql).await.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn hold(&self) -> Box<dyn Hold> {
        let mut connection = connect(&self.database.url).await;
        for statement in ["BEGIN", "UPDATE t SET v = v"] {
            run(&mut connection, statement).await.expect(statement);
        }
        Box::new(Holding { connection })
    }

    async fn commit_elsewhere(&self) {
        let mut connection = connect(&self.database.url).await;
        let statement = "CREATE TABLE elsewhere (k int)";
        run(&mut connection, statement).await.expect(statement);
    }
}

struct Holding {
    connection: PgConnection,
}

#[async_trait]
impl Hold for Holding {
    async fn release(mut self: Box<Self>) {
        run(&mut self.connection, "ROLLBACK").await.expect("rolled back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_every_sentence_of_the_contract_holds() {
    hold_every_sentence("trigger").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_every_sentence_of_the_contract_holds_with_a_slot() {
    hold_every_sentence("slot").await;
}

async fn hold_every_sentence(capture: &'static str) {
    // A position is of the whole server, and some cases say that nothing happens meanwhile.
    let own =
        postgres_own_server(&["-c", "max_slot_wal_keep_size=1GB", "-c", "max_replication_slots=50"]).await;
    let server = own.url_of("").trim_end_matches('/').to_owned();
    let mut broken = Vec::new();
    let cases = cases();
    assert!(!cases.is_empty());
    for case in cases {
        let server = server.clone();
        let outcome =
            tokio::spawn(async move { (case.run)(&Postgres::new(&server, capture).await).await }).await;
        if let Err(error) = outcome {
            broken.push(format!("{}: {error}", case.name));
        }
    }
    assert!(broken.is_empty(), "broken: {broken:#?}");
}
