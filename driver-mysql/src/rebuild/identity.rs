//! By what the server knows a table, whatever its name: InnoDB's number of it. A rename keeps it; a rebuild,
//! a TRUNCATE and a DROP do not. See
//! <https://dev.mysql.com/doc/refman/9.7/en/information-schema-innodb-tables-table.html>.

use replank_core::Result;
use serde::{Deserialize, Serialize};

use crate::connect::{Conn, Product};
use crate::sql::{first, get, rows, text};

/// A table's name as InnoDB spells it, that of its file: `a-b` is `a@002db`. See
/// <https://dev.mysql.com/doc/refman/9.7/en/identifier-mapping.html>.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileName {
    /// Of the database.
    pub schema: String,
    /// Of the table.
    pub table: String,
}

impl FileName {
    /// The name's spelling, where it can be told from here.
    pub fn of(schema: &str, table: &str) -> Option<Self> {
        Some(Self { schema: spelt(schema)?, table: spelt(table)? })
    }

    /// That of another table of ours in the same database.
    pub fn beside(&self, helper: &str) -> Self {
        let table = spelt(helper).unwrap_or_else(|| helper.to_owned());
        Self { schema: self.schema.clone(), table }
    }
}

/// Where InnoDB's own names are, and what stands between a table's and its partition's.
struct Catalogue {
    tables: &'static str,
    partition: &'static str,
}

fn catalogue(product: Product) -> Catalogue {
    match product {
        Product::MySql => Catalogue { tables: "innodb_tables", partition: "#p#" },
        Product::MariaDb => Catalogue { tables: "innodb_sys_tables", partition: "#P#" },
    }
}

/// The number of a table, or the least of its partitions'; `None` where it is not there.
pub async fn read(connection: &mut Conn, file: &FileName) -> Result<Option<u64>> {
    let file = format!("{}/{}", file.schema, file.table);
    let Catalogue { tables, partition } = catalogue(connection.product());
    let sql = format!(
        "SELECT MIN(table_id) FROM information_schema.{tables}
         WHERE CAST(name AS BINARY) = {0} OR LEFT(CAST(name AS BINARY), {1}) = CONCAT({0}, '{partition}')",
        text(&file),
        file.len() + partition.len()
    );
    match first(connection, sql).await? {
        Some(row) => get(&row, 0),
        None => Ok(None),
    }
}

/// How InnoDB spells the names of the tables in a database of ours, partitions once.
pub async fn spellings(connection: &mut Conn, schema: &str) -> Result<Vec<String>> {
    let Catalogue { tables, partition } = catalogue(connection.product());
    let sql = format!(
        "SELECT DISTINCT SUBSTRING_INDEX(SUBSTRING(name, {}), '{partition}', 1) FROM information_schema.{tables}
         WHERE LEFT(CAST(name AS BINARY), {0} - 1) = {1} ORDER BY 1",
        schema.len() + 2,
        text(&format!("{schema}/"))
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}

/// Letters with marks, and some more, have a table of their own, which is not repeated here: `None`.
pub fn spelt(name: &str) -> Option<String> {
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
        assert_eq!(spelt("orders_2").as_deref(), Some("orders_2"));
        assert_eq!(spelt("a-b c").as_deref(), Some("a@002db@0020c"));
        assert_eq!(spelt("表").as_deref(), Some("@8868"));
        assert_eq!(spelt("größe"), None);
    }
}
