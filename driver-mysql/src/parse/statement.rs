//! One statement: which table, and which clauses of an ALTER TABLE it comes to.

use replank_core::{Error, ErrorKind, Result};

use super::clause::{Clause, Target, clauses};
use super::cursor::{Cursor, usage};
use super::token::tokens;
use crate::sql::ident;

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The database, where it says so.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// What is to be done.
    pub action: Action,
}

/// What a statement does to its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Clauses of an ALTER TABLE: that is what CREATE INDEX, DROP INDEX and OPTIMIZE come to as well.
    Alter(Vec<Clause>),
    /// The table gets another name, and nothing else.
    Rename {
        /// The database, where it says so.
        schema: Option<String>,
        /// The name.
        table: String,
    },
    /// The table goes.
    Drop {
        /// And need not be there.
        if_exists: bool,
    },
}

/// Reads a whole definition: one `CREATE TABLE name (…) …`, and nothing that takes rows or a shape from elsewhere.
///
/// # Errors
/// [`ErrorKind::Usage`] for anything else.
pub fn parse_shape(sql: &str) -> Result<String> {
    let mut all = tokens(sql)?;
    while all.last().is_some_and(|token| token.is_sign(';')) {
        all.pop();
    }
    let usage = |what: &str| {
        Error::new(ErrorKind::Usage, what)
            .hint("the shape is one CREATE TABLE statement, as SHOW CREATE TABLE prints it")
    };
    if all.iter().any(|token| token.is_sign(';')) {
        return Err(usage("exactly one statement is taken; there are several"));
    }
    let mut cursor = Cursor { sql, tokens: &all, at: 0 };
    if !cursor.words(&["CREATE", "TABLE"]) {
        return Err(usage("the shape is no CREATE TABLE statement"));
    }
    let _ = cursor.words(&["IF", "NOT", "EXISTS"]);
    let (schema, table) = cursor.name()?;
    if schema.is_some() {
        return Err(usage("the shape names a database: leave it out"));
    }
    let has_columns = cursor.peek().is_some_and(|token| token.is_sign('('))
        && !cursor.tokens.get(cursor.at + 1).is_some_and(|token| token.is("LIKE"));
    if !has_columns || all.iter().any(|token| token.is("SELECT")) {
        return Err(usage("the shape does not list its columns"));
    }
    Ok(table)
}

/// Reads one statement.
///
/// # Errors
/// [`ErrorKind::Usage`] for anything but exactly one statement of a known kind;
/// [`ErrorKind::Refused`] for one that is known and not supported.
pub fn parse(sql: &str) -> Result<Statement> {
    let mut all = tokens(sql)?;
    while all.last().is_some_and(|token| token.is_sign(';')) {
        all.pop();
    }
    if all.is_empty() {
        return Err(usage("there is no statement"));
    }
    if all.iter().any(|token| token.is_sign(';')) {
        return Err(usage("exactly one statement is taken; there are several"));
    }
    let mut cursor = Cursor { sql, tokens: &all, at: 0 };
    let statement = statement(&mut cursor)?;
    match cursor.peek() {
        None => Ok(statement),
        Some(token) => Err(usage(&format!("`{}` was not expected there", token.text))),
    }
}

fn statement(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.words(&["ALTER", "TABLE"]) {
        let (schema, table) = cursor.name()?;
        let clauses = clauses(cursor)?;
        let action = match rename_alone(&clauses)? {
            Some((schema, table)) => Action::Rename { schema, table },
            None => Action::Alter(clauses.into_iter().map(|(clause, _)| clause).collect()),
        };
        return Ok(Statement { schema, table, action });
    }
    if cursor.words(&["RENAME", "TABLE"]) || cursor.words(&["RENAME", "TABLES"]) {
        let (schema, table) = cursor.name()?;
        cursor.expect("TO")?;
        let (to_schema, to) = cursor.name()?;
        return Ok(Statement { schema, table, action: Action::Rename { schema: to_schema, table: to } });
    }
    if cursor.words(&["OPTIMIZE"]) {
        let _ = cursor.word("NO_WRITE_TO_BINLOG") || cursor.word("LOCAL");
        let _ = cursor.word("TABLE") || cursor.word("TABLES");
        let (schema, table) = cursor.name()?;
        let clause = Clause::plain("ENGINE = InnoDB".to_owned());
        return Ok(Statement { schema, table, action: Action::Alter(vec![clause]) });
    }
    if cursor.words(&["DROP", "TABLE"]) {
        let if_exists = cursor.words(&["IF", "EXISTS"]);
        let (schema, table) = cursor.name()?;
        let _ = cursor.word("RESTRICT") || cursor.word("CASCADE");
        return Ok(Statement { schema, table, action: Action::Drop { if_exists } });
    }
    if cursor.words(&["DROP", "INDEX"]) {
        let (_, index) = cursor.name()?;
        cursor.expect("ON")?;
        let (schema, table) = cursor.name()?;
        cursor.skip_algorithm_and_lock();
        let clause = Clause::plain(format!("DROP INDEX {}", ident(&index)));
        return Ok(Statement { schema, table, action: Action::Alter(vec![clause]) });
    }
    if cursor.peek().is_some_and(|token| token.is("CREATE")) {
        return create_index(cursor);
    }
    let first = cursor.peek().map(|token| token.text.clone()).unwrap_or_default();
    if ["TRUNCATE", "INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "CREATE"]
        .iter()
        .any(|word| first.eq_ignore_ascii_case(word))
    {
        return Err(usage(&format!("{} is not a schema change of a table", first.to_uppercase())));
    }
    Err(usage(&format!("`{first}` begins no statement that is taken; was ALTER TABLE meant?")))
}

fn create_index(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.expect("CREATE")?;
    let kind =
        ["UNIQUE", "FULLTEXT", "SPATIAL"].into_iter().find(|kind| cursor.word(kind)).unwrap_or_default();
    if !cursor.word("INDEX") {
        let what = cursor.peek().map(|token| token.text.clone()).unwrap_or_default();
        return Err(usage(&format!("CREATE {what} is not a change of a table that is there")));
    }
    let (_, index) = cursor.name()?;
    let kind_from = cursor.at;
    while cursor.peek().is_some_and(|token| !token.is("ON")) {
        cursor.at += 1;
    }
    let index_type = cursor.text(kind_from, cursor.at);
    cursor.expect("ON")?;
    let (schema, table) = cursor.name()?;
    let from = cursor.at;
    let mut to = from;
    while cursor.peek().is_some() {
        if !cursor.skip_algorithm_and_lock() {
            cursor.at += 1;
            to = cursor.at;
        }
    }
    let rest = cursor.text(from, to);
    let text = format!("ADD {kind} INDEX {} {index_type} {rest}", ident(&index));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Folding white space would change a text in quotes: then it stays as it was.
    let text = if rest.contains(['\'', '"']) {
        format!("ADD {kind} INDEX {} {index_type} {rest}", ident(&index))
    } else {
        text
    };
    Ok(Statement { schema, table, action: Action::Alter(vec![Clause::plain(text)]) })
}

fn rename_alone(clauses: &[(Clause, Target)]) -> Result<Target> {
    let target = clauses.iter().find_map(|(_, target)| target.clone());
    if target.is_some() && clauses.len() > 1 {
        return Err(Error::new(ErrorKind::Refused, "the table is renamed and changed in one statement")
            .hint("make it two statements: applications meet the name and the shape at different moments"));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn clause_texts(sql: &str) -> Vec<String> {
        match parse(sql).expect(sql).action {
            Action::Alter(clauses) => clauses.into_iter().map(|clause| clause.text).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case("ALTER TABLE t ADD COLUMN a INT", &["ADD COLUMN a INT"])]
    #[case("alter table `s`.`t` modify a decimal(10,2) not null, add index i (a, b(3)) ;", &["modify a decimal(10,2) not null", "add index i (a, b(3))"])]
    #[case("ALTER TABLE t ADD a VARCHAR(9) DEFAULT 'x,y' COMMENT 'a;b', ALGORITHM=INPLACE, LOCK=NONE", &["ADD a VARCHAR(9) DEFAULT 'x,y' COMMENT 'a;b'"])]
    #[case("ALTER TABLE t ADD (a INT, b INT)", &["ADD (a INT, b INT)"])]
    #[case("ALTER TABLE t PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)", &["PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)"])]
    #[case("ALTER TABLE t ADD CHECK (a > 0 AND b IN (1, 2)), DROP CHECK c", &["ADD CHECK (a > 0 AND b IN (1, 2))", "DROP CHECK c"])]
    #[case("ALTER TABLE t ENGINE=InnoDB, COMMENT = 'x' -- why\n", &["ENGINE=InnoDB", "COMMENT = 'x'"])]
    #[case("ALTER TABLE t ADD COLUMN g INT AS (a + 1) STORED, ADD COLUMN h JSON", &["ADD COLUMN g INT AS (a + 1) STORED", "ADD COLUMN h JSON"])]
    #[case("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci", &["CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"])]
    #[case("ALTER TABLE t RENAME INDEX a TO b, ALTER COLUMN c SET DEFAULT 5", &["RENAME INDEX a TO b", "ALTER COLUMN c SET DEFAULT 5"])]
    #[case("/*!50001 ALTER TABLE t DROP COLUMN a */", &["DROP COLUMN a"])]
    #[case("CREATE INDEX i ON t (a)", &["ADD INDEX `i` (a)"])]
    #[case("CREATE UNIQUE INDEX `i` USING BTREE ON s.t (a DESC, (LOWER(b))) COMMENT 'x  y' ALGORITHM=INPLACE LOCK NONE", &["ADD UNIQUE INDEX `i` USING BTREE (a DESC, (LOWER(b))) COMMENT 'x  y'"])]
    #[case("CREATE FULLTEXT INDEX f ON t (a) WITH PARSER ngram", &["ADD FULLTEXT INDEX `f` (a) WITH PARSER ngram"])]
    #[case("DROP INDEX `PRIMARY` ON t", &["DROP INDEX `PRIMARY`"])]
    #[case("DROP INDEX i ON t ALGORITHM = INPLACE LOCK = NONE", &["DROP INDEX `i`"])]
    #[case("OPTIMIZE TABLE t", &["ENGINE = InnoDB"])]
    #[case("OPTIMIZE LOCAL TABLE s.t", &["ENGINE = InnoDB"])]
    fn clauses_are_split_and_verbatim(#[case] sql: &str, #[case] expected: &[&str]) {
        assert_eq!(clause_texts(sql), expected);
    }

    #[rstest]
    #[case("ALTER TABLE t RENAME COLUMN a TO b", ("a", "b"))]
    #[case("ALTER TABLE t CHANGE `a x` b INT NOT NULL", ("a x", "b"))]
    #[case("ALTER TABLE t CHANGE COLUMN a b INT FIRST", ("a", "b"))]
    fn renamed_columns_are_known(#[case] sql: &str, #[case] expected: (&str, &str)) {
        let Action::Alter(clauses) = parse(sql).expect(sql).action else { panic!("{sql}") };
        assert_eq!(clauses[0].renames, Some((expected.0.to_owned(), expected.1.to_owned())));
    }

    #[rstest]
    #[case("DROP a", Some("a"), &[])]
    #[case("DROP COLUMN `index`", Some("index"), &[])]
    #[case("DROP INDEX a", None, &[])]
    #[case("ADD a INT", None, &["a"])]
    #[case("ADD COLUMN (a DECIMAL(3, 2) DEFAULT 1, `b` ENUM('x', 'y'))", None, &["a", "b"])]
    #[case("ADD CONSTRAINT c CHECK (a > 0)", None, &[])]
    #[case("ADD UNIQUE (a)", None, &[])]
    fn columns_that_go_and_come_are_known(
        #[case] clause: &str,
        #[case] drops: Option<&str>,
        #[case] adds: &[&str],
    ) {
        let Action::Alter(clauses) = parse(&format!("ALTER TABLE t {clause}")).expect(clause).action else {
            panic!("{clause}")
        };
        assert_eq!(clauses[0].drops.as_deref(), drops);
        assert_eq!(clauses[0].adds, adds);
    }

    #[rstest]
    #[case("ALTER TABLE t RENAME TO u")]
    #[case("ALTER TABLE t RENAME u")]
    #[case("ALTER TABLE t RENAME AS u")]
    #[case("RENAME TABLE t TO u")]
    fn renamed_tables(#[case] sql: &str) {
        let action = parse(sql).expect(sql).action;
        assert_eq!(action, Action::Rename { schema: None, table: "u".to_owned() });
    }

    #[rstest]
    #[case("CREATE TABLE `t` (id INT PRIMARY KEY, `like` INT) ENGINE=InnoDB;", Some("t"))]
    #[case("CREATE TABLE t LIKE u", None)]
    #[case("CREATE TABLE t (LIKE u)", None)]
    #[case("CREATE TABLE t (a INT) AS SELECT 1", None)]
    #[case("CREATE TABLE s.t (a INT)", None)]
    #[case("CREATE TABLE t (a INT); DROP TABLE t", None)]
    #[case("CREATE TEMPORARY TABLE t (a INT)", None)]
    fn shapes_are_one_plain_definition(#[case] sql: &str, #[case] table: Option<&str>) {
        assert_eq!(parse_shape(sql).ok().as_deref(), table);
    }

    #[rstest]
    #[case("", "no statement")]
    #[case(" -- only a comment", "no statement")]
    #[case("ALTER TABLE t ADD a INT; DROP TABLE t", "one statement")]
    #[case("ALTER TALBE t ADD a INT", "ALTER TABLE")]
    #[case("ALTER TABLE t", "clause")]
    #[case("ALTER TABLE t ADD a INT,", "clause")]
    #[case("ALTER TABLE t ADD a INT) x", "closes nothing")]
    #[case("ALTER TABLE t ADD (a INT", "not closed")]
    #[case("ALTER TABLE t ADD a VARCHAR(9) DEFAULT 'x", "not closed")]
    #[case("ALTER TABLE t ALGORITHM=INSTANT", "nothing to change")]
    #[case("SELECT 1", "SELECT")]
    #[case("DELETE FROM t", "DELETE")]
    #[case("TRUNCATE TABLE t", "TRUNCATE")]
    #[case("CREATE TABLE t (a INT)", "CREATE")]
    #[case("DROP TABLE t u", "not expected")]
    #[case("RENAME TABLE a TO b, c TO d", "not expected")]
    #[case("CREATE INDEX ON t (a)", "expected")]
    fn what_cannot_be_meant_is_a_usage_error(#[case] sql: &str, #[case] says: &str) {
        let error = parse(sql).expect_err(sql);
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(says) || format!("{error:?}").contains(says), "{error}");
    }

    #[test]
    fn partitions_that_go_with_their_rows_are_known() {
        let sql = "ALTER TABLE t DROP PARTITION p0, `p 1`";
        let Action::Alter(clauses) = parse(sql).expect(sql).action else { panic!("{sql}") };
        let empties: Vec<&str> =
            clauses.iter().flat_map(|clause| &clause.empties).map(String::as_str).collect();
        assert_eq!(empties, ["p0", "p 1"]);
    }

    #[test]
    fn what_no_log_sees_and_what_changes_no_definition_is_refused() {
        for sql in [
            "ALTER TABLE t TRUNCATE PARTITION p",
            "ALTER TABLE t ANALYZE PARTITION p",
            "ALTER TABLE t ORDER BY a",
            "ALTER TABLE t DISABLE KEYS",
            "ALTER TABLE t DISCARD TABLESPACE",
            "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u",
        ] {
            assert_eq!(parse(sql).expect_err(sql).kind(), ErrorKind::Refused);
        }
        let both = parse("ALTER TABLE t ADD a INT, RENAME TO u").expect_err("both");
        assert_eq!(both.kind(), ErrorKind::Refused);
    }
}
