//! What a run owns: looked up before every DROP, and written in the transaction that makes, renames or
//! removes the object.

use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use super::{Names, broken};
use crate::error::from_sqlx;
use crate::inspect::get;
use crate::sql::query;

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectRole {
    /// The table of the new shape, while it is not live.
    Shadow,
    /// The table of the old shape, while it is not live.
    Retired,
    /// The log of the forward feed.
    Log,
    /// The log of the reverse feed.
    LogBack,
    /// A trigger that fills the log of the forward feed.
    Capture,
    /// A trigger that fills the log of the reverse feed.
    CaptureBack,
    /// An index of the table that is not live; `extra` is its name when it is.
    Index,
    /// An index of ours that finds rows by the source's key.
    KeyIndex,
    /// Old rows of the retired table that wait for a later batch.
    Parked,
    /// Not ours: the name that applications use. `extra` says who owns it. Kept for good.
    Live,
}

impl ObjectRole {
    const ALL: [Self; 10] = [
        Self::Shadow,
        Self::Retired,
        Self::Log,
        Self::LogBack,
        Self::Capture,
        Self::CaptureBack,
        Self::Index,
        Self::KeyIndex,
        Self::Parked,
        Self::Live,
    ];

    /// The word in the store.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Retired => "retired",
            Self::Log => "log",
            Self::LogBack => "log_back",
            Self::Capture => "capture",
            Self::CaptureBack => "capture_back",
            Self::Index => "index",
            Self::KeyIndex => "key_index",
            Self::Parked => "parked",
            Self::Live => "live",
        }
    }
}

/// A registered object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is for.
    pub role: ObjectRole,
    /// Its present name.
    pub name: String,
    /// What else is known about it.
    pub extra: serde_json::Value,
}

/// The objects of one run.
#[derive(Debug, Clone)]
pub struct Objects {
    table: String,
    run: RunId,
}

impl Objects {
    /// Those of a run.
    pub fn new(names: &Names, run: &RunId) -> Self {
        Self { table: names.table("objects"), run: run.clone() }
    }

    /// All of them, in the order in which they were registered.
    pub async fn all(&self, connection: &mut SqliteConnection) -> Result<Vec<Object>> {
        let sql = format!("SELECT role, name, extra FROM {} WHERE run = ? ORDER BY rowid", self.table);
        let rows =
            query(sql).bind(self.run.as_str().to_owned()).fetch_all(connection).await.map_err(from_sqlx)?;
        rows.iter()
            .map(|row| {
                let word: String = get(row, 0)?;
                let role = ObjectRole::ALL.into_iter().find(|role| role.word() == word);
                let role = role.ok_or_else(|| {
                    Error::new(ErrorKind::Server, format!("the role `{word}` of an object is not known"))
                        .hint("was it written by a newer replank?")
                })?;
                let extra: String = get(row, 2)?;
                let extra = serde_json::from_str(&extra).map_err(|error| broken("an object", error))?;
                Ok(Object { role, name: get(row, 1)?, extra })
            })
            .collect()
    }

    /// Those of a role.
    pub async fn of(&self, connection: &mut SqliteConnection, role: ObjectRole) -> Result<Vec<Object>> {
        let mut all = self.all(connection).await?;
        all.retain(|object| object.role == role);
        Ok(all)
    }

    /// The only one of a role.
    pub async fn one(&self, connection: &mut SqliteConnection, role: ObjectRole) -> Result<Option<Object>> {
        Ok(self.of(connection, role).await?.into_iter().next())
    }

    /// Registers an object, or changes what is known about it.
    pub async fn put(
        &self,
        connection: &mut SqliteConnection,
        role: ObjectRole,
        name: &str,
        extra: &serde_json::Value,
    ) -> Result<()> {
        let sql = format!(
            "INSERT INTO {} (run, role, name, extra) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (run, role, name) DO UPDATE SET extra = ?4",
            self.table
        );
        query(sql)
            .bind(self.run.as_str().to_owned())
            .bind(role.word())
            .bind(name.to_owned())
            .bind(extra.to_string())
            .execute(connection)
            .await
            .map_err(from_sqlx)
            .map(|_| ())
    }

    /// Forgets an object.
    pub async fn remove(
        &self,
        connection: &mut SqliteConnection,
        role: ObjectRole,
        name: &str,
    ) -> Result<()> {
        query(format!("DELETE FROM {} WHERE run = ? AND role = ? AND name = ?", self.table))
            .bind(self.run.as_str().to_owned())
            .bind(role.word())
            .bind(name.to_owned())
            .execute(connection)
            .await
            .map_err(from_sqlx)
            .map(|_| ())
    }

    /// Forgets every object of a role.
    pub async fn clear(&self, connection: &mut SqliteConnection, role: ObjectRole) -> Result<()> {
        query(format!("DELETE FROM {} WHERE run = ? AND role = ?", self.table))
            .bind(self.run.as_str().to_owned())
            .bind(role.word())
            .execute(connection)
            .await
            .map_err(from_sqlx)
            .map(|_| ())
    }
}
