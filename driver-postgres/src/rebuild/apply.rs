//! Makes the written rows of some keys what the source holds now: one message, one transaction.

use replank_core::driver::Applied;
use replank_core::value::{Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::range::{Condition, encoded, keys};
use super::{Core, parked};
use crate::connect::Conn;
use crate::sql::{get, ident, rows};

/// Applies, and commits.
pub async fn apply(connection: &mut Conn, core: &Core, changes: &[Change]) -> Result<Applied> {
    if changes.is_empty() {
        return Ok(Applied::default());
    }
    match attempt(connection, core, changes).await {
        Err(error) if error.kind() == ErrorKind::Unfit => {
            // Which of them it is is asked one by one; each is a transaction of its own, and those that fit are right.
            for change in changes {
                if let Err(error) = attempt(connection, core, std::slice::from_ref(change)).await {
                    let with =
                        format!("WITH rp_keys AS MATERIALIZED ({}) ", keys([&change.key], &core.flow()?.key));
                    let condition =
                        Condition::keys("rp_keys", &core.flow()?.key).sql("s", &core.source_key()?);
                    let error = core.told_of_misfits(error, &with, &condition).await;
                    return Err(named(error, change));
                }
            }
            Err(Error::new(ErrorKind::Retry, error.message().to_owned()))
        }
        done => done,
    }
}

async fn attempt(connection: &mut Conn, core: &Core, changes: &[Change]) -> Result<Applied> {
    let key = &core.flow()?.key;
    let all = keys(changes.iter().map(|change| &change.key), key);
    let statements = match core.parks()? {
        true => {
            let afresh: Vec<&Key> =
                changes.iter().filter(|change| change.removed).map(|change| &change.key).collect();
            parked::statements(core, &all, &keys(afresh, key))?
        }
        false => plain(core, &all)?,
    };
    let found = rows(connection, statements.join(";\n")).await.map_err(|error| core.missed(error))?;
    let displaced = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok(Applied { displaced: core.changes(displaced)? })
}

/// Every key leaves its unique values before any row is written; a row that collides all the same is left out, and its key
/// is the answer. What stands in the way stays, whatever moment it is of: its own change will remove it.
fn plain(core: &Core, keys: &str) -> Result<Vec<String>> {
    let flow = core.flow()?;
    let (source_key, written_key) = (core.source_key()?, core.written_key()?);
    let condition = Condition::keys("rp_keys", &flow.key);
    let written = core.written();
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<String> = flow
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{} AS rp_v{at}", column.expression))
        .collect();
    let slots: Vec<String> = (0..columns.len()).map(|at| format!("rp_v{at}")).collect();
    Ok(vec![
        format!(
            "WITH rp_keys AS MATERIALIZED ({keys}) DELETE FROM {written} AS w WHERE {}",
            condition.sql("w", &written_key)
        ),
        format!(
            "WITH rp_keys AS MATERIALIZED ({keys}),
             rp_source AS MATERIALIZED (SELECT {} AS rp_key, {} FROM {} AS s WHERE {}),
             rp_done AS (INSERT INTO {written} AS w ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM rp_source
                         ON CONFLICT DO NOTHING RETURNING {} AS rp_key)
             SELECT rp_key FROM rp_source AS s WHERE NOT EXISTS (SELECT FROM rp_done AS d WHERE d.rp_key = s.rp_key)",
            encoded("s", &source_key),
            values.join(", "),
            core.source_rows(),
            condition.sql("s", &source_key),
            columns.join(", "),
            slots.join(", "),
            encoded("w", &written_key),
        ),
    ])
}

fn named(error: Error, change: &Change) -> Error {
    if error.kind() != ErrorKind::Unfit || error.hint_text().is_some() {
        return error;
    }
    Error::new(ErrorKind::Unfit, format!("the other shape cannot hold a row: {}", error.message()))
        .with("key", &change.key)
        .hint("change that row, then resume")
}
