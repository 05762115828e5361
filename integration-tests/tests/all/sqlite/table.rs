//! The table under change, in a file of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{Connection as _, Row as _};

use crate::workload::Journal;

/// What each row is, in every shape that the tests give the table.
const ROW: &str = "json_array(CAST(customer_id AS TEXT), amount, note, code, version)";

/// A database file with `orders` and `audit`.
pub struct Table {
    folder: tempfile::TempDir,
    /// Shared keys are `1..=rows`.
    pub rows: u64,
}

impl Table {
    /// `rows` rows.
    pub async fn with_rows(rows: u64) -> Self {
        let table = Self { folder: tempfile::tempdir().expect("a temporary folder"), rows };
        let mut connection = table.connect().await;
        for statement in [
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id TEXT NOT NULL, amount REAL,
             note TEXT DEFAULT 'none', code TEXT UNIQUE, version INTEGER NOT NULL DEFAULT 0)",
            "CREATE INDEX orders_amount ON orders (amount)",
            "CREATE TABLE audit (seq INTEGER PRIMARY KEY AUTOINCREMENT, tx TEXT NOT NULL, id INTEGER NOT NULL,
             row TEXT)",
            "CREATE TABLE committed (tx TEXT PRIMARY KEY)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.expect(statement);
        }
        sqlx::query(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
             INSERT INTO orders (id, customer_id, amount, note, code)
             SELECT i, CAST(i % 1000 AS TEXT), i / 4.0, CASE WHEN i % 3 = 0 THEN NULL ELSE 'row ' || i END,
                    'c' || i FROM n",
        )
        .bind(i64::try_from(rows).expect("a small table"))
        .execute(&mut connection)
        .await
        .expect("rows");
        let audit = format!("INSERT INTO audit (tx, id, row) SELECT 'start', id, {ROW} FROM orders");
        sqlx::query(sqlx::AssertSqlSafe(audit)).execute(&mut connection).await.expect("audit");
        connection.close().await.expect("close");
        table
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// The target, as a person types it.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    /// A connection as an application opens it.
    pub async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(10));
        SqliteConnection::connect_with(&options).await.expect("connect")
    }

    /// Compares the table, row by row, with what its audit records and the writers' journal say.
    ///
    /// # Panics
    /// At the first difference, with the row.
    pub async fn check(&self, journal: &Journal) {
        let mut connection = self.connect().await;
        let mut expected = BTreeMap::new();
        let mut committed = BTreeSet::new();
        let records = sqlx::query("SELECT id, row FROM audit ORDER BY seq")
            .fetch_all(&mut connection)
            .await
            .expect("the audit table");
        for record in records {
            let id: i64 = record.get(0);
            match record.get::<Option<String>, _>(1) {
                Some(row) => expected.insert(id, row),
                None => expected.remove(&id),
            };
        }
        let transactions = sqlx::query("SELECT tx FROM committed").fetch_all(&mut connection).await;
        committed.extend(transactions.expect("committed").iter().map(|row| row.get::<String, _>(0)));
        journal.hold_against(&committed);
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT id, {ROW} FROM orders")))
            .fetch_all(&mut connection)
            .await
            .expect("the table");
        let actual: BTreeMap<i64, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (id, row) in &expected {
            assert_eq!(actual.get(id), Some(row), "row {id}");
        }
        for id in actual.keys() {
            assert!(expected.contains_key(id), "row {id} was invented");
        }
        let broken: String =
            sqlx::query("PRAGMA integrity_check").fetch_one(&mut connection).await.expect("check").get(0);
        assert_eq!(broken, "ok");
    }

    /// One value.
    pub async fn text(&self, query: &'static str) -> String {
        let mut connection = self.connect().await;
        let row = sqlx::query(query).fetch_one(&mut connection).await.expect(query);
        // Any type as text, as SQLite itself converts it.
        row.get_unchecked::<Option<String>, _>(0).unwrap_or_default()
    }

    /// Runs a statement.
    pub async fn execute(&self, statement: &'static str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(statement).execute(&mut connection).await.expect(statement);
    }

    /// The definition of the table and its indexes, and the names of everything else.
    pub async fn schema(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        sqlx::query(
            "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema
             WHERE name NOT LIKE '\\_replank%' ESCAPE '\\' AND tbl_name NOT LIKE '\\_replank%' ESCAPE '\\'
             ORDER BY type, name",
        )
        .fetch_all(&mut connection)
        .await
        .expect("schema")
        .iter()
        .map(|row| row.get(0))
        .collect()
    }

    /// Fails if replank left anything but its records.
    pub async fn assert_no_helpers(&self) {
        let left: Vec<String> =
            self.schema().await.into_iter().filter(|line| line.contains("_rp_")).collect();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}
