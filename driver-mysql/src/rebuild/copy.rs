//! Chunks: their bounds, and copying one.

use replank_core::driver::Copied;
use replank_core::value::{Bounds, Change, Key};
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use super::range::{Condition, same_key};
use crate::connect::Conn;
use crate::key::{Values, selected};
use crate::spec::Flow;
use crate::sql::{first, ident, rows, run};

/// The key of the last of the next `rows` rows.
pub async fn next_bound(core: &Core, after: Option<&Key>, rows: u64) -> Result<Option<Key>> {
    let flow = core.flow()?;
    let condition = Condition::range(&Bounds { lower: after.cloned(), upper: None }, &flow.key)?;
    let mut connection = core.server.take().await?;
    let found = nth(core, &mut connection, &condition, rows.saturating_sub(1)).await;
    let found = found.map_err(|error| core.missed(error))?;
    core.server.keep(connection);
    Ok(found.map(|values| values.encode()))
}

/// The key of the row so many rows after the first one of a condition.
async fn nth(core: &Core, connection: &mut Conn, condition: &Condition, nth: u64) -> Result<Option<Values>> {
    let flow = core.flow()?;
    let names = core.source_key()?;
    let sql = format!(
        "SELECT {} FROM {} AS s WHERE {} ORDER BY {} LIMIT 1 OFFSET {nth}",
        selected("s", &flow.key, |column| &column.source),
        core.source(),
        condition.sql("s", &names),
        ordered(flow)
    );
    first(connection, sql).await?.map(|row| Values::read(&row, 0, &flow.key)).transpose()
}

/// Copies the rows of a range whose keys are absent from the written table.
///
/// One statement that commits by itself: a runner that is stopped holds nothing. ON DUPLICATE KEY leaves a row that is
/// there already as it is. Where the written table has another unique key meanwhile, it may also mean a row of another
/// moment under that key: such rows are left out, and told. READ COMMITTED reads the source without locking it:
/// <https://dev.mysql.com/doc/refman/9.7/en/innodb-locks-set.html>.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    let flow = core.flow()?;
    let condition = Condition::range(bounds, &flow.key)?;
    let names = core.source_key()?;
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let kept = format!("{}.{}", ident(&core.written_name()), ident(&flow.key[0].written));
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {} FROM {} AS s WHERE {} ORDER BY {} ON DUPLICATE KEY UPDATE {kept} = {kept}",
        core.written(),
        columns.join(", "),
        values.join(", "),
        core.source(),
        condition.sql("s", &names),
        ordered(flow)
    );
    let mut connection = core.server.take().await?;
    match run(&mut connection, sql).await {
        Ok(written) => {
            let info = records(&connection.info());
            let displaced = match info {
                Some((_, 0)) => Vec::new(),
                _ if core.spec.new.is_crowded(&flow.key) => {
                    left_out(core, &mut connection, &condition).await?
                }
                _ => Vec::new(),
            };
            core.server.keep(connection);
            let read = info.map_or(written, |(records, _)| records);
            // How many bytes they were the server does not say.
            Ok(Copied { read, written, bytes: 0, displaced })
        }
        Err(error) if error.kind() == ErrorKind::Unfit => Err(unfit(core, &condition, error).await),
        Err(error) => Err(core.missed(error)),
    }
}

/// The source's order, through an index.
fn ordered(flow: &Flow) -> String {
    flow.order().iter().map(|column| format!("s.{}", ident(&column.source))).collect::<Vec<_>>().join(", ")
}

/// Rows of a range that are not there, as changes: another row is in their place, or they have come since.
async fn left_out(core: &Core, connection: &mut Conn, condition: &Condition) -> Result<Vec<Change>> {
    let flow = core.flow()?;
    let names = core.source_key()?;
    let sql = format!(
        "SELECT {} FROM {} AS s WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS w WHERE {})",
        selected("s", &flow.key, |column| &column.source),
        core.source(),
        condition.sql("s", &names),
        core.written(),
        same_key("w", &core.written_key()?, "s", &names)
    );
    core.changes(&rows(connection, sql).await?)
}

/// `Records: 100  Duplicates: 3  Warnings: 0`: the first two.
fn records(info: &str) -> Option<(u64, u64)> {
    let (records, rest) = info.strip_prefix("Records: ")?.split_once("  Duplicates: ")?;
    Some((records.parse().ok()?, rest.split_whitespace().next()?.parse().ok()?))
}

/// A value that the new shape cannot hold, with the key of its row: the server counts rows from the first of
/// the chunk.
async fn unfit(core: &Core, condition: &Condition, error: Error) -> Error {
    let said = error.to_string();
    let row: Option<u64> = said
        .rsplit("at row ")
        .next()
        .and_then(|tail| tail.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok());
    let key = match (row, core.server.take().await) {
        (Some(row), Ok(mut connection)) => {
            let found = nth(core, &mut connection, condition, row.saturating_sub(1)).await;
            found.ok().flatten().map(|values| values.encode().to_string())
        }
        _ => None,
    };
    let error = Error::new(ErrorKind::Unfit, format!("the new shape cannot hold a row: {}", error.message()))
        .hint("change that row, or the statement, then resume");
    match key {
        // Rows may have changed places since; it is near where to look.
        Some(key) => error.with("key", key),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_count_is_read() {
        assert_eq!(records("Records: 100  Duplicates: 3  Warnings: 0"), Some((100, 3)));
        assert_eq!(records(""), None);
    }
}
