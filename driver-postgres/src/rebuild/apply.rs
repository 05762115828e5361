//! Makes the written rows of some keys what the source holds now: one message, one transaction.

use replank_core::driver::Applied;
use replank_core::value::{Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::range::{Condition, encoded, keys};
use super::{Core, parked, with_computed};
use crate::connect::Conn;
use crate::inspect::computed;
use crate::sql::{get, ident, rows, text};

/// Applies, and commits.
pub async fn apply(connection: &mut Conn, core: &Core, changes: &[Change]) -> Result<Applied> {
    if changes.is_empty() {
        return Ok(Applied::default());
    }
    match attempt(connection, core, changes, Rows::All).await {
        Err(error) if error.kind() == ErrorKind::Unfit => {
            // Which of them it is is asked one by one; each is a transaction of its own, and those that fit are right.
            for change in changes {
                let one = std::slice::from_ref(change);
                match attempt(connection, core, one, Rows::All).await {
                    Ok(_) => {}
                    // By itself a row may be in the way of one that it exchanges a value with.
                    Err(error) if error.kind() == ErrorKind::Duplicate && core.may_defer() => {}
                    Err(error) => {
                        let key = &core.flow()?.key;
                        let with = format!("WITH rp_keys AS MATERIALIZED ({}) ", keys([&change.key], key));
                        let condition = Condition::keys("rp_keys", key).sql("s", &core.source_key()?);
                        let error = core.told_of_misfits(error, &with, &condition).await;
                        return Err(named(error, change));
                    }
                }
            }
            Err(Error::new(ErrorKind::Retry, error.message().to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::Duplicate && core.may_defer() => {
            free_ones(connection, core, changes).await
        }
        done => done,
    }
}

/// An index that may be deferred fails the whole batch, where others leave a row out. So whose values are taken is asked
/// first; what collides all the same (of one batch, or under an exclusion constraint) shows row by row.
async fn free_ones(connection: &mut Conn, core: &Core, changes: &[Change]) -> Result<Applied> {
    if !core.parks()? {
        match attempt(connection, core, changes, Rows::Free).await {
            // Of a unique index over a column that is not written, nothing is known before the row is.
            Err(error) if matches!(error.kind(), ErrorKind::Duplicate | ErrorKind::ForeignDdl) => {}
            done => return done,
        }
    }
    let mut applied = Applied::default();
    for change in changes {
        let one = std::slice::from_ref(change);
        match attempt(connection, core, one, Rows::All).await {
            Err(error) if error.kind() == ErrorKind::Duplicate => {
                attempt(connection, core, one, Rows::None).await?;
                applied.displaced.push(change.clone());
            }
            done => applied.displaced.extend(done?.displaced),
        }
    }
    Ok(applied)
}

/// Which of a batch's rows are written, once their old versions have left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// All that are there.
    All,
    /// Those whose unique values no other row has.
    Free,
    /// None.
    None,
}

async fn attempt(connection: &mut Conn, core: &Core, changes: &[Change], which: Rows) -> Result<Applied> {
    let key = &core.flow()?.key;
    let all = keys(changes.iter().map(|change| &change.key), key);
    let (mut statements, leaving) = match core.parks()? {
        true => {
            let afresh: Vec<&Key> =
                changes.iter().filter(|change| change.removed).map(|change| &change.key).collect();
            (parked::statements(core, &all, &keys(afresh, key))?, parked::LEAVING)
        }
        false => {
            let is_free = match which {
                Rows::Free => taken_by_none(connection, core).await?,
                _ => String::new(),
            };
            (plain(core, &all, &is_free)?, 1)
        }
    };
    if which == Rows::None {
        statements.truncate(leaving);
    }
    let found = rows(connection, statements.join(";\n")).await.map_err(|error| core.missed(error))?;
    let displaced = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    Ok(Applied { displaced: core.changes(displaced)? })
}

/// Every key leaves its unique values before any row is written; a row that collides all the same is left out, and its key
/// is the answer. What stands in the way stays, whatever moment it is of: its own change will remove it.
fn plain(core: &Core, keys: &str, is_free: &str) -> Result<Vec<String>> {
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
             rp_done AS (INSERT INTO {written} AS w ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM rp_source AS s{is_free}
                         {} RETURNING {} AS rp_key)
             SELECT rp_key FROM rp_source AS s WHERE NOT EXISTS (SELECT FROM rp_done AS d WHERE d.rp_key = s.rp_key)",
            encoded("s", &source_key),
            values.join(", "),
            core.source_rows(),
            condition.sql("s", &source_key),
            columns.join(", "),
            slots.join(", "),
            core.leaving_out(),
            encoded("w", &written_key),
        ),
    ])
}

/// That no row of the written table has the unique values of a row of `rp_source`, under `s`.
async fn taken_by_none(connection: &mut Conn, core: &Core) -> Result<String> {
    let written = core.written();
    let row = format!("SELECT {}", core.flow()?.written_as(|at, _| format!("s.rp_v{at}")).join(", "));
    let computed = computed(connection, &format!("to_regclass({})", text(&written))).await?;
    let conditions: Vec<String> = core
        .spec
        .written(core.job.direction)
        .unique
        .iter()
        .map(|unique| {
            let parts = unique.parts.iter().enumerate();
            let values: Vec<String> =
                parts.clone().map(|(at, part)| format!("({part}) AS rp_u{at}")).collect();
            let is_same = if unique.nulls_equal { "IS NOT DISTINCT FROM" } else { "=" };
            let same: Vec<String> =
                parts.map(|(at, part)| format!("({part}) {is_same} x.rp_u{at}")).collect();
            let counts = unique.condition.as_ref().map(|condition| format!("({condition})"));
            let counts = counts.unwrap_or_else(|| "true".to_owned());
            format!(
                "NOT EXISTS (SELECT FROM (SELECT {}, {counts} AS rp_counts FROM ({}) AS m) AS x
                             WHERE x.rp_counts AND EXISTS (SELECT FROM {written} WHERE {} AND {counts}))",
                values.join(", "),
                with_computed(&row, unique, &computed),
                same.join(" AND ")
            )
        })
        .collect();
    Ok(format!(" WHERE {}", conditions.join(" AND ")))
}

fn named(error: Error, change: &Change) -> Error {
    if error.kind() != ErrorKind::Unfit || error.hint_text().is_some() {
        return error;
    }
    Error::new(ErrorKind::Unfit, format!("the other shape cannot hold a row: {}", error.message()))
        .with("key", &change.key)
        .hint("change that row, then resume")
}
