//! Where old rows wait while the written table cannot hold them.
//!
//! On the way back the written table may know what the source does not: values of a dropped column, or a
//! text that became a number. Such a row leaves its unique values before its successor is written, as
//! every row of a batch does; and where another row is in the way, it may have to wait for a later batch.
//! Meanwhile its old row is kept here, without any constraint, so that nothing of it is lost whatever
//! comes in between.

use std::collections::HashSet;

use replank_core::ident::{Role, helper_name};
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde_json::Value as Json;
use sqlx::sqlite::SqliteConnection;

use super::Core;
use super::prepare::outgoing;
use super::range::{Condition, same_key};
use crate::error::from_sqlx;
use crate::inspect::{Affinity, Column, Table};
use crate::key::Values;
use crate::sql::{ident, idents, query, run};
use crate::state::ObjectRole;

/// Makes the place for the old rows of the table that becomes the written one, if its flow needs one. In
/// the guard's transaction, before the swap: the table still has the live name.
pub async fn make(core: &Core, connection: &mut SqliteConnection, direction: Direction) -> Result<()> {
    let flow = core.spec.flow(direction)?;
    if flow.is_plain() {
        return Ok(());
    }
    let table = Table::read(connection, core.source()).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no table `{}` any more", core.source()))
    })?;
    let (_, role, _) = outgoing(core, core.job.direction);
    debug_assert_eq!(role, Role::Retired, "only the way back needs it");
    let name = format!("{}_parked", helper_name(&core.job.run, core.fence(), role));
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let key = idents(flow.written_key());
    run(connection, format!("CREATE TABLE {} ({}, PRIMARY KEY ({key}))", ident(&name), columns.join(", ")))
        .await?;
    core.objects.put(connection, ObjectRole::Parked, &name, &Json::Null).await
}

/// A column that holds what the original holds, and compares as it does.
fn column(column: &Column) -> String {
    let kind = match column.affinity {
        Affinity::Integer => " INT",
        Affinity::Text => " TEXT",
        Affinity::Blob => "",
        Affinity::Real => " REAL",
        Affinity::Numeric => " NUMERIC",
    };
    format!("{}{kind} COLLATE {}", ident(&column.name), ident(&column.collation))
}

/// The table's name, where the present direction has one.
pub async fn name(core: &Core, connection: &mut SqliteConnection) -> Result<Option<String>> {
    if core.flow()?.is_plain() {
        return Ok(None);
    }
    let found = core.objects.one(connection, ObjectRole::Parked).await?;
    let found = found.ok_or_else(|| {
        Error::new(ErrorKind::Internal, "the table for rows that wait is gone").hint("abort the revert")
    })?;
    Ok(Some(found.name))
}

/// Puts the written rows of these keys here. What waits here already is older than what the table holds.
pub async fn park(
    connection: &mut SqliteConnection,
    core: &Core,
    parked: &str,
    keys: &[Values],
) -> Result<()> {
    let condition = Condition::keys(keys);
    let key = core.flow()?.written_key();
    // REPLACE: the older row goes. The parked table has no other unique key.
    let sql = format!(
        "INSERT OR REPLACE INTO {} SELECT * FROM {} AS w WHERE {}",
        ident(parked),
        ident(&core.written()),
        condition.sql("w", &key)
    );
    condition.bind(query(sql).persistent(false)).execute(connection).await.map_err(from_sqlx).map(|_| ())
}

/// Lets go of the old rows of these keys, but for those that have to wait.
pub async fn release(
    connection: &mut SqliteConnection,
    core: &Core,
    parked: &str,
    keys: &[Values],
    waiting: &[Values],
) -> Result<()> {
    let waiting: HashSet<String> = waiting.iter().map(|values| values.encode().0).collect();
    let done: Vec<Values> =
        keys.iter().filter(|values| !waiting.contains(&values.encode().0)).cloned().collect();
    let flow = core.flow()?;
    let condition = Condition::keys(&done);
    // Keys that look different and are one row to the table's collation: one of them may wait.
    let absent = format!(
        "(EXISTS (SELECT 1 FROM {} AS w WHERE {}) OR NOT EXISTS (SELECT 1 FROM {} AS s WHERE {}))",
        ident(&core.written()),
        same_key("w", &flow.written_key(), "o", &flow.written_key()),
        ident(core.source()),
        same_key("s", &flow.source_key(), "o", &flow.written_key())
    );
    let sql = format!(
        "DELETE FROM {} AS o WHERE {} AND {absent}",
        ident(parked),
        condition.sql("o", &flow.written_key())
    );
    condition.bind(query(sql).persistent(false)).execute(connection).await.map_err(from_sqlx).map(|_| ())
}
