//! A table in a database of the test's own, and an application that writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::task::JoinHandle;

use crate::server::{Database, OwnServer, postgres_database};

/// A database with the table `orders`.
pub struct Table {
    database: Database,
}

impl Table {
    /// `rows` rows, with a key, an index and two constraints.
    pub async fn with_rows(rows: u64) -> Self {
        Self::within(postgres_database().await, rows).await
    }

    /// The same in this database.
    pub async fn within(database: Database, rows: u64) -> Self {
        let table = Self { database };
        table
            .execute(&format!(
                "CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL, amount numeric(12, 2), note varchar(20),
                                      CONSTRAINT positive CHECK (amount >= 0));
                 CREATE INDEX orders_note ON orders (note);
                 CREATE TABLE customers (id int PRIMARY KEY);
                 INSERT INTO customers SELECT n FROM generate_series(0, 99) AS n;
                 INSERT INTO orders SELECT n, n % 100, n, 'note ' || n FROM generate_series(1, {rows}) AS n"
            ))
            .await;
        table
    }

    /// The same table on a server that follows its own.
    pub fn at(other: &Self, server: &OwnServer) -> Self {
        let name = other.database.name.clone();
        Self { database: Database { url: server.url_of(&name), name } }
    }

    /// The target, as a person types it.
    pub fn url(&self) -> String {
        self.database.url.clone()
    }

    /// A connection of an application.
    pub async fn connect(&self) -> PgConnection {
        connect(&self.database.url).await
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        run(&mut connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The one text that a query gives; empty for NULL.
    pub async fn text(&self, sql: &str) -> String {
        let mut connection = self.connect().await;
        let rows = query(&mut connection, sql).await;
        rows[0].try_get::<Option<String>, _>(0).expect("a text").unwrap_or_default()
    }

    /// Everything that the catalogue says of tables, columns, constraints and indexes outside our own schema.
    pub async fn schema(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let sql = "SELECT n.nspname || '.' || c.relname || ' ' || c.relkind::text || ' ' || coalesce(array_to_string(c.reloptions, ','), '')
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', '_replank', 'pg_toast')
                   UNION ALL
                   SELECT a.attrelid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
                          || a.attnotnull::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
                     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                     WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
                     AND n.nspname NOT IN ('pg_catalog', 'information_schema', '_replank')
                   UNION ALL
                   SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(o.oid) || ' ' || convalidated::text
                     FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
                     WHERE contype <> 'n' AND n.nspname NOT IN ('pg_catalog', 'information_schema', '_replank')
                   UNION ALL
                   SELECT pg_get_indexdef(i.indexrelid) || ' ' || indisvalid::text FROM pg_index i
                     JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', '_replank', 'pg_toast')
                   ORDER BY 1";
        query(&mut connection, sql).await.iter().map(|row| row.get(0)).collect()
    }
}

/// A connection of an application.
pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the server takes a connection")
}

/// Runs statements on a connection.
pub async fn run(connection: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?.rows_affected())
}

/// Runs a query on a connection.
pub async fn query(connection: &mut PgConnection, sql: &str) -> Vec<PgRow> {
    let asked = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await;
    asked.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Writers of `orders`, each transaction of two writes, none of which may fail or wait for long.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(u64, Duration)>>,
}

impl Writers {
    /// Starts so many.
    pub async fn start(table: &Table, number: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..number {
            let (mut connection, stop) = (table.connect().await, Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let (mut written, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let id = 1_000_000 * (writer + 1) + written;
                    let sql = format!(
                        "BEGIN; INSERT INTO orders (id, customer, amount, note) VALUES ({id}, {0}, {0}, 'w{id}');
                         UPDATE orders SET amount = amount + 1 WHERE id = {0}; COMMIT",
                        1 + id % 90
                    );
                    let began = Instant::now();
                    run(&mut connection, &sql).await.unwrap_or_else(|error| panic!("a write failed: {error}"));
                    longest = longest.max(began.elapsed());
                    written += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                (written, longest)
            }));
        }
        Self { stop, tasks }
    }

    /// Ends them; every write was acknowledged and is there. Answers with how long the longest transaction took.
    pub async fn stop(self, table: &Table) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let (mut written, mut longest) = (0, Duration::ZERO);
        for task in self.tasks {
            let (count, wait) = task.await.expect("no write fails");
            written += count;
            longest = longest.max(wait);
        }
        let there = table.text("SELECT count(*)::text FROM orders WHERE id >= 1000000").await;
        assert_eq!(there, written.to_string());
        assert!(written > 20, "next to nothing was written");
        println!("{written} transactions, longest {} ms", longest.as_millis());
        longest
    }
}
