//! Columns that get another name, as the statement says.

use crate::inspect::{Column, Table};
use crate::parse::Clause;

/// From old to new. MySQL compares the names of columns without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames(Vec<(String, String)>);

impl Renames {
    /// Those of a statement.
    pub fn of(clauses: &[Clause]) -> Self {
        Self(clauses.iter().filter_map(|clause| clause.renames.clone()).collect())
    }

    /// Each, old and new.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(from, to)| (from.as_str(), to.as_str()))
    }

    /// What a column of the old table is called in the new one, if it is there.
    pub fn new_name<'a>(&'a self, old: &'a str) -> &'a str {
        self.iter().find(|(from, _)| from.eq_ignore_ascii_case(old)).map_or(old, |(_, to)| to)
    }

    /// The old column that a new one goes on with. One of the same name that was itself renamed away is another.
    pub fn origin<'t>(&self, old: &'t Table, new: &Column) -> Option<&'t Column> {
        let was = self
            .iter()
            .find(|(_, to)| to.eq_ignore_ascii_case(&new.name))
            .map_or(new.name.as_str(), |(from, _)| from);
        old.column(was).filter(|column| self.new_name(&column.name).eq_ignore_ascii_case(&new.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_both_ways_and_without_case() {
        let renames = Renames(vec![("a".to_owned(), "B".to_owned()), ("b".to_owned(), "a".to_owned())]);
        assert_eq!(renames.new_name("A"), "B");
        assert_eq!(renames.new_name("b"), "a");
        assert_eq!(renames.new_name("c"), "c");
    }
}
