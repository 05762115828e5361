//! The new definition of a table, made from the old one by changing only what the statement names.

use replank_core::{Error, ErrorKind, Result};

use crate::inspect::{Named, Table};
use crate::parse::{Clause, Column, Constraint, ConstraintKind, IndexText, PartKind, TableText};
use crate::sql::ident;

/// A definition on its way.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The table.
    pub text: TableText,
    /// Its explicit indexes.
    pub indexes: Vec<Named>,
    /// Its triggers.
    pub triggers: Vec<Named>,
    /// Where each column comes from.
    pub origins: Vec<Origin>,
    /// What changes, one line each.
    pub changes: Vec<String>,
}

/// Where a column of the new shape comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The column.
    pub column: String,
    /// The old column, if it had one.
    pub from: Option<String>,
    /// The person's own expression, over the old columns.
    pub using: Option<String>,
}

impl Shape {
    /// The shape as it is.
    pub fn of(table: &Table) -> Self {
        let origins = table
            .columns
            .iter()
            .map(|column| Origin {
                column: column.name.clone(),
                from: Some(column.name.clone()),
                using: None,
            })
            .collect();
        Self {
            text: table.text.clone(),
            indexes: table.indexes.clone(),
            triggers: table.triggers.clone(),
            origins,
            changes: Vec::new(),
        }
    }

    /// The old columns, under another name since. The definition was read again after the renames.
    pub fn renamed(&mut self, renames: &[(String, String)]) {
        for (from, to) in renames {
            for origin in &mut self.origins {
                if origin.column.eq_ignore_ascii_case(to) {
                    origin.from = Some(from.clone());
                }
            }
            self.changes.push(format!("column {from} is renamed to {to}"));
        }
    }

    /// The shape that a `CREATE TABLE` gives; columns of the same name are the same.
    pub fn given(table: &Table, text: &str) -> Result<Self> {
        let given = TableText::parse(text)?;
        if !given.name.eq_ignore_ascii_case(&table.name) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the shape is of `{}`, the table is `{}`", given.name, table.name),
            )
            .hint("a shape bears the table's own name; rename in a statement of its own"));
        }
        let mut shape = Self::of(table);
        shape.origins = given
            .columns
            .iter()
            .map(|column| Origin {
                column: column.name.clone(),
                from: table.column(&column.name).map(|old| old.name.clone()),
                using: None,
            })
            .collect();
        let gone = table.columns.iter().filter(|column| given.column(&column.name).is_none());
        shape.changes.extend(gone.map(|column| format!("column {} is dropped", column.name)));
        let new = given.columns.iter().filter(|column| table.column(&column.name).is_none());
        shape.changes.extend(new.map(|column| format!("column {} is added", column.name)));
        shape.changes.push("the table gets the given shape".to_owned());
        shape.text = given;
        Ok(shape)
    }

    /// Applies one clause.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where it names what is not there, or is there already.
    pub fn apply(&mut self, clause: &Clause) -> Result<()> {
        match clause {
            Clause::RenameTo(_) => {
                Err(Error::new(ErrorKind::Internal, "a table is renamed by a statement of its own"))
            }
            // Done before, on a copy of the schema, by SQLite itself.
            Clause::RenameColumn { .. } => Ok(()),
            Clause::AddColumn(column) => self.add_column(column),
            Clause::DropColumn(name) => self.drop_column(name),
            Clause::Type { column, to, using } => self.change_type(column, to, using.as_deref()),
            Clause::SetDefault { column, value } => {
                let changed = self.column(column)?;
                changed.remove(PartKind::Default);
                changed.add(PartKind::Default, format!("DEFAULT {value}"));
                self.note(format!("column {column}: default {value}"))
            }
            Clause::DropDefault(column) => {
                self.column(column)?.remove(PartKind::Default);
                self.note(format!("column {column}: no default"))
            }
            Clause::SetNotNull(column) => {
                let changed = self.column(column)?;
                changed.remove(PartKind::Null);
                if !changed.has(PartKind::NotNull) {
                    changed.add(PartKind::NotNull, "NOT NULL".to_owned());
                }
                self.note(format!("column {column}: NOT NULL"))
            }
            Clause::DropNotNull(column) => {
                self.column(column)?.remove(PartKind::NotNull);
                self.note(format!("column {column}: NULL is allowed"))
            }
            Clause::Modify { from, to } => self.modify(from, to),
            Clause::AddConstraint(constraint) => self.add_constraint(constraint),
            Clause::DropConstraint(name) => self.drop_constraint(name),
            Clause::DropPrimaryKey => self.drop_primary_key(),
            Clause::AddIndex { name, sql } => self.add_index(name, sql),
            Clause::DropIndex(name) => self.drop_index(name),
        }
    }

    fn note(&mut self, line: String) -> Result<()> {
        self.changes.push(line);
        Ok(())
    }

    fn column(&mut self, name: &str) -> Result<&mut Column> {
        let table = self.text.name.clone();
        self.text.column_mut(name).ok_or_else(|| no_column(&table, name))
    }

    fn add_column(&mut self, column: &Column) -> Result<()> {
        if self.text.column(&column.name).is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{}` has a column `{}` already", self.text.name, column.name),
            ));
        }
        self.text.columns.push(column.clone());
        self.origins.push(Origin { column: column.name.clone(), from: None, using: None });
        self.note(format!("column {} is added", column.name))
    }

    fn drop_column(&mut self, name: &str) -> Result<()> {
        let found = self.column(name)?.name.clone();
        if self.text.columns.len() == 1 {
            return Err(Error::new(ErrorKind::Usage, format!("`{found}` is the only column")));
        }
        self.text.columns.retain(|column| column.name != found);
        self.origins.retain(|origin| !origin.column.eq_ignore_ascii_case(&found));
        self.note(format!("column {found} is dropped"))
    }

    fn change_type(&mut self, name: &str, to: &str, using: Option<&str>) -> Result<()> {
        let column = self.column(name)?;
        let from = if column.type_text.is_empty() { "no type".to_owned() } else { column.type_text.clone() };
        column.set_type(to);
        if let Some(using) = using {
            for origin in self.origins.iter_mut().filter(|origin| origin.column.eq_ignore_ascii_case(name)) {
                origin.using = Some(using.to_owned());
            }
        }
        self.note(format!("column {name}: type {from} becomes {to}"))
    }

    /// A whole new definition. The column's keys and checks are not part of it in the customary meaning:
    /// they stay, unless the definition has its own.
    fn modify(&mut self, from: &str, to: &Column) -> Result<()> {
        // A rename was done before, so the column has its new name already.
        let stays = [PartKind::PrimaryKey, PartKind::Unique, PartKind::References, PartKind::Check];
        let name = to.name.clone();
        let old = self.column(&name)?;
        let mut new = to.clone();
        for part in old.parts.iter().filter(|part| stays.contains(&part.kind) && !to.has(part.kind)) {
            new.add(part.kind, part.text.clone());
        }
        new.take_place_of(old);
        *old = new;
        let line = format!("column {name}: {}", to.render(false).trim());
        if from.eq_ignore_ascii_case(&name) {
            self.note(line)
        } else {
            self.note(format!("{line} (was {from})"))
        }
    }

    fn has_primary_key(&self) -> bool {
        let own = |constraint: &Constraint| constraint.kind == ConstraintKind::PrimaryKey;
        self.text.constraints.iter().any(own)
            || self.text.columns.iter().any(|column| column.has(PartKind::PrimaryKey))
    }

    fn add_constraint(&mut self, constraint: &Constraint) -> Result<()> {
        if constraint.kind == ConstraintKind::PrimaryKey && self.has_primary_key() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{}` has a primary key already", self.text.name),
            )
            .hint("DROP PRIMARY KEY in the same statement, before"));
        }
        if let Some(name) = &constraint.name
            && self.has_constraint(name)
        {
            return Err(Error::new(ErrorKind::Usage, format!("there is a constraint `{name}` already")));
        }
        self.text
            .constraints
            .push(Constraint { text: format!(" {}", constraint.text.trim()), ..constraint.clone() });
        self.note(format!("constraint {} is added", constraint.text.trim()))
    }

    fn has_constraint(&self, name: &str) -> bool {
        let is = |own: &Option<String>| own.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.text.constraints.iter().any(|constraint| is(&constraint.name))
            || self.text.columns.iter().flat_map(|column| &column.parts).any(|part| is(&part.name))
    }

    fn drop_constraint(&mut self, name: &str) -> Result<()> {
        let count = self.text.constraints.len();
        let is = |own: &Option<String>| own.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.text.constraints.retain(|constraint| !is(&constraint.name));
        let mut found = self.text.constraints.len() < count;
        for column in &mut self.text.columns {
            found |= column.remove_named(name);
        }
        if found {
            return self.note(format!("constraint {name} is dropped"));
        }
        Err(Error::new(ErrorKind::Usage, format!("`{}` has no constraint `{name}`", self.text.name)).hint(
            "a constraint without a name is changed by `replank rebuild --as` with the whole definition",
        ))
    }

    fn drop_primary_key(&mut self) -> Result<()> {
        if !self.has_primary_key() {
            return Err(Error::new(ErrorKind::Usage, format!("`{}` has no primary key", self.text.name)));
        }
        self.text.constraints.retain(|constraint| constraint.kind != ConstraintKind::PrimaryKey);
        for column in self.text.columns.iter_mut().filter(|column| column.has(PartKind::PrimaryKey)) {
            column.remove(PartKind::PrimaryKey);
        }
        self.note("the primary key is dropped".to_owned())
    }

    fn add_index(&mut self, name: &str, sql: &str) -> Result<()> {
        if self.indexes.iter().any(|index| index.name.eq_ignore_ascii_case(name)) {
            return Err(Error::new(ErrorKind::Usage, format!("there is an index `{name}` already")));
        }
        let text = IndexText::parse(sql)?;
        let sql = text.render(name, &self.text.name);
        self.indexes.push(Named { name: name.to_owned(), sql });
        self.note(format!("{}index {name} is added", if text.unique { "unique " } else { "" }))
    }

    fn drop_index(&mut self, name: &str) -> Result<()> {
        let count = self.indexes.len();
        self.indexes.retain(|index| !index.name.eq_ignore_ascii_case(name));
        if self.indexes.len() < count {
            return self.note(format!("index {name} is dropped"));
        }
        Err(Error::new(ErrorKind::Usage, format!("`{}` has no index `{name}`", self.text.name))
            .hint("the index of a PRIMARY KEY or UNIQUE constraint goes with its constraint"))
    }
}

/// The error for a column that is not there.
pub fn no_column(table: &str, column: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("`{table}` has no column `{column}`"))
        .hint(format!("`PRAGMA table_info({})` lists them", ident(table)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Statement, parse};
    use rstest::rstest;

    fn shape(create: &str) -> Shape {
        let text = TableText::parse(create).expect("parses");
        let origins = text
            .columns
            .iter()
            .map(|column| Origin {
                column: column.name.clone(),
                from: Some(column.name.clone()),
                using: None,
            })
            .collect();
        Shape { text, indexes: Vec::new(), triggers: Vec::new(), origins, changes: Vec::new() }
    }

    fn applied(create: &str, clauses: &str) -> Result<Shape> {
        let mut shape = shape(create);
        let Statement::AlterTable { clauses, .. } = parse(&format!("ALTER TABLE t {clauses}"))? else {
            panic!("an ALTER TABLE");
        };
        for clause in &clauses {
            shape.apply(clause)?;
        }
        Ok(shape)
    }

    #[rstest]
    #[case("ALTER a TYPE TEXT", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 0 -- why\n)")]
    #[case("ALTER a SET DEFAULT -1", "CREATE TABLE t(id INTEGER PRIMARY KEY,a INT NOT NULL DEFAULT -1)")]
    #[case("ALTER a DROP NOT NULL", "CREATE TABLE t(id INTEGER PRIMARY KEY,a INT DEFAULT 0)")]
    #[case("ADD b REAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT NOT NULL DEFAULT 0 -- why\n,b REAL)")]
    #[case(
        "ADD CONSTRAINT u UNIQUE (a)",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT NOT NULL DEFAULT 0 -- why\n, CONSTRAINT u UNIQUE (a))"
    )]
    #[case(
        "DROP PRIMARY KEY, ADD PRIMARY KEY (a)",
        "CREATE TABLE t(id INTEGER, a INT NOT NULL DEFAULT 0 -- why\n, PRIMARY KEY (a))"
    )]
    #[case("MODIFY id BIGINT", "CREATE TABLE t(id BIGINT PRIMARY KEY, a INT NOT NULL DEFAULT 0 -- why\n)")]
    fn definitions(#[case] clauses: &str, #[case] expected: &str) {
        let create = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT NOT NULL DEFAULT 0 -- why\n)";
        let shape = applied(create, clauses).expect("applies");
        let plain = |text: &str| text.replace(" -- why\n", "").replace(", ", ",");
        assert_eq!(plain(&shape.text.render()), plain(expected));
        assert!(TableText::parse(&shape.text.render()).is_ok());
    }

    #[rstest]
    #[case("DROP COLUMN nope")]
    #[case("ADD a INT")]
    #[case("ADD PRIMARY KEY (a)")]
    #[case("DROP CONSTRAINT nope")]
    #[case("DROP INDEX nope")]
    fn what_is_not_there_or_is_already(#[case] clauses: &str) {
        let error = applied("CREATE TABLE t(id INTEGER PRIMARY KEY, a INT)", clauses).expect_err("refused");
        assert!(matches!(error.kind(), ErrorKind::Usage | ErrorKind::NotFound), "{error}");
    }

    #[test]
    fn using_is_kept_with_its_column() {
        let shape =
            applied("CREATE TABLE t(id INTEGER PRIMARY KEY, a INT)", "ALTER a TYPE TEXT USING a || 'x'");
        let origin = shape.expect("applies").origins.pop().expect("the last column");
        assert_eq!(origin.using.as_deref(), Some("a || 'x'"));
    }
}
