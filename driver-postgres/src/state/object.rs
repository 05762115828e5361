//! What a run owns: looked up before every DROP, and written in the transaction that makes the object, or lets it go.

use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};

use super::{Names, broken};
use crate::connect::Conn;
use crate::sql::{get, rows, run as execute, text};

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectRole {
    /// The table of the new shape, while it is not live.
    Shadow,
    /// The table of the old shape, while it is not live.
    Retired,
    /// Not ours: the table that applications use; `extra` says by which number the server knows the shadow.
    Live,
    /// Which ranges are copied.
    Chunks,
    /// Rows of the retired table that wait for a later batch.
    Parked,
    /// The log of the way there, with the function and the triggers of its name.
    Log,
    /// That of the way back.
    LogBack,
    /// An UNLOGGED table with one row, which is gone when the server has crashed.
    Sentinel,
    /// No table: a logical slot and a publication; `extra` says up to where the slot was read.
    Slot,
    /// No table: a function and a trigger that refuse transactions which will never see the swap.
    Guard,
    /// A materialized view that is not live, over the table that is not live; `extra` says in which schema, and which live one
    /// it is to replace.
    Matview,
}

impl ObjectRole {
    const ALL: [Self; 11] = [
        Self::Shadow,
        Self::Retired,
        Self::Live,
        Self::Chunks,
        Self::Parked,
        Self::Log,
        Self::LogBack,
        Self::Sentinel,
        Self::Slot,
        Self::Guard,
        Self::Matview,
    ];

    /// Whether the object is a table that the run made, or has taken the name from.
    pub fn is_ours(self) -> bool {
        !matches!(self, Self::Live)
    }

    /// The word in the store.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Retired => "retired",
            Self::Live => "live",
            Self::Chunks => "chunks",
            Self::Parked => "parked",
            Self::Log => "log",
            Self::LogBack => "log_back",
            Self::Sentinel => "sentinel",
            Self::Slot => "slot",
            Self::Guard => "guard",
            Self::Matview => "matview",
        }
    }
}

/// A registered object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is for.
    pub role: ObjectRole,
    /// Its present name, in the schema of the run's table unless its role says otherwise.
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
    pub async fn all(&self, connection: &mut Conn) -> Result<Vec<Object>> {
        let sql = format!(
            "SELECT role, name, extra FROM {} WHERE run = {} ORDER BY number",
            self.table,
            text(self.run.as_str())
        );
        rows(connection, sql)
            .await?
            .iter()
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
    pub async fn of(&self, connection: &mut Conn, role: ObjectRole) -> Result<Vec<Object>> {
        let mut all = self.all(connection).await?;
        all.retain(|object| object.role == role);
        Ok(all)
    }

    /// The only one of a role.
    pub async fn one(&self, connection: &mut Conn, role: ObjectRole) -> Result<Option<Object>> {
        Ok(self.of(connection, role).await?.into_iter().next())
    }

    /// Registers an object, or changes what is known about it.
    pub async fn put(
        &self,
        connection: &mut Conn,
        role: ObjectRole,
        name: &str,
        extra: &serde_json::Value,
    ) -> Result<()> {
        execute(connection, self.putting(role, name, &text(&extra.to_string()))).await.map(drop)
    }

    /// The statement that does so, with an expression for what is known about it.
    pub fn putting(&self, role: ObjectRole, name: &str, extra: &str) -> String {
        format!(
            "INSERT INTO {} (run, role, name, extra) VALUES ({}, {}, {}, {extra})
             ON CONFLICT (run, role, name) DO UPDATE SET extra = excluded.extra",
            self.table,
            text(self.run.as_str()),
            text(role.word()),
            text(name)
        )
    }

    /// Forgets an object.
    pub async fn remove(&self, connection: &mut Conn, role: ObjectRole, name: &str) -> Result<()> {
        execute(connection, self.removing(role, name)).await.map(drop)
    }

    /// The statement that does so.
    pub fn removing(&self, role: ObjectRole, name: &str) -> String {
        format!(
            "DELETE FROM {} WHERE run = {} AND role = {} AND name = {}",
            self.table,
            text(self.run.as_str()),
            text(role.word()),
            text(name)
        )
    }

    /// The statement that gives every object of a role another `extra`, by an expression.
    pub fn changing(&self, role: ObjectRole, extra: &str) -> String {
        format!(
            "UPDATE {} SET extra = {extra} WHERE run = {} AND role = {}",
            self.table,
            text(self.run.as_str()),
            text(role.word())
        )
    }

    /// The statement that changes what is known about one object, if it is there.
    pub fn changing_one(&self, role: ObjectRole, name: &str, extra: &str) -> String {
        format!("{} AND name = {}", self.changing(role, extra), text(name))
    }

    /// Forgets every object of a role.
    pub async fn clear(&self, connection: &mut Conn, role: ObjectRole) -> Result<()> {
        let sql = format!(
            "DELETE FROM {} WHERE run = {} AND role = {}",
            self.table,
            text(self.run.as_str()),
            text(role.word())
        );
        execute(connection, sql).await.map(drop)
    }
}
