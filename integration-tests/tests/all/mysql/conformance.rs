//! The contract's sentences, held against the driver on a real server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use replank_core::driver::{Request, Session, Settings};
use replank_core::ident::TableId;
use replank_core::testkit::conformance::{Fixture, Hold, Rig, Write, cases};

use super::table::connect;
use crate::server::{Database, OwnServer, count_far, is_mariadb, mysql_database, mysql_own_server};

struct MySql {
    database: Database,
}

impl MySql {
    async fn new(server: &OwnServer) -> Self {
        let database = server.database().await;
        let mut connection = connect(&database.url).await;
        let table = "CREATE TABLE t (k VARCHAR(20) NOT NULL PRIMARY KEY, v VARCHAR(20) NOT NULL)";
        connection.query_drop(table).await.expect(table);
        Self { database }
    }

    fn name(&self, table: &TableId) -> String {
        // Helpers' names have something in front on MariaDB.
        let is_renamed = is_mariadb() && table.name.starts_with("_rp_");
        format!("`{}`.`{}{}`", self.database.name, if is_renamed { "~" } else { "" }, table.name)
    }
}

#[async_trait]
impl Fixture for MySql {
    async fn session(&self) -> Arc<dyn Session> {
        let state_name = format!("_replank_{}", self.database.name);
        let settings = Settings { state_name, ..Settings::default() };
        replank_driver_mysql::driver().connect(&self.database.url, &settings).await.expect("a session")
    }

    fn table(&self) -> TableId {
        TableId { schema: Some(self.database.name.clone()), name: "t".to_owned() }
    }

    fn change(&self) -> Request {
        Request::Statement {
            text: "ALTER TABLE t MODIFY v INT NOT NULL".to_owned(),
            forward: Vec::new(),
            reverse: Vec::new(),
            capture: None,
        }
    }

    async fn write(&self, table: &TableId, writes: &[Write]) {
        let name = self.name(table);
        let mut connection = connect(&self.database.url).await;
        let mut statements = vec!["START TRANSACTION".to_owned()];
        statements.extend(writes.iter().map(|write| match write {
            Write::Insert(key, value) => format!("INSERT INTO {name} VALUES ('{key}', '{value}')"),
            Write::Update(key, value) => format!("UPDATE {name} SET v = '{value}' WHERE k = '{key}'"),
            Write::Delete(key) => format!("DELETE FROM {name} WHERE k = '{key}'"),
            Write::Rekey(key, new) => format!("UPDATE {name} SET k = '{new}' WHERE k = '{key}'"),
        }));
        statements.push("COMMIT".to_owned());
        for statement in statements {
            connection.query_drop(&statement).await.expect(&statement);
        }
    }

    async fn rows(&self, table: &TableId) -> Vec<(String, String)> {
        let mut connection = connect(&self.database.url).await;
        let sql = format!("SELECT k, CAST(v AS CHAR) FROM {} ORDER BY k", self.name(table));
        connection.query(&sql).await.expect(&sql)
    }

    async fn hold(&self) -> Box<dyn Hold> {
        let mut connection = connect(&self.database.url).await;
        for statement in ["START TRANSACTION", "UPDATE t SET v = v"] {
            connection.query_drop(statement).await.expect(statement);
        }
        Box::new(Holding { connection })
    }

    async fn commit_elsewhere(&self) {
        let mut connection = connect(&self.database.url).await;
        let statement = "CREATE TABLE elsewhere (k INT)";
        connection.query_drop(statement).await.expect(statement);
    }
}

struct Holding {
    connection: Conn,
}

#[async_trait]
impl Hold for Holding {
    async fn release(mut self: Box<Self>) {
        self.connection.query_drop("ROLLBACK").await.expect("rolled back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_every_sentence_of_the_contract_holds() {
    // A position is of the whole server, and some cases say that nothing happens meanwhile.
    let server = Arc::new(mysql_own_server(&[]).await);
    let mut broken = Vec::new();
    let cases = cases();
    assert!(!cases.is_empty());
    for case in cases {
        let server = Arc::clone(&server);
        let outcome = tokio::spawn(async move { (case.run)(&MySql::new(&server).await).await }).await;
        if let Err(error) = outcome {
            broken.push(format!("{}: {error}", case.name));
        }
    }
    assert!(broken.is_empty(), "broken: {broken:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_drain_that_is_cut_short_gives_the_lock_back_at_once() {
    let fixture = MySql { database: mysql_database().await };
    let mut connection = connect(&fixture.database.url).await;
    for statement in [
        "CREATE TABLE t (k VARCHAR(20) NOT NULL PRIMARY KEY, v VARCHAR(20) NOT NULL)",
        count_far(),
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90000)
         SELECT i, i FROM n",
    ] {
        connection.query_drop(statement).await.expect(statement);
    }
    let rig = Rig::prepared(&fixture, &[]).await;
    let from = rig.head().await;
    connection.query_drop("UPDATE t SET v = v + 1").await.expect("written");
    let changes = rig.drain(rig.feed(&from).await.as_mut()).await.0;
    assert_eq!(changes.len(), 90_000);
    let mut guard = rig.lock().await;
    let cut = tokio::time::timeout(Duration::from_millis(100), guard.apply(&changes)).await;
    assert!(cut.is_err(), "so many changes take longer");
    let began = Instant::now();
    let write = connection.query_drop("UPDATE t SET v = 7 WHERE k = '7'");
    let (released, written) = tokio::join!(guard.release(), write);
    released.expect("the lock is given back");
    written.expect("the writer goes on");
    println!("after {:?}", began.elapsed());
    // The whole of it takes several seconds.
    assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
}
