//! Making written rows equal to what the source holds now.

use std::collections::BTreeMap;

use replank_core::driver::Applied;
use replank_core::value::{Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::range::Condition;
use super::{Core, parked};
use crate::connect::Conn;
use crate::key::Values;
use crate::sql::{ident, run};

/// Applies a batch in the caller's transaction. The caller commits, or rolls back on an error.
///
/// All keys leave the written table before any is written, and all rows come from the snapshot of one
/// statement. If a row collides with one of another moment, each is written by itself instead, and those that
/// collide are left out.
pub async fn apply(connection: &mut Conn, core: &Core, changes: &[Change]) -> Result<Applied> {
    let flow = core.flow()?;
    let mut batch: BTreeMap<&Key, (Values, &Change)> = BTreeMap::new();
    for change in changes {
        let values = Values::decode(&change.key, &flow.key)?;
        batch
            .entry(&change.key)
            .and_modify(|(_, known)| {
                if change.removed {
                    *known = change;
                }
            })
            .or_insert((values, change));
    }
    let batch: Vec<(Values, &Change)> = batch.into_values().collect();
    let all = Condition::keys(batch.iter().map(|(values, _)| values), &flow.key);
    if flow.keeps_something() {
        let afresh = batch.iter().filter(|(_, change)| change.removed).map(|(values, _)| values);
        parked::park(connection, core, &all, &Condition::keys(afresh, &flow.key)).await?;
    } else {
        delete(connection, core, &all).await?;
    }
    match bring(connection, core, &all).await {
        Ok(()) => return Ok(Applied::default()),
        // A statement that fails is undone as a whole, and the transaction goes on. The first of two statements
        // may have done its part.
        Err(error) if error.kind() == ErrorKind::Duplicate => delete(connection, core, &all).await?,
        Err(error) if batch.len() == 1 => return Err(named(error, batch[0].1)),
        Err(error) => return Err(error),
    }
    let mut displaced = Vec::new();
    for (values, change) in &batch {
        match bring(connection, core, &Condition::keys([values], &flow.key)).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Duplicate => displaced.push((*change).clone()),
            Err(error) => return Err(named(error, change)),
        }
    }
    Ok(Applied { displaced })
}

/// Writes rows that are not there as the source has them now. Where the written table knows something that the
/// source does not, see [`parked`].
async fn bring(connection: &mut Conn, core: &Core, condition: &Condition) -> Result<()> {
    if !core.flow()?.keeps_something() {
        return run(connection, inserting(core, condition)?).await.map(drop);
    }
    parked::bring_back(connection, core, condition).await?;
    parked::forget(connection, core, condition).await
}

async fn delete(connection: &mut Conn, core: &Core, condition: &Condition) -> Result<()> {
    let (written, name) = (core.written(), ident(&core.written_name()));
    let condition = condition.sql(&name, &core.written_key()?);
    run(connection, format!("DELETE FROM {written} WHERE {condition}")).await.map(drop)
}

fn inserting(core: &Core, condition: &Condition) -> Result<String> {
    let flow = core.flow()?;
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    Ok(format!(
        "INSERT INTO {} ({}) SELECT {} FROM {} AS s WHERE {}",
        core.written(),
        columns.join(", "),
        values.join(", "),
        core.source(),
        condition.sql("s", &core.source_key()?)
    ))
}

fn named(error: Error, change: &Change) -> Error {
    if error.kind() == ErrorKind::Unfit {
        return Error::new(
            ErrorKind::Unfit,
            format!("the other shape cannot hold a row: {}", error.message()),
        )
        .with("key", &change.key)
        .hint("change that row, then resume");
    }
    error
}
