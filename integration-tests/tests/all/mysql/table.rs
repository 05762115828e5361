//! The table under change, in a database of its own.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::{FromValue, Queryable as _};

use crate::binary::run_beside;
use crate::server::{Database, count_far, is_mariadb, mysql_database, options};
use crate::workload::Journal;

/// What each row is, in every shape that the tests give the table.
pub const ROW: &str = "JSON_ARRAY(CAST(customer_id AS CHAR), amount, note, code, version)";

/// MariaDB has no keys over expressions, and keys over columns that are computed when read.
fn definition() -> String {
    let note = if is_mariadb() {
        "lower_note VARCHAR(64) AS (LOWER(note)) VIRTUAL, KEY orders_note (lower_note)"
    } else {
        "KEY orders_note ((LOWER(note)))"
    };
    ORDERS.replace("KEY orders_note", note)
}

const ORDERS: &str = "CREATE TABLE orders (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    customer_id INT NOT NULL,
    amount DECIMAL(20, 4),
    note VARCHAR(64) DEFAULT 'none' COMMENT 'what the clerk said',
    code VARCHAR(32) COLLATE utf8mb4_bin UNIQUE,
    version INT NOT NULL DEFAULT 0,
    total DECIMAL(22, 4) GENERATED ALWAYS AS (amount * 2) STORED,
    hidden INT DEFAULT 7 INVISIBLE,
    KEY orders_amount (amount),
    KEY orders_note
) COMMENT 'what the company lives on'";

/// A database with `orders` and `audit`.
pub struct Table {
    database: Database,
    /// Shared keys are `1..=rows`.
    pub rows: u64,
}

impl Table {
    /// `rows` rows, in a database of the shared server.
    pub async fn with_rows(rows: u64) -> Self {
        Self::within(mysql_database().await, rows).await
    }

    /// The same in a database of somebody's own.
    pub async fn within(database: Database, rows: u64) -> Self {
        let table = Self { database, rows };
        let mut connection = table.connect().await;
        for statement in [
            &definition(),
            "CREATE TABLE audit (seq BIGINT AUTO_INCREMENT PRIMARY KEY, tx VARCHAR(40) NOT NULL, id BIGINT NOT NULL,
             `row` TEXT)",
            "CREATE TABLE committed (tx VARCHAR(40) PRIMARY KEY)",
            // Whoever writes a shared row locks it here first, in the order of the keys: the writers do not
            // deadlock with each other over rows.
            "CREATE TABLE turns (id BIGINT PRIMARY KEY)",
            count_far(),
        ] {
            connection.query_drop(statement).await.expect(statement);
        }
        let numbers =
            format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})");
        for statement in [
            format!("INSERT INTO turns {numbers} SELECT i FROM n"),
            "INSERT INTO orders (id, customer_id, amount, note, code)
             SELECT id, id % 1000, id / 4, IF(id % 3 = 0, NULL, CONCAT('row ', id)), CONCAT('c', id) FROM turns"
                .to_owned(),
            format!("INSERT INTO audit (tx, id, `row`) SELECT 'start', id, {ROW} FROM orders"),
            "ANALYZE TABLE orders".to_owned(),
        ] {
            connection.query_drop(&statement).await.expect(&statement);
        }
        table
    }

    /// The same tables where they are already.
    pub async fn seen(url: String, name: &str) -> Self {
        Self { database: Database { url, name: name.to_owned() }, rows: 0 }
    }

    /// The target, as a person types it.
    pub fn url(&self) -> String {
        self.database.url.clone()
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.database.name
    }

    /// A connection as an application opens it.
    pub async fn connect(&self) -> Conn {
        connect(&self.database.url).await
    }

    /// Compares the table, row by row, with what its audit records and the writers' journal say.
    ///
    /// # Panics
    /// At the first difference, with the row.
    pub async fn check(&self, journal: &Journal) {
        let mut connection = self.connect().await;
        let mut expected = BTreeMap::new();
        let records: Vec<(i64, Option<String>)> =
            connection.query("SELECT id, `row` FROM audit ORDER BY seq").await.expect("the audit table");
        for (id, row) in records {
            match row {
                Some(row) => expected.insert(id, row),
                None => expected.remove(&id),
            };
        }
        let committed: Vec<String> = connection.query("SELECT tx FROM committed").await.expect("committed");
        journal.hold_against(&committed.into_iter().collect::<BTreeSet<_>>());
        let rows: Vec<(i64, String)> = connection
            .query(format!("SELECT id, CAST({ROW} AS CHAR) FROM orders FORCE INDEX (PRIMARY)"))
            .await
            .expect("the table");
        let actual: BTreeMap<i64, String> = rows.into_iter().collect();
        for (id, row) in &expected {
            assert_eq!(actual.get(id), Some(row), "row {id}");
        }
        for id in actual.keys() {
            assert!(expected.contains_key(id), "row {id} was invented");
        }
        let verdict: Vec<(String, String, String, String)> =
            connection.query("CHECK TABLE orders EXTENDED").await.expect("checked");
        assert_eq!(verdict.last().map(|line| line.3.as_str()), Some("OK"), "{verdict:?}");
    }

    /// Makes the same change by the server's own ALTER of a copy of the table as it was, and compares
    /// definitions and rows. Nobody writes meanwhile.
    ///
    /// # Panics
    /// When they differ.
    pub async fn check_against_blocking(&self, before: &str, statement: &str) {
        let mut connection = self.connect().await;
        for statement in [
            "DROP TABLE IF EXISTS plain".to_owned(),
            before.replacen("`orders`", "`plain`", 1),
            "INSERT INTO plain (id, customer_id, amount, note, code, version, hidden)
             SELECT id, customer_id, amount, note, code, version, hidden FROM orders"
                .to_owned(),
            statement.replacen("orders", "plain", 1),
        ] {
            connection.query_drop(&statement).await.expect(&statement);
        }
        let plain = self.definition_of("plain").await.replacen("`plain`", "`orders`", 1);
        assert_eq!(self.definition_of("orders").await, plain, "online and blocking, the definitions differ");
        let columns = "id, customer_id, amount, note, code, version, total, hidden";
        let differing = self
            .text(&format!(
                "SELECT COUNT(*) FROM (SELECT {columns} FROM orders UNION ALL SELECT {columns} FROM plain) AS both_tables
                 GROUP BY {columns} HAVING COUNT(*) <> 2 LIMIT 1"
            ))
            .await;
        assert_eq!(differing, "", "online and blocking, rows differ");
        connection.query_drop("DROP TABLE plain").await.expect("dropped");
    }

    /// Checks a change that was applied under writers, takes it back, and checks again.
    ///
    /// # Panics
    /// At the first difference.
    pub async fn check_there_and_back(&self, journal: &Journal, before: &str, statement: &str) {
        self.check(journal).await;
        self.check_against_blocking(before, statement).await;
        run_beside(&["revert", "last", "-t", &self.url(), "--yes"], &[]).await.exits(0);
        self.check(journal).await;
        assert_eq!(self.definition().await, before);
        self.assert_no_helpers().await;
    }

    /// What SHOW CREATE TABLE says of `orders`, without the counter.
    pub async fn definition(&self) -> String {
        self.definition_of("orders").await
    }

    /// The same of another table.
    pub async fn definition_of(&self, name: &str) -> String {
        let mut connection = self.connect().await;
        let row: Option<(String, String)> =
            connection.query_first(format!("SHOW CREATE TABLE {name}")).await.expect("it is there");
        let sql = row.expect("it is there").1;
        let Some(at) = sql.find(" AUTO_INCREMENT=") else { return sql };
        let rest = &sql[at + 1..];
        let end = rest.find(' ').map_or(sql.len(), |space| at + 1 + space);
        format!("{}{}", &sql[..at], &sql[end..])
    }

    /// One value as text; empty for NULL, and for no row.
    pub async fn text(&self, query: &str) -> String {
        let mut connection = self.connect().await;
        let row: Option<mysql_async::Row> = connection.query_first(query).await.expect(query);
        row.and_then(|mut row| row.take::<mysql_async::Value, _>(0)).map(shown).unwrap_or_default()
    }

    /// Runs a statement.
    pub async fn execute(&self, statement: &str) {
        self.connect().await.query_drop(statement).await.expect(statement);
    }

    /// Runs a statement, again for as long as the server ends it for the sake of another, as any application does.
    pub async fn execute_again(&self, statement: &str) {
        let mut connection = self.connect().await;
        loop {
            match connection.query_drop(statement).await {
                Err(mysql_async::Error::Server(error)) if matches!(error.code, 1205 | 1213) => {}
                ended => return ended.expect(statement),
            }
        }
    }

    /// The names of all tables.
    pub async fn tables(&self) -> Vec<String> {
        self.connect().await.query("SHOW TABLES").await.expect("tables")
    }

    /// Fails if replank left anything but its records.
    pub async fn assert_no_helpers(&self) {
        let sql = format!(
            "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables
             WHERE (table_schema = '{0}' OR table_schema LIKE '\\_replank\\_{0}\\_%') AND table_name LIKE '%\\_rp\\_%'
             UNION SELECT schema_name FROM information_schema.schemata
             WHERE schema_name LIKE '\\_replank\\_{0}\\_scratch\\_%'",
            self.name()
        );
        let left: Vec<String> = self.connect().await.query(&sql).await.expect(&sql);
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// A connection as an application opens it.
///
/// # Panics
/// When the server does not take it.
pub async fn connect(url: &str) -> Conn {
    Conn::new(options(url)).await.expect("the server takes a connection")
}

fn shown(value: mysql_async::Value) -> String {
    match value {
        mysql_async::Value::NULL => String::new(),
        value => String::from_value(value),
    }
}
