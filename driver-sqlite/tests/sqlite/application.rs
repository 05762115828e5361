//! A database file, and an application that uses it in its own way: foreign keys enforced, statements kept
//! prepared, its own busy timeout.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use replank_core::driver::{Session, Settings};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use tempfile::TempDir;

/// A database file that goes with the test.
pub struct Database {
    directory: TempDir,
}

impl Database {
    /// A new file in WAL mode with this schema.
    pub async fn new(schema: &str) -> Self {
        let database = Self { directory: TempDir::new().expect("a temporary directory") };
        let mut connection = database
            .options()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .connect()
            .await
            .expect("a new file");
        execute(&mut connection, schema).await;
        database
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("application.db")
    }

    /// The target's URL.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.path()).busy_timeout(Duration::from_secs(10))
    }

    /// A connection of the application.
    pub async fn connect(&self) -> SqliteConnection {
        self.options().connect().await.expect("the file is there")
    }

    /// A session of replank.
    pub async fn session(&self) -> Arc<dyn Session> {
        replank_driver_sqlite::driver()
            .connect(&self.url(), &Settings::default())
            .await
            .expect("the driver connects")
    }
}

/// Runs statements.
pub async fn execute(connection: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs statements that may fail.
pub async fn try_execute(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

/// Rows, each as text: every column's storage class and value, as `quote` writes it.
pub async fn contents(connection: &mut SqliteConnection, table: &str, columns: &[&str]) -> Vec<String> {
    let shown: Vec<String> =
        columns.iter().map(|column| format!("typeof({column}) || ' ' || quote({column})")).collect();
    let sql = format!("SELECT {} FROM \"{table}\" ORDER BY 1", shown.join(" || ' | ' || "));
    texts(connection, &sql).await
}

/// The first column of a query, as text.
pub async fn texts(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let rows: Vec<SqliteRow> = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .persistent(false)
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter()
        .map(|row| row.try_get_unchecked::<Option<String>, _>(0).expect("text").unwrap_or_default())
        .collect()
}

/// The one number that a query gives.
pub async fn number(connection: &mut SqliteConnection, sql: &str) -> i64 {
    let row = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .persistent(false)
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    row.try_get_unchecked::<i64, _>(0).expect("a number")
}
