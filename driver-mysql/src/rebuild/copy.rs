//! Chunks: their bounds, and copying one.

use replank_core::driver::Copied;
use replank_core::value::{Bounds, Key};
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use super::range::Condition;
use crate::connect::Conn;
use crate::key::{Values, selected};
use crate::sql::{first, ident, run};

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
    let order: Vec<String> = names.iter().map(|name| format!("s.{}", ident(name))).collect();
    let sql = format!(
        "SELECT {} FROM {} AS s WHERE {} ORDER BY {} LIMIT 1 OFFSET {nth}",
        selected("s", &flow.key, |column| &column.source),
        core.source(),
        condition.sql("s", &names),
        order.join(", ")
    );
    first(connection, sql).await?.map(|row| Values::read(&row, 0, &flow.key)).transpose()
}

/// Copies the rows of a range whose keys are absent from the written table.
///
/// One statement that commits by itself: a runner that is stopped holds nothing. While rows are copied the
/// written table has no unique key but the one that tells rows apart, so ON DUPLICATE KEY can only mean a row
/// that is there already, and leaves it as it is. READ COMMITTED reads the source without locking it:
/// <https://dev.mysql.com/doc/refman/9.7/en/innodb-locks-set.html>.
pub async fn copy(core: &Core, bounds: &Bounds) -> Result<Copied> {
    let flow = core.flow()?;
    let condition = Condition::range(bounds, &flow.key)?;
    let names = core.source_key()?;
    let columns: Vec<String> = flow.columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = flow.columns.iter().map(|column| column.expression.as_str()).collect();
    let order: Vec<String> = names.iter().map(|name| format!("s.{}", ident(name))).collect();
    let kept = format!("{}.{}", ident(&core.written_name()), ident(&flow.key[0].written));
    let sql = format!(
        "INSERT INTO {} ({}) SELECT {} FROM {} AS s WHERE {} ORDER BY {} ON DUPLICATE KEY UPDATE {kept} = {kept}",
        core.written(),
        columns.join(", "),
        values.join(", "),
        core.source(),
        condition.sql("s", &names),
        order.join(", ")
    );
    let mut connection = core.server.take().await?;
    match run(&mut connection, sql).await {
        Ok(written) => {
            let read = records(&connection.info()).unwrap_or(written);
            core.server.keep(connection);
            // How many bytes they were the server does not say.
            Ok(Copied { read, written, bytes: 0, displaced: Vec::new() })
        }
        Err(error) if error.kind() == ErrorKind::Unfit => Err(unfit(core, &condition, error).await),
        Err(error) => Err(core.missed(error)),
    }
}

/// `Records: 100  Duplicates: 3  Warnings: 0`.
fn records(info: &str) -> Option<u64> {
    info.strip_prefix("Records: ")?.split_whitespace().next()?.parse().ok()
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
        assert_eq!(records("Records: 100  Duplicates: 3  Warnings: 0"), Some(100));
        assert_eq!(records(""), None);
    }
}
