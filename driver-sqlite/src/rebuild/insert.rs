//! Writing rows of the source into the other table, and what stands in their way.

use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::SqliteConnection;

use super::range::{Condition, same_key};
use super::{Core, change};
use crate::error::{from_sqlx, is_unfit, is_unique};
use crate::key::Values;
use crate::sql::{ident, query, run};

/// What became of an attempt.
enum Attempt {
    Done(u64),
    Collides,
    Unfit(sqlx::Error),
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Keys that were left out.
    pub displaced: Vec<Values>,
}

/// Writes the source's rows of these keys, in this order; none of them is in the written table.
///
/// # Errors
/// [`ErrorKind::Unfit`] with the key of the first row that the written table cannot hold.
pub async fn insert(
    connection: &mut SqliteConnection,
    core: &Core,
    parked: Option<&str>,
    keys: &[Values],
) -> Result<Written> {
    let mut written = Written::default();
    // Halves are tried until what fails is one row: the common case is one statement, and a few collisions
    // cost a few more.
    let mut open = vec![keys];
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        match attempt(connection, core, parked, part).await? {
            Attempt::Done(rows) => {
                written.rows += rows;
            }
            Attempt::Collides | Attempt::Unfit(_) if part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                open.push(second);
                open.push(first);
            }
            Attempt::Unfit(error) => return Err(unfit(&part[0], error)),
            // What stands in the way stays, whatever moment it is of: its own change will remove it. Taking it
            // out would lose it where no change of it is left to come.
            Attempt::Collides => written.displaced.push(part[0].clone()),
        }
    }
    Ok(written)
}

/// Deletes rows of the written table.
pub async fn delete(connection: &mut SqliteConnection, core: &Core, keys: &[Values]) -> Result<()> {
    let condition = Condition::keys(keys);
    let sql = format!(
        "DELETE FROM {} AS w WHERE {}",
        ident(&core.written()),
        condition.sql("w", &core.flow()?.written_key())
    );
    condition.bind(query(sql).persistent(false)).execute(connection).await.map_err(from_sqlx).map(|_| ())
}

async fn attempt(
    connection: &mut SqliteConnection,
    core: &Core,
    parked: Option<&str>,
    keys: &[Values],
) -> Result<Attempt> {
    let statements = match parked {
        None => vec![plain(core, keys)?],
        Some(parked) => vec![with_parked(core, parked, keys)?, without_parked(core, parked, keys)?],
    };
    // One statement is taken back as a whole by SQLite itself; two are not.
    let several = statements.len() > 1;
    if several {
        run(connection, "SAVEPOINT _rp_rows").await?;
    }
    let mut written = 0;
    for (sql, condition) in statements {
        match condition.bind(query(sql).persistent(false)).execute(&mut *connection).await {
            Ok(done) => written += done.rows_affected(),
            Err(error) => {
                let attempt = if is_unique(&error) {
                    Attempt::Collides
                } else if is_unfit(&error) {
                    Attempt::Unfit(error)
                } else {
                    return Err(from_sqlx(error));
                };
                if several {
                    run(connection, "ROLLBACK TO _rp_rows").await?;
                    run(connection, "RELEASE _rp_rows").await?;
                }
                return Ok(attempt);
            }
        }
    }
    if several {
        run(connection, "RELEASE _rp_rows").await?;
    }
    Ok(Attempt::Done(written))
}

/// `INSERT OR ABORT`, never IGNORE: the statement's own clause overrides those of the table's constraints,
/// so that none of them drops or bends a row.
fn plain(core: &Core, keys: &[Values]) -> Result<(String, Condition)> {
    let flow = core.flow()?;
    let condition = Condition::keys(keys);
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let sql = format!(
        "INSERT OR ABORT INTO {} ({}) SELECT {} FROM {} AS s WHERE {}",
        ident(&core.written()),
        columns.join(", "),
        values.join(", "),
        ident(core.source()),
        condition.sql("s", &flow.source_key())
    );
    Ok((sql, condition))
}

/// Rows that the written table knew before: what nothing is known about stays, and so does a value of
/// which the source still holds what it became.
fn with_parked(core: &Core, parked: &str, keys: &[Values]) -> Result<(String, Condition)> {
    let flow = core.flow()?;
    let condition = Condition::keys(keys);
    let mut columns = Vec::new();
    let mut values = Vec::new();
    let mut from_source = Vec::new();
    let mut from_parked = Vec::new();
    for (index, column) in flow.columns.iter().enumerate() {
        columns.push(ident(&column.column));
        from_source.push(format!("({}) AS v{index}", column.expression));
        match &column.original {
            None => values.push(format!("s.v{index}")),
            Some(original) => {
                from_source.push(format!("{} AS n{index}", ident(&original.source)));
                from_parked.push(format!("{} AS o{index}", ident(&column.column)));
                from_parked.push(format!("({}) AS f{index}", original.expression));
                values.push(format!(
                    "CASE WHEN o.f{index} IS s.n{index} COLLATE BINARY AND typeof(o.f{index}) = typeof(s.n{index})
                     THEN o.o{index} ELSE s.v{index} END"
                ));
            }
        }
    }
    for (index, column) in flow.kept.iter().enumerate() {
        columns.push(ident(column));
        from_parked.push(format!("{} AS x{index}", ident(column)));
        values.push(format!("o.x{index}"));
    }
    let keyed = |alias: &str, names: &[&str]| -> Vec<String> {
        names.iter().enumerate().map(|(index, name)| format!("{alias}.{} AS k{index}", ident(name))).collect()
    };
    let slots: Vec<String> = (0..flow.key.len()).map(|index| format!("k{index}")).collect();
    let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
    from_source.extend(keyed("s", &flow.source_key()));
    from_parked.extend(keyed("o", &flow.written_key()));
    let sql = format!(
        "INSERT OR ABORT INTO {} ({}) SELECT {} FROM (SELECT {} FROM {} AS s WHERE {}) AS s
         JOIN (SELECT {} FROM {} AS o) AS o ON {}",
        ident(&core.written()),
        columns.join(", "),
        values.join(", "),
        from_source.join(", "),
        ident(core.source()),
        condition.sql("s", &flow.source_key()),
        from_parked.join(", "),
        ident(parked),
        same_key("s", &slots, "o", &slots)
    );
    Ok((sql, condition))
}

/// Rows that the written table did not know: columns that nothing is known about get their defaults.
fn without_parked(core: &Core, parked: &str, keys: &[Values]) -> Result<(String, Condition)> {
    let (sql, condition) = plain(core, keys)?;
    let flow = core.flow()?;
    let known = same_key("s", &flow.source_key(), "o", &flow.written_key());
    Ok((format!("{sql} AND NOT EXISTS (SELECT 1 FROM {} AS o WHERE {known})", ident(parked)), condition))
}

fn unfit(key: &Values, error: sqlx::Error) -> Error {
    let said = from_sqlx(error);
    Error::new(ErrorKind::Unfit, "the new shape cannot hold a row")
        .with("key", change(key, false).key)
        .with("why", said.message())
        .hint("change that row, or the statement, then resume")
        .caused_by(said)
}
