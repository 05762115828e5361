//! What the live table must look like while a run goes on (R7), and who owns its name.

use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnection;

use crate::error::from_sqlx;
use crate::inspect::{Named, get};
use crate::sql::query;
use crate::state::{Names, ObjectRole, Objects, is_made};

/// Which table has the name that applications use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The one that was there before the run.
    Old,
    /// The one that the run built.
    New,
}

/// What is registered about the live table, in the transaction that made it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Which table it is.
    pub shape: Shape,
    /// Its statement and those of its indexes and triggers, ours left out, sorted.
    pub definition: Vec<Named>,
}

impl Live {
    /// What is registered for a run, with the live name.
    pub async fn load(
        connection: &mut SqliteConnection,
        objects: &Objects,
    ) -> Result<Option<(String, Self)>> {
        let Some(object) = objects.one(connection, ObjectRole::Live).await? else { return Ok(None) };
        let live = Self::deserialize(&object.extra).map_err(|error| {
            Error::new(ErrorKind::Server, "the record of the live table cannot be read").caused_by(error)
        })?;
        Ok(Some((object.name, live)))
    }

    /// Registers it.
    pub async fn save(&self, connection: &mut SqliteConnection, objects: &Objects, name: &str) -> Result<()> {
        let extra = serde_json::to_value(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "a definition cannot be written as JSON").caused_by(error)
        })?;
        objects.put(connection, ObjectRole::Live, name, &extra).await
    }
}

/// The present definition of a table, objects of ours left out.
pub async fn read(connection: &mut SqliteConnection, table: &str, names: &Names) -> Result<Vec<Named>> {
    let rows = query(
        "SELECT name, sql FROM sqlite_schema
         WHERE tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL ORDER BY type, name",
    )
    .bind(table.to_owned())
    .fetch_all(connection)
    .await
    .map_err(from_sqlx)?;
    let mut found = Vec::new();
    for row in &rows {
        let named = Named { name: get(row, 0)?, sql: get(row, 1)? };
        if !names.is_own(&named.name) {
            found.push(named);
        }
    }
    found.sort();
    Ok(found)
}

/// Fails with [`ErrorKind::ForeignDdl`] unless the live table is as registered.
pub async fn check(connection: &mut SqliteConnection, names: &Names, objects: &Objects) -> Result<()> {
    let Some((table, live)) = Live::load(connection, objects).await? else {
        return Err(Error::new(ErrorKind::FeedGap, "the record of this run's objects is gone"));
    };
    let present = read(connection, &table, names).await?;
    if present == live.definition {
        return Ok(());
    }
    let differs = |a: &[Named], b: &[Named]| -> Vec<String> {
        a.iter().filter(|named| !b.contains(named)).map(|named| named.name.clone()).collect()
    };
    let mut changed = differs(&live.definition, &present);
    changed.extend(differs(&present, &live.definition));
    changed.sort();
    changed.dedup();
    Err(Error::new(ErrorKind::ForeignDdl, format!("somebody changed the definition of `{table}`"))
        .with("changed", changed.join(", ")))
}

/// Every run that registered this table as its live one, with what it registered.
async fn registered(
    connection: &mut SqliteConnection,
    names: &Names,
    table: &str,
) -> Result<Vec<(Objects, Live)>> {
    if !is_made(connection, names).await? {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT run FROM {} WHERE role = 'live' AND name = ? COLLATE NOCASE", names.table("objects"));
    let rows = query(sql).bind(table.to_owned()).fetch_all(&mut *connection).await.map_err(from_sqlx)?;
    let mut found = Vec::new();
    for row in &rows {
        let run = replank_core::ident::RunId::parse(&get::<String>(row, 0)?)?;
        let objects = Objects::new(names, &run);
        if let Some((_, live)) = Live::load(connection, &objects).await? {
            found.push((objects, live));
        }
    }
    Ok(found)
}

/// Our own DDL on a table that an earlier run can still take back: what that run expects to see follows.
/// Begins before the statement, in its transaction.
pub struct Follow {
    runs: Vec<(Objects, Live)>,
    table: String,
}

impl Follow {
    /// Those runs whose expectation is met now. The others found foreign DDL already.
    pub async fn begin(connection: &mut SqliteConnection, names: &Names, table: &str) -> Result<Self> {
        let present = read(connection, table, names).await?;
        let mut runs = registered(connection, names, table).await?;
        runs.retain(|(_, live)| live.definition == present);
        Ok(Self { runs, table: table.to_owned() })
    }

    /// Registers the definition as it is after the statement.
    pub async fn end(self, connection: &mut SqliteConnection, names: &Names) -> Result<()> {
        let definition = read(connection, &self.table, names).await?;
        for (objects, live) in self.runs {
            let live = Live { shape: live.shape, definition: definition.clone() };
            live.save(connection, &objects, &self.table).await?;
        }
        Ok(())
    }
}
