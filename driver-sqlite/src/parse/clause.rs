//! The clauses of an `ALTER TABLE`.

use replank_core::{Error, ErrorKind, Result};

use super::column::Column;
use super::cursor::Cursor;
use super::table::Constraint;
use crate::sql::ident;

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clause {
    /// `RENAME TO name`.
    RenameTo(String),
    /// `RENAME COLUMN from TO to`.
    RenameColumn {
        /// The present name.
        from: String,
        /// The new name.
        to: String,
    },
    /// `ADD COLUMN …`, with the definition.
    AddColumn(Column),
    /// `DROP COLUMN name`.
    DropColumn(String),
    /// `ALTER COLUMN name TYPE … [USING …]`.
    Type {
        /// The column.
        column: String,
        /// The new type.
        to: String,
        /// How to convert, over the old columns.
        using: Option<String>,
    },
    /// `ALTER COLUMN name SET DEFAULT …`.
    SetDefault {
        /// The column.
        column: String,
        /// The default as it is written.
        value: String,
    },
    /// `ALTER COLUMN name DROP DEFAULT`.
    DropDefault(String),
    /// `ALTER COLUMN name SET NOT NULL`.
    SetNotNull(String),
    /// `ALTER COLUMN name DROP NOT NULL`.
    DropNotNull(String),
    /// `MODIFY COLUMN …` and `CHANGE old …`: a whole new definition.
    Modify {
        /// The present name.
        from: String,
        /// The new definition.
        to: Column,
    },
    /// `ADD [CONSTRAINT name] …`.
    AddConstraint(Constraint),
    /// `DROP CONSTRAINT name`.
    DropConstraint(String),
    /// `DROP PRIMARY KEY`.
    DropPrimaryKey,
    /// `ADD [UNIQUE] INDEX name (…)`, as a `CREATE INDEX` text.
    AddIndex {
        /// The index.
        name: String,
        /// The statement that makes it.
        sql: String,
    },
    /// `DROP INDEX name`.
    DropIndex(String),
}

/// Reads clauses up to the end.
pub fn clauses(cursor: &mut Cursor<'_>, table: &str) -> Result<Vec<Clause>> {
    let mut found = vec![clause(cursor, table)?];
    while cursor.take_sign(",") {
        found.push(clause(cursor, table)?);
    }
    let is_rename = |clause: &Clause| matches!(clause, Clause::RenameTo(_));
    if found.len() > 1 && found.iter().any(is_rename) {
        return Err(Error::new(ErrorKind::Usage, "RENAME TO stands alone")
            .hint("rename the table in a statement of its own"));
    }
    Ok(found)
}

fn clause(cursor: &mut Cursor<'_>, table: &str) -> Result<Clause> {
    if cursor.take(&["RENAME"]) {
        rename(cursor)
    } else if cursor.take(&["ADD"]) {
        add(cursor, table)
    } else if cursor.take(&["DROP"]) {
        drop_clause(cursor)
    } else if cursor.take(&["ALTER"]) {
        alter(cursor)
    } else if cursor.take(&["MODIFY"]) {
        cursor.take(&["COLUMN"]);
        let to = Column::parse(cursor.until(|_| false)?)?;
        Ok(Clause::Modify { from: to.name.clone(), to })
    } else if cursor.take(&["CHANGE"]) {
        cursor.take(&["COLUMN"]);
        let from = cursor.name("the column's name")?;
        Ok(Clause::Modify { from, to: Column::parse(cursor.until(|_| false)?)? })
    } else {
        Err(cursor.unexpected("ADD, DROP, ALTER, MODIFY, CHANGE or RENAME"))
    }
}

fn rename(cursor: &mut Cursor<'_>) -> Result<Clause> {
    if cursor.take(&["TO"]) {
        return Ok(Clause::RenameTo(cursor.name("the new name")?));
    }
    let names_an_other_object = ["INDEX", "CONSTRAINT", "KEY"].iter().any(|word| {
        cursor.peek().is_some_and(|token| token.is(word))
            && cursor.peek_at(1).is_some_and(|token| !token.is("TO"))
    });
    if names_an_other_object {
        return Err(Error::new(ErrorKind::Usage, "SQLite renames tables and columns only")
            .hint("DROP it and ADD it under the new name in one statement"));
    }
    cursor.take(&["COLUMN"]);
    let from = cursor.name("the column's name")?;
    cursor.expect(&["TO"])?;
    Ok(Clause::RenameColumn { from, to: cursor.name("the new name")? })
}

fn add(cursor: &mut Cursor<'_>, table: &str) -> Result<Clause> {
    if cursor.take(&["COLUMN"]) {
        if cursor.take(&["IF"]) {
            return Err(Error::new(ErrorKind::Usage, "SQLite has no ADD COLUMN IF NOT EXISTS")
                .hint("leave it out: a column that is there already is an error before anything changes"));
        }
        return Ok(Clause::AddColumn(Column::parse(cursor.until(|_| false)?)?));
    }
    let starts_index = |ahead: usize| {
        let word = cursor.peek_at(ahead).is_some_and(|token| token.is("INDEX") || token.is("KEY"));
        let opens = |ahead| cursor.peek_at(ahead).is_some_and(|token| token.is_sign("("));
        word && opens(ahead + 2)
    };
    let unique = cursor.is_at(&["UNIQUE"]) && starts_index(1);
    if unique || starts_index(0) {
        cursor.take(&["UNIQUE"]);
        cursor.next();
        let name = cursor.name("the index's name")?;
        let body = cursor.until(|_| false)?;
        let unique = if unique { "UNIQUE " } else { "" };
        let sql = format!("CREATE {unique}INDEX {} ON {}{body}", ident(&name), ident(table));
        return Ok(Clause::AddIndex { name, sql });
    }
    let is_constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"]
        .iter()
        .any(|word| cursor.peek().is_some_and(|token| token.is(word)));
    if is_constraint {
        return Ok(Clause::AddConstraint(Constraint::parse(cursor.until(|_| false)?)?));
    }
    Ok(Clause::AddColumn(Column::parse(cursor.until(|_| false)?)?))
}

fn drop_clause(cursor: &mut Cursor<'_>) -> Result<Clause> {
    let is_named = |cursor: &Cursor<'_>| cursor.peek_at(1).is_some_and(|token| token.name().is_some());
    if cursor.is_at(&["COLUMN"]) && is_named(cursor) {
        cursor.next();
        return Ok(Clause::DropColumn(cursor.name("the column's name")?));
    }
    if cursor.is_at(&["CONSTRAINT"]) || cursor.is_at(&["CHECK"]) && is_named(cursor) {
        cursor.next();
        return Ok(Clause::DropConstraint(cursor.name("the constraint's name")?));
    }
    if cursor.take(&["PRIMARY", "KEY"]) {
        return Ok(Clause::DropPrimaryKey);
    }
    if (cursor.is_at(&["INDEX"]) || cursor.is_at(&["KEY"])) && is_named(cursor) {
        cursor.next();
        return Ok(Clause::DropIndex(cursor.name("the index's name")?));
    }
    Ok(Clause::DropColumn(cursor.name("the column's name")?))
}

fn alter(cursor: &mut Cursor<'_>) -> Result<Clause> {
    // A column may be called `column`: then a keyword of this clause follows it.
    let is_word = cursor.is_at(&["COLUMN"])
        && !["SET", "TYPE", "DROP"].iter().any(|word| cursor.peek_at(1).is_some_and(|token| token.is(word)));
    if is_word {
        cursor.next();
    }
    let column = cursor.name("the column's name")?;
    if cursor.take(&["SET", "DATA", "TYPE"]) || cursor.take(&["TYPE"]) {
        let to = cursor.until(|token| token.is("USING"))?.to_owned();
        let using = if cursor.take(&["USING"]) { Some(cursor.until(|_| false)?.to_owned()) } else { None };
        return Ok(Clause::Type { column, to, using });
    }
    if cursor.take(&["SET", "DEFAULT"]) {
        return Ok(Clause::SetDefault { column, value: cursor.until(|_| false)?.to_owned() });
    }
    if cursor.take(&["DROP", "DEFAULT"]) {
        return Ok(Clause::DropDefault(column));
    }
    if cursor.take(&["SET", "NOT", "NULL"]) {
        return Ok(Clause::SetNotNull(column));
    }
    if cursor.take(&["DROP", "NOT", "NULL"]) {
        return Ok(Clause::DropNotNull(column));
    }
    Err(cursor.unexpected("TYPE, SET DEFAULT, DROP DEFAULT, SET NOT NULL or DROP NOT NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Statement, parse};

    fn of(text: &str) -> Vec<Clause> {
        match parse(&format!("ALTER TABLE t {text}")) {
            Ok(Statement::AlterTable { clauses, .. }) => clauses,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn customary_clauses() {
        assert_eq!(
            of("ALTER COLUMN a SET DATA TYPE DECIMAL(10, 2) USING round(b, 2), ALTER c TYPE text"),
            [
                Clause::Type {
                    column: "a".into(),
                    to: "DECIMAL(10, 2)".into(),
                    using: Some("round(b, 2)".into())
                },
                Clause::Type { column: "c".into(), to: "text".into(), using: None },
            ]
        );
        assert_eq!(
            of(
                "ALTER a SET DEFAULT (1 + 1), ALTER a DROP DEFAULT, ALTER a SET NOT NULL, ALTER a DROP NOT NULL"
            ),
            [
                Clause::SetDefault { column: "a".into(), value: "(1 + 1)".into() },
                Clause::DropDefault("a".into()),
                Clause::SetNotNull("a".into()),
                Clause::DropNotNull("a".into()),
            ]
        );
        assert_eq!(
            of("DROP PRIMARY KEY, DROP CONSTRAINT x, DROP INDEX i, DROP b, DROP COLUMN c"),
            [
                Clause::DropPrimaryKey,
                Clause::DropConstraint("x".into()),
                Clause::DropIndex("i".into()),
                Clause::DropColumn("b".into()),
                Clause::DropColumn("c".into()),
            ]
        );
        assert_eq!(
            of("ADD UNIQUE INDEX i (a, b) WHERE a > 1"),
            [Clause::AddIndex {
                name: "i".into(),
                sql: "CREATE UNIQUE INDEX \"i\" ON \"t\"(a, b) WHERE a > 1".into()
            }]
        );
        assert!(
            matches!(&of("ADD CONSTRAINT u UNIQUE (a)")[..], [Clause::AddConstraint(c)] if c.name.as_deref() == Some("u"))
        );
        assert!(matches!(&of("ADD key INT")[..], [Clause::AddColumn(c)] if c.name == "key"));
        assert!(
            matches!(&of("CHANGE a b BIGINT NOT NULL")[..], [Clause::Modify { from, to }] if from == "a" && to.name == "b")
        );
        assert!(matches!(&of("RENAME a TO b")[..], [Clause::RenameColumn { .. }]));
    }

    #[test]
    fn what_sqlite_cannot_mean_is_refused() {
        for text in [
            "ADD c INT AFTER b",
            "RENAME INDEX a TO b",
            "RENAME TO x, ADD c INT",
            "ADD COLUMN IF NOT EXISTS c INT",
        ] {
            let error = parse(&format!("ALTER TABLE t {text}")).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        }
    }
}
