//! Rows whose parent is gone: what a foreign key would not allow, and may have come in while there was none.

use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::connect::Conn;
use crate::foreign_key::{ForeignKey, column_names};
use crate::sql::{get, ident, number, rows, table};

/// What is asked of the rows of a table with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The key, as words.
    pub what: String,
    /// How many rows have no parent.
    pub count: String,
    /// The values of some of them.
    pub sample: String,
}

/// Rows without a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphans {
    /// How many; more than none.
    pub rows: u64,
    /// Some of the values that name nobody.
    pub samples: Vec<String>,
}

impl Look {
    /// Looks; the whole table is read.
    pub async fn take(&self, connection: &mut Conn) -> Result<Option<Orphans>> {
        let count = number(connection, &self.count).await?;
        if count == 0 {
            return Ok(None);
        }
        let samples = rows(connection, &self.sample).await?;
        let samples = samples.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
        Ok(Some(Orphans { rows: count, samples }))
    }
}

/// The first look that finds any.
pub async fn first(connection: &mut Conn, looks: &[Look]) -> Result<Option<(Look, Orphans)>> {
    for look in looks {
        if let Some(found) = look.take(connection).await? {
            return Ok(Some((look.clone(), found)));
        }
    }
    Ok(None)
}

impl Orphans {
    /// The error that tells them, with what became of the key.
    pub fn error(&self, kind: ErrorKind, look: &Look, became: &str) -> Error {
        Error::new(kind, format!("{} rows have no parent under {}: {became}", self.rows, look.what))
            .with("values", self.samples.join("; "))
            .with("query", &look.sample)
    }
}

/// The question for a key of a table. A key with a NULL in it asks for no parent.
pub fn look(schema: &str, name: &str, key: &ForeignKey) -> Look {
    let parent = table(key.schema.as_deref().unwrap_or(schema), &key.table);
    let quoted = |list| column_names(list).iter().map(|name| ident(name)).collect::<Vec<_>>();
    let (own, there) = (quoted(&key.columns), quoted(&key.referenced));
    let is_set = own.iter().map(|column| format!("c.{column} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
    let pairs = own.iter().zip(&there).map(|(own, there)| format!("p.{there} = c.{own}"));
    let is_met = pairs.collect::<Vec<_>>().join(" AND ");
    let from = format!(
        "FROM {} AS c WHERE {is_set} AND NOT EXISTS (SELECT 1 FROM {parent} AS p WHERE {is_met})",
        table(schema, name)
    );
    let values = own.iter().map(|column| format!("c.{column}")).collect::<Vec<_>>().join(", ");
    Look {
        what: format!("{} of `{name}` to `{}`", key.name, key.table),
        count: format!("SELECT COUNT(*) {from}"),
        sample: format!("SELECT DISTINCT CONCAT_WS(', ', {values}) {from} LIMIT 5"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_no_parent_is_no_orphan() {
        let key = ForeignKey::read("CONSTRAINT `k` FOREIGN KEY (`a`,`b`) REFERENCES `p` (`x`, `y`)")
            .expect("a key");
        let Look { what, count, sample } = look("s", "t", &key);
        assert_eq!(what, "k of `t` to `p`");
        let from = "FROM `s`.`t` AS c WHERE c.`a` IS NOT NULL AND c.`b` IS NOT NULL AND NOT EXISTS (SELECT 1 FROM `s`.`p` AS p WHERE p.`x` = c.`a` AND p.`y` = c.`b`)";
        assert_eq!(count, format!("SELECT COUNT(*) {from}"));
        assert_eq!(sample, format!("SELECT DISTINCT CONCAT_WS(', ', c.`a`, c.`b`) {from} LIMIT 5"));
    }
}
