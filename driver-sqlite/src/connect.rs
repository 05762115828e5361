//! Connections to one database file.
//!
//! SQLite has a single writer for the whole file, so there is one writing connection, and a few that only
//! read. Our own writes go with `foreign_keys = OFF`: a foreign key of the application is checked where the
//! application writes, and the table that is not live has none. A connection whose transaction did not end
//! as it should is closed, which rolls back; it never goes back into use.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use replank_core::driver::Settings;
use replank_core::{Error, ErrorKind, Result};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

use crate::error::{from_sqlx, leaves_commit_unknown};
use crate::sql::{number, query, run};

/// Feed, bounds, comparison and a spare. More readers than that only fight for the page cache. Chosen.
const READERS: usize = 4;

/// A database file and its connections.
pub struct Database {
    path: PathBuf,
    settings: Settings,
    writer: tokio::sync::Mutex<Option<SqliteConnection>>,
    readers: Mutex<Vec<SqliteConnection>>,
    permits: Semaphore,
}

impl Database {
    /// Opens the file of a URL. It must be there, and be a database.
    pub async fn open(url: &str, settings: &Settings) -> Result<Self> {
        let path = path(url)?;
        let shown = path.display().to_string();
        let missing = |error: std::io::Error| {
            Error::new(ErrorKind::NotFound, format!("no database file at `{shown}`"))
                .hint("the file is never created here; check the path")
                .caused_by(error)
        };
        let metadata = tokio::fs::metadata(&path).await.map_err(missing)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Usage, format!("`{shown}` is not a file")));
        }
        let path = tokio::fs::canonicalize(&path).await.map_err(missing)?;
        let database = Self {
            path,
            settings: settings.clone(),
            writer: tokio::sync::Mutex::new(None),
            readers: Mutex::new(Vec::new()),
            permits: Semaphore::new(READERS),
        };
        // The first read tells whether the file is a database at all.
        let mut reader = database.read().await?;
        number(reader.connection(), "SELECT count(*) FROM sqlite_schema").await?;
        reader.end().await?;
        Ok(database)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the person set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn options(&self, busy_timeout: Duration) -> SqliteConnectOptions {
        // sqlx takes no longer time than an i32 of milliseconds.
        let busy_timeout = busy_timeout.min(Duration::from_secs(24 * 3600));
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            .busy_timeout(busy_timeout)
            .foreign_keys(false)
            .disable_statement_logging()
    }

    /// Begins a writing transaction: the write lock is ours when this returns.
    pub async fn write(&self) -> Result<WriteTx<'_>> {
        let mut home = self.writer.lock().await;
        let mut connection = match home.take() {
            Some(connection) => connection,
            None => self.new_writer(self.settings.busy_timeout).await?,
        };
        run(&mut connection, "BEGIN IMMEDIATE").await?;
        Ok(WriteTx { home, connection })
    }

    /// A writing connection of its own, which waits at most `busy_timeout` for the write lock. Renaming a
    /// table on it changes no other object. Every COMMIT reaches the disk.
    pub async fn lock_connection(&self, busy_timeout: Duration) -> Result<SqliteConnection> {
        self.options(busy_timeout)
            .pragma("legacy_alter_table", "ON")
            .synchronous(SqliteSynchronous::Full)
            .connect()
            .await
            .map_err(from_sqlx)
    }

    /// A writing connection of its own for the person's own statements, on which SQLite's own ALTER TABLE
    /// keeps every reference right.
    pub async fn statement_connection(&self, busy_timeout: Duration) -> Result<SqliteConnection> {
        self.options(busy_timeout).synchronous(SqliteSynchronous::Full).connect().await.map_err(from_sqlx)
    }

    async fn new_writer(&self, busy_timeout: Duration) -> Result<SqliteConnection> {
        // NORMAL: a COMMIT does not wait for the disk, so that the write lock is short. In WAL mode a power
        // cut may then lose the newest transactions, never one from the middle: what the journal claims is
        // never newer than the data. The swap's own COMMIT waits for the disk.
        self.options(busy_timeout)
            .pragma("legacy_alter_table", "ON")
            .synchronous(SqliteSynchronous::Normal)
            .connect()
            .await
            .map_err(from_sqlx)
    }

    /// Begins a reading transaction: one snapshot from its first statement on.
    pub async fn read(&self) -> Result<ReadTx<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| {
            Error::new(ErrorKind::Internal, "the readers were closed while the session is in use")
        })?;
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.fresh_reader().await?,
        };
        run(&mut connection, "BEGIN").await?;
        Ok(ReadTx { home: &self.readers, connection, _permit: permit })
    }

    /// A new reading connection.
    pub async fn fresh_reader(&self) -> Result<SqliteConnection> {
        self.options(self.settings.busy_timeout).pragma("query_only", "ON").connect().await.map_err(from_sqlx)
    }
}

/// Takes the write lock on a connection that waits for it as long as its budget says.
///
/// # Errors
/// [`ErrorKind::LockTimeout`] when another connection kept it.
pub async fn begin_within(connection: &mut SqliteConnection, budget: Duration) -> Result<()> {
    run(connection, "BEGIN IMMEDIATE").await.map(|_| ()).map_err(|error| {
        if error.kind() != ErrorKind::Retry {
            return error;
        }
        Error::new(ErrorKind::LockTimeout, "another connection kept writing")
            .with("waited", format!("{} ms", budget.as_millis()))
            .hint("end the writing transaction that stays open, or raise --lock-budget")
            .caused_by(error)
    })
}

/// A writing transaction. Dropping it without [`WriteTx::commit`] rolls back, by closing the connection.
pub struct WriteTx<'a> {
    home: MutexGuard<'a, Option<SqliteConnection>>,
    connection: SqliteConnection,
}

impl WriteTx<'_> {
    /// To run statements on.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Commits.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`] when it may have been done.
    pub async fn commit(mut self) -> Result<()> {
        match query("COMMIT").execute(&mut self.connection).await {
            Ok(_) => {
                *self.home = Some(self.connection);
                Ok(())
            }
            Err(error) if leaves_commit_unknown(&error) => {
                Err(Error::new(ErrorKind::ConnectionLost, "it is unknown whether a COMMIT was done")
                    .caused_by(error))
            }
            Err(error) => Err(from_sqlx(error)),
        }
    }

    /// Rolls back and keeps the connection.
    pub async fn roll_back(mut self) -> Result<()> {
        run(&mut self.connection, "ROLLBACK").await?;
        *self.home = Some(self.connection);
        Ok(())
    }
}

/// A reading transaction. Dropping it without [`ReadTx::end`] closes the connection.
pub struct ReadTx<'a> {
    home: &'a Mutex<Vec<SqliteConnection>>,
    connection: SqliteConnection,
    _permit: SemaphorePermit<'a>,
}

impl ReadTx<'_> {
    /// To run queries on.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Ends it: the snapshot is given up, so that the WAL can be checkpointed.
    pub async fn end(mut self) -> Result<()> {
        run(&mut self.connection, "COMMIT").await?;
        self.home.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
        Ok(())
    }
}

/// The path of `sqlite:path`, `sqlite:///absolute` or `sqlite://relative`.
fn path(url: &str) -> Result<PathBuf> {
    let usage = |message: &str| {
        Error::new(ErrorKind::Usage, message.to_owned())
            .hint("a SQLite target is `sqlite:path`, `sqlite://path` or `sqlite:///absolute/path`")
    };
    let rest = match url.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sqlite") => rest,
        _ => return Err(usage("not a SQLite URL")),
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter {
            // `rwc` is customary in DATABASE_URL; creating is left out here all the same.
            "mode=rw" | "mode=rwc" => {}
            "mode=memory" => return Err(in_memory()),
            other => return Err(usage(&format!("the URL parameter `{other}` is not supported"))),
        }
    }
    let path = percent_decoded(path).ok_or_else(|| usage("the path's percent encoding is broken"))?;
    if path.is_empty() || path.contains(":memory:") {
        return Err(in_memory());
    }
    if path.contains('\0') {
        return Err(usage("a path holds no NUL character"));
    }
    Ok(PathBuf::from(path))
}

fn in_memory() -> Error {
    Error::new(ErrorKind::Usage, "an in-memory database cannot be a target")
        .hint("the state of a run must outlive the process: give the path of a file")
}

fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("sqlite:data.db", "data.db")]
    #[case("sqlite://data.db", "data.db")]
    #[case("sqlite:///srv/data.db", "/srv/data.db")]
    #[case("SQLITE:/srv/a%20b.db?mode=rwc", "/srv/a b.db")]
    fn urls(#[case] url: &str, #[case] expected: &str) {
        assert_eq!(path(url).expect("a path"), PathBuf::from(expected));
    }

    #[rstest]
    #[case("sqlite::memory:")]
    #[case("sqlite:")]
    #[case("sqlite:x?mode=memory")]
    #[case("sqlite:x?mode=ro")]
    #[case("sqlite:x%2")]
    #[case("postgres://x")]
    fn what_cannot_be_meant(#[case] url: &str) {
        assert_eq!(path(url).expect_err(url).kind(), ErrorKind::Usage);
    }
}
