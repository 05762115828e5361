//! The contract's sentences, held against this driver.

use std::sync::Arc;

use async_trait::async_trait;
use replank_core::driver::{Request, Session};
use replank_core::ident::TableId;
use replank_core::testkit::conformance::{Fixture, Hold, Write, cases};
use sqlx::sqlite::SqliteConnection;

use super::application::{Database, execute, texts};

struct Sqlite {
    database: Database,
}

impl Sqlite {
    async fn new() -> Self {
        Self {
            database: Database::new("CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, v TEXT NOT NULL)").await,
        }
    }
}

#[async_trait]
impl Fixture for Sqlite {
    async fn session(&self) -> Arc<dyn Session> {
        self.database.session().await
    }

    fn table(&self) -> TableId {
        TableId::new("t")
    }

    fn change(&self) -> Request {
        Request::Statement {
            text: "ALTER TABLE t ALTER COLUMN v TYPE INTEGER".to_owned(),
            forward: Vec::new(),
            reverse: Vec::new(),
            capture: None,
        }
    }

    async fn write(&self, table: &TableId, writes: &[Write]) {
        let name = &table.name;
        let mut connection = self.database.connect().await;
        let mut sql = "BEGIN IMMEDIATE;".to_owned();
        for write in writes {
            sql += &match write {
                Write::Insert(key, value) => format!("INSERT INTO {name} VALUES ('{key}', '{value}');"),
                Write::Update(key, value) => format!("UPDATE {name} SET v = '{value}' WHERE k = '{key}';"),
                Write::Delete(key) => format!("DELETE FROM {name} WHERE k = '{key}';"),
                Write::Rekey(key, new) => format!("UPDATE {name} SET k = '{new}' WHERE k = '{key}';"),
            };
        }
        execute(&mut connection, &format!("{sql} COMMIT;")).await;
    }

    async fn rows(&self, table: &TableId) -> Vec<(String, String)> {
        let mut connection = self.database.connect().await;
        let sql = format!("SELECT k || '=' || v FROM {} ORDER BY k", table.name);
        let rows = texts(&mut connection, &sql).await;
        rows.iter()
            .map(|row| row.split_once('=').expect("a key and a value"))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    async fn hold(&self) -> Box<dyn Hold> {
        let mut connection = self.database.connect().await;
        execute(&mut connection, "BEGIN IMMEDIATE; UPDATE t SET v = v;").await;
        Box::new(Holding { connection })
    }
}

struct Holding {
    connection: SqliteConnection,
}

#[async_trait]
impl Hold for Holding {
    async fn release(mut self: Box<Self>) {
        execute(&mut self.connection, "ROLLBACK").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sentence_of_the_contract_holds() {
    let mut broken = Vec::new();
    let cases = cases();
    assert!(!cases.is_empty());
    for case in cases {
        let outcome = tokio::spawn(async move { (case.run)(&Sqlite::new().await).await }).await;
        if let Err(error) = outcome {
            broken.push(format!("{}: {error}", case.name));
        }
    }
    assert!(broken.is_empty(), "broken: {broken:#?}");
}
