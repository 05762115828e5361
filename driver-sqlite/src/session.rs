//! The driver, and a session on one database file.

use std::sync::Arc;

use async_trait::async_trait;
use replank_core::driver::facts::CheckState;
use replank_core::driver::{
    Check, Driver, NativeDdl, Rebuilder, Request, ServerFacts, Session, Settings, StateStore,
};
use replank_core::ident::TableId;
use replank_core::lint::Rule;
use replank_core::plan::Draft;
use replank_core::throttle::{Limits, Reading};
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use crate::connect::Database;
use crate::error::from_sqlx;
use crate::inspect::{Table, get};
use crate::load;
use crate::native::Native;
use crate::plan;
use crate::rebuild::Opener;
use crate::sql::{ident, number, query};
use crate::state::Store;

/// The SQLite driver.
#[must_use]
pub fn driver() -> Arc<dyn Driver> {
    Arc::new(Sqlite)
}

struct Sqlite;

#[async_trait]
impl Driver for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["sqlite"]
    }

    fn summary(&self) -> &'static str {
        "SQLite files in WAL mode: instant and native changes, shadow rebuilds, revert"
    }

    fn rules(&self) -> Vec<&'static dyn Rule> {
        // What SQLite's facts can judge, the draft says with its candidates.
        Vec::new()
    }

    async fn connect(&self, url: &str, settings: &Settings) -> Result<Arc<dyn Session>> {
        let database = Arc::new(Database::open(url, settings).await?);
        Ok(Arc::new(Connected {
            native: Native::new(Arc::clone(&database)),
            rebuilder: Opener::new(Arc::clone(&database)),
            store: Store::new(Arc::clone(&database)),
            database,
        }))
    }
}

struct Connected {
    database: Arc<Database>,
    native: Native,
    rebuilder: Opener,
    store: Store,
}

#[async_trait]
impl Session for Connected {
    async fn server(&self) -> Result<ServerFacts> {
        let mut tx = self.database.read().await?;
        let facts = server_facts(tx.connection()).await?;
        tx.end().await?;
        Ok(facts)
    }

    async fn checks(&self) -> Result<Vec<Check>> {
        let mut tx = self.database.read().await?;
        let mut checks = vec![version(tx.connection()).await?, journal_mode(tx.connection()).await?];
        checks.push(encoding(tx.connection()).await?);
        tx.end().await?;
        checks.push(self.writable().await);
        checks.push(self.room());
        Ok(checks)
    }

    async fn draft(&self, request: &Request) -> Result<Draft> {
        plan::draft(&self.database, request).await
    }

    async fn count(&self, table: &TableId) -> Result<u64> {
        let mut tx = self.database.read().await?;
        if Table::read(tx.connection(), &table.name).await?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no table `{table}`")));
        }
        let rows = number(tx.connection(), format!("SELECT count(*) FROM {}", ident(&table.name))).await?;
        tx.end().await?;
        Ok(rows.unsigned_abs())
    }

    async fn load(&self, _limits: &Limits) -> Result<Vec<Reading>> {
        Ok(load::readings(self.database.path()))
    }

    fn native(&self) -> Option<&dyn NativeDdl> {
        Some(&self.native)
    }

    fn rebuilder(&self) -> Option<&dyn Rebuilder> {
        Some(&self.rebuilder)
    }

    fn state(&self) -> &dyn StateStore {
        &self.store
    }
}

impl Connected {
    /// Takes the write lock and gives it back.
    async fn writable(&self) -> Check {
        let taken = match self.database.write().await {
            Ok(tx) => tx.roll_back().await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => check("writable", CheckState::Good, "the write lock is free".to_owned(), None),
            Err(error) => {
                let mend = error.hint_text().map(ToOwned::to_owned);
                check("writable", CheckState::Bad, error.to_string(), mend)
            }
        }
    }

    fn room(&self) -> Check {
        let size = std::fs::metadata(self.database.path()).map(|metadata| metadata.len()).ok();
        match (load::disk_free(self.database.path()), size) {
            (Some(free), Some(size)) => {
                let state = if free > size { CheckState::Good } else { CheckState::Warning };
                let found = format!("{} MiB free, the file has {} MiB", free >> 20, size >> 20);
                check(
                    "disk",
                    state,
                    found,
                    (free <= size).then(|| "free some room before a rebuild".to_owned()),
                )
            }
            _ => check("disk", CheckState::Warning, "the free room cannot be read".to_owned(), None),
        }
    }
}

/// What SQLite is here.
pub async fn server_facts(connection: &mut SqliteConnection) -> Result<ServerFacts> {
    let row = query("SELECT sqlite_version()").fetch_one(connection).await.map_err(from_sqlx)?;
    Ok(ServerFacts { driver: "sqlite".to_owned(), product: "SQLite".to_owned(), version: get(&row, 0)? })
}

fn check(name: &str, state: CheckState, found: String, mend: Option<String>) -> Check {
    Check { name: name.to_owned(), state, found, mend }
}

async fn version(connection: &mut SqliteConnection) -> Result<Check> {
    let version = server_facts(connection).await?.version;
    let tables = number(connection, "SELECT count(*) FROM sqlite_schema WHERE type = 'table'").await?;
    Ok(check("version", CheckState::Good, format!("SQLite {version}, {tables} tables"), None))
}

async fn journal_mode(connection: &mut SqliteConnection) -> Result<Check> {
    let row = query("PRAGMA journal_mode").fetch_one(connection).await.map_err(from_sqlx)?;
    let mode: String = get(&row, 0)?;
    Ok(if mode.eq_ignore_ascii_case("wal") {
        check("journal_mode", CheckState::Good, mode, None)
    } else {
        let found =
            format!("{mode}: readers and writers keep each other out, so no table can be rebuilt online");
        check("journal_mode", CheckState::Bad, found, Some("PRAGMA journal_mode=WAL".to_owned()))
    })
}

async fn encoding(connection: &mut SqliteConnection) -> Result<Check> {
    let row = query("PRAGMA encoding").fetch_one(connection).await.map_err(from_sqlx)?;
    let encoding: String = get(&row, 0)?;
    let state = if encoding == "UTF-8" { CheckState::Good } else { CheckState::Warning };
    Ok(check("encoding", state, encoding, None))
}
