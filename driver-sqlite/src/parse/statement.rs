//! One statement, as a person typed it.

use replank_core::{Error, ErrorKind, Result};

use super::clause::{Clause, clauses};
use super::cursor::Cursor;
use super::index::IndexText;
use super::token::tokens;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `ALTER TABLE`.
    AlterTable {
        /// The table.
        table: String,
        /// What changes, in order.
        clauses: Vec<Clause>,
    },
    /// `CREATE INDEX`.
    CreateIndex(IndexText),
    /// `DROP INDEX`.
    DropIndex {
        /// The index.
        name: String,
        /// `IF EXISTS` was given.
        if_exists: bool,
    },
    /// `DROP TABLE`.
    DropTable {
        /// The table.
        name: String,
        /// `IF EXISTS` was given.
        if_exists: bool,
    },
}

const ACCEPTED: &str = "ALTER TABLE, CREATE [UNIQUE] INDEX, DROP INDEX and DROP TABLE are accepted";

/// Reads exactly one statement.
///
/// # Errors
/// [`ErrorKind::Usage`] for several statements, none, or one that changes no schema;
/// [`ErrorKind::Refused`] for an object that cannot be changed online.
pub fn parse(text: &str) -> Result<Statement> {
    let text = one_statement(text)?;
    let mut cursor = Cursor::new(text)?;
    let statement = if cursor.take(&["ALTER", "TABLE"]) {
        let table = table_name(&mut cursor)?;
        Statement::AlterTable { clauses: clauses(&mut cursor, &table)?, table }
    } else if cursor.is_at(&["CREATE", "INDEX"]) || cursor.is_at(&["CREATE", "UNIQUE", "INDEX"]) {
        let schema_is_other = text_schema(text)?;
        refuse_other_schema(schema_is_other.as_deref())?;
        return Ok(Statement::CreateIndex(IndexText::parse(text)?));
    } else if cursor.take(&["DROP", "INDEX"]) {
        let if_exists = cursor.take(&["IF", "EXISTS"]);
        Statement::DropIndex { name: table_name(&mut cursor)?, if_exists }
    } else if cursor.take(&["DROP", "TABLE"]) {
        let if_exists = cursor.take(&["IF", "EXISTS"]);
        Statement::DropTable { name: table_name(&mut cursor)?, if_exists }
    } else {
        return Err(not_accepted(&cursor));
    };
    if cursor.is_done() { Ok(statement) } else { Err(cursor.unexpected("the end")) }
}

/// The text without the semicolon behind it.
fn one_statement(text: &str) -> Result<&str> {
    let found = tokens(text)?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "there is no statement").hint(ACCEPTED));
    }
    let end = found.iter().position(|token| token.is_sign(";"));
    match end {
        Some(place) if found[place..].iter().all(|token| token.is_sign(";")) => {
            Ok(&text[..found[place].start])
        }
        // A semicolon inside a trigger's body ends no statement, but a trigger is not accepted anyway.
        Some(_) => Err(Error::new(ErrorKind::Usage, "several statements where one is expected")
            .hint("give one statement; several clauses of one ALTER TABLE are separated by commas")),
        None => Ok(text),
    }
}

fn table_name(cursor: &mut Cursor<'_>) -> Result<String> {
    let first = cursor.name("a name")?;
    if !cursor.take_sign(".") {
        return Ok(first);
    }
    refuse_other_schema(Some(&first))?;
    cursor.name("a name")
}

/// The schema of `CREATE INDEX schema.name`.
fn text_schema(text: &str) -> Result<Option<String>> {
    let found = tokens(text)?;
    let dot = found.iter().take_while(|token| !token.is("ON")).position(|token| token.is_sign("."));
    Ok(dot.and_then(|place| found[place - 1].name()))
}

fn refuse_other_schema(schema: Option<&str>) -> Result<()> {
    match schema {
        Some(schema) if !schema.eq_ignore_ascii_case("main") => {
            Err(Error::new(ErrorKind::Refused, format!("`{schema}` is not the database of the target")).hint(
                "temporary tables belong to one connection; for an attached file, connect to that file",
            ))
        }
        _ => Ok(()),
    }
}

fn not_accepted(cursor: &Cursor<'_>) -> Error {
    let words: Vec<&str> = (0..2).filter_map(|ahead| cursor.peek_at(ahead)).map(|token| token.text).collect();
    let first = words.first().copied().unwrap_or_default().to_ascii_uppercase();
    let message = match first.as_str() {
        "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "WITH" | "VALUES" => {
            format!("`{first}` changes no schema")
        }
        "EXPLAIN" => "`EXPLAIN` changes nothing; `replank plan` says how a change would be done".to_owned(),
        _ => format!("`{}` is not a statement that can be run here", words.join(" ")),
    };
    Error::new(ErrorKind::Usage, message).hint(ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", "no statement")]
    #[case("-- nothing\n", "no statement")]
    #[case("ALTER TABLE t DROP COLUMN a; DROP TABLE t", "several statements")]
    #[case("SELECT 1", "changes no schema")]
    #[case("insert into t values (1)", "changes no schema")]
    #[case("EXPLAIN ALTER TABLE t DROP COLUMN a", "EXPLAIN")]
    #[case("CREATE VIEW v AS SELECT 1", "CREATE VIEW")]
    #[case("ALTER TABLE t", "is expected")]
    #[case("ALTER TABLE t DROP COLUMN a b", "is expected")]
    #[case("DROP TABLE t CASCADE", "the end is expected")]
    fn what_is_not_one_statement_is_a_usage_error(#[case] text: &str, #[case] part: &str) {
        let error = parse(text).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn another_database_is_refused() {
        for text in ["ALTER TABLE temp.t ADD c", "DROP INDEX x.i", "CREATE INDEX x.i ON t(a)"] {
            assert_eq!(parse(text).expect_err(text).kind(), ErrorKind::Refused);
        }
        assert!(parse("ALTER TABLE main.t ADD c").is_ok());
    }

    #[test]
    fn semicolons_in_quotes_end_nothing() {
        let parsed = parse("ALTER TABLE \"a;b\" ADD c DEFAULT ';' /* ; */ ;;").expect("parses");
        assert!(matches!(parsed, Statement::AlterTable { table, .. } if table == "a;b"));
    }
}
