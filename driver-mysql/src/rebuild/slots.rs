//! Key columns under names of our own, the same ones on both sides of a join.

use crate::spec::KeyColumn;
use crate::sql::ident;

/// One name a key column.
pub struct Slots(Vec<String>);

impl Slots {
    /// For the columns of a key.
    pub fn of(key: &[KeyColumn]) -> Self {
        Self((0..key.len()).map(|index| format!("_rp_k{index}")).collect())
    }

    /// The names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// A table's key columns, under the names: a list for SELECT.
    pub fn keyed(&self, alias: &str, columns: &[&str]) -> Vec<String> {
        columns
            .iter()
            .zip(&self.0)
            .map(|(column, slot)| format!("{alias}.{} AS `{slot}`", ident(column)))
            .collect()
    }

    /// The key's columns as they are read from such a SELECT.
    pub fn columns(&self, key: &[KeyColumn]) -> Vec<KeyColumn> {
        key.iter()
            .zip(&self.0)
            .map(|(column, slot)| KeyColumn { source: slot.clone(), ..column.clone() })
            .collect()
    }
}
