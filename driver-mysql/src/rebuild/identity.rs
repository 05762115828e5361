//! By what the server knows a table, whatever its name: InnoDB's number of it. A rename keeps it; a rebuild,
//! a TRUNCATE and a DROP do not. See
//! <https://dev.mysql.com/doc/refman/9.7/en/information-schema-innodb-tables-table.html>.

use mysql_async::Conn;
use replank_core::Result;

use crate::sql::{first, get, text};

/// The number of a table, or the least of its partitions'; `None` where it is not there, or has a name that
/// cannot be looked up.
pub async fn read(connection: &mut Conn, schema: &str, name: &str) -> Result<Option<u64>> {
    let (Some(schema), Some(name)) = (file_name(schema), file_name(name)) else { return Ok(None) };
    let file = format!("{schema}/{name}");
    let sql = format!(
        "SELECT MIN(table_id) FROM information_schema.innodb_tables
         WHERE CAST(name AS BINARY) = {0} OR LEFT(CAST(name AS BINARY), {1}) = CONCAT({0}, '#p#')",
        text(&file),
        file.len() + 3
    );
    match first(connection, sql).await? {
        Some(row) => get(&row, 0),
        None => Ok(None),
    }
}

/// A name as InnoDB spells it: that of the file, `a-b` is `a@002db`. Letters with marks have a table of their
/// own there, which is not repeated here: `None`. See
/// <https://dev.mysql.com/doc/refman/9.7/en/identifier-mapping.html>.
fn file_name(name: &str) -> Option<String> {
    let mut spelt = String::with_capacity(name.len());
    for c in name.chars() {
        match u32::from(c) {
            _ if c.is_ascii_alphanumeric() || c == '_' => spelt.push(c),
            0xc0..=0x5ff | 0x1e00..=0x1fff | 0x2160..=0x217f | 0x24b0..=0x24ef | 0xff20..=0xff5f => {
                return None;
            }
            code => spelt.push_str(&format!("@{code:04x}")),
        }
    }
    Some(spelt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_as_files() {
        assert_eq!(file_name("orders_2").as_deref(), Some("orders_2"));
        assert_eq!(file_name("a-b c").as_deref(), Some("a@002db@0020c"));
        assert_eq!(file_name("表").as_deref(), Some("@8868"));
        assert_eq!(file_name("größe"), None);
    }
}
