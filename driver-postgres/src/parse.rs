//! What a person's statement says, as far as a plan has to take it apart. Names stay as they were typed: the server reads
//! them.

use replank_core::{Error, ErrorKind, Result};
use squawk_syntax::SourceFile;
use squawk_syntax::ast::{
    AlterColumnOption, AlterTableAction, AstNode as _, Constraint, ConstraintOption, Reindex, ReindexOption,
    ReindexTarget, Stmt, TableRelationName,
};

use crate::object::{Object, object};

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `ALTER TABLE`.
    AlterTable {
        /// Which.
        table: String,
        /// `ONLY` was said.
        only: bool,
        /// What is done, in order.
        actions: Vec<Action>,
    },
    /// `CREATE INDEX`.
    CreateIndex(CreateIndex),
    /// `DROP INDEX`.
    DropIndex {
        /// Which.
        index: String,
        /// It need not be there.
        if_exists: bool,
        /// `CONCURRENTLY` was said.
        is_concurrent: bool,
    },
    /// `REINDEX INDEX` or `REINDEX TABLE`.
    Reindex {
        /// Which index or table.
        name: String,
        /// All indexes of a table.
        is_table: bool,
        /// `CONCURRENTLY` was said.
        is_concurrent: bool,
        /// What else was said, such as `VERBOSE`.
        options: Vec<String>,
    },
    /// What is about something other than the columns and indexes of a table.
    Object(Box<Object>),
}

/// `CREATE INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// Its name, if it was given.
    pub name: Option<String>,
    /// On which table.
    pub table: String,
    /// `ONLY` was said.
    pub only: bool,
    /// It is unique.
    pub is_unique: bool,
    /// It may be there already.
    pub if_not_exists: bool,
    /// `CONCURRENTLY` was said.
    pub is_concurrent: bool,
    /// Everything after the table's name.
    pub tail: String,
}

/// One part of an `ALTER TABLE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// As it was typed.
    pub text: String,
    /// What it is.
    pub kind: Kind,
}

/// What a part of an `ALTER TABLE` is, where that decides how it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `ADD COLUMN`.
    AddColumn {
        /// Its name.
        column: String,
        /// The definition without the constraints beneath.
        plain: String,
        /// Constraints that would be checked against every row, or build an index.
        constraints: Vec<Added>,
        /// It may be there already.
        if_not_exists: bool,
    },
    /// `DROP COLUMN`.
    DropColumn {
        /// Which.
        column: String,
    },
    /// `TYPE`.
    SetType {
        /// Of which column.
        column: String,
        /// The value that a row gets.
        using: Option<String>,
    },
    /// `SET NOT NULL`.
    SetNotNull {
        /// Of which column.
        column: String,
    },
    /// `DROP NOT NULL`.
    DropNotNull {
        /// Of which column.
        column: String,
    },
    /// `ADD CONSTRAINT`.
    AddConstraint(Added),
    /// `DROP CONSTRAINT`.
    DropConstraint {
        /// Which.
        name: String,
    },
    /// `VALIDATE CONSTRAINT`.
    Validate,
    /// `RENAME COLUMN`, with the names before and after.
    RenameColumn(String, String),
    /// `RENAME TO`, with the new name.
    RenameTable(String),
    /// `SET LOGGED`, or `SET UNLOGGED`.
    SetLasting {
        /// A crash empties it.
        is_unlogged: bool,
    },
    /// `SET TABLESPACE`.
    SetTablespace {
        /// Which.
        name: String,
    },
    /// `SET ACCESS METHOD`.
    SetAccessMethod {
        /// Which; `None` for the one that the server takes by itself.
        name: Option<String>,
    },
    /// What changes the catalogue alone, and cannot be tried on a copy: triggers, rules, policies, owner.
    Catalogue,
    /// `ATTACH PARTITION`.
    Attach {
        /// Which table.
        child: String,
        /// `FOR VALUES …`, or `DEFAULT`.
        bound: String,
    },
    /// `DETACH PARTITION`, in whatever way.
    Detach {
        /// Which partition.
        child: String,
    },
    /// What else there is of partitions and inheritance.
    Hierarchy,
    /// Anything that the server is asked about.
    Other,
}

/// A constraint that is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its name, if it was given.
    pub name: Option<String>,
    /// As it was typed, without the name.
    pub text: String,
    /// What it is.
    pub kind: AddedKind,
    /// `NOT VALID` was said.
    pub not_valid: bool,
    /// The table that a foreign key refers to.
    pub refers_to: Option<String>,
}

/// What a constraint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddedKind {
    /// `CHECK`.
    Check,
    /// `FOREIGN KEY` or `REFERENCES`.
    ForeignKey,
    /// `UNIQUE`.
    Unique,
    /// `PRIMARY KEY`.
    PrimaryKey,
    /// One of these by an index that is there already.
    UsingIndex,
    /// `NOT NULL` with a name.
    NotNull,
    /// `EXCLUDE`.
    Exclude,
}

/// Reads a text that must be one statement.
///
/// # Errors
/// [`ErrorKind::Usage`] when it is not, or is not understood; [`ErrorKind::Refused`] for a statement that changes no
/// table.
pub fn parse(text: &str) -> Result<Statement> {
    let mut statements = read(text)?.into_iter();
    match (statements.next(), statements.next()) {
        (Some(one), None) => statement(one),
        _ => Err(usage("exactly one statement is expected".to_owned())),
    }
}

/// The one statement that a text has between BEGIN and COMMIT; `None` for any other text.
///
/// # Errors
/// [`ErrorKind::Usage`] for what is not understood.
pub fn within_transaction(text: &str) -> Result<Option<String>> {
    let statements = read(text)?;
    Ok(match statements.as_slice() {
        [Stmt::Begin(_), one, Stmt::Commit(_)] => Some(text_of(one)),
        _ => None,
    })
}

/// The same for several.
pub fn parse_all(text: &str) -> Result<Vec<Statement>> {
    read(text)?.into_iter().map(statement).collect()
}

/// The statements of a text.
pub fn read(text: &str) -> Result<Vec<Stmt>> {
    let parsed = SourceFile::parse(text);
    if let Some(error) = parsed.errors().first() {
        let at = usize::from(error.range().start());
        let near: String = text.get(at..).unwrap_or_default().chars().take(30).collect();
        return Err(usage(format!("{}, near `{near}`", error.message())));
    }
    Ok(parsed.tree().stmts().collect())
}

/// What a statement of [`read`] says.
pub fn statement(statement: Stmt) -> Result<Statement> {
    match statement {
        Stmt::AlterTable(alter) => {
            let relation = needed(alter.table_relation_name(), "a table")?;
            let actions: Vec<Action> = alter.actions().map(|one| action(&one)).collect::<Result<_>>()?;
            if actions.is_empty() {
                return Err(usage("nothing is altered".to_owned()));
            }
            Ok(Statement::AlterTable {
                table: name_of(&relation)?,
                only: relation.only_token().is_some(),
                actions,
            })
        }
        Stmt::CreateIndex(index) => {
            let relation = needed(index.table_relation_name(), "a table")?;
            Ok(Statement::CreateIndex(CreateIndex {
                name: index.index().map(|name| name.syntax().text().to_string().trim().to_owned()),
                table: name_of(&relation)?,
                only: relation.only_token().is_some(),
                is_unique: index.unique_token().is_some(),
                if_not_exists: index.if_not_exists().is_some(),
                is_concurrent: index.concurrently_token().is_some(),
                tail: text_after(&index, &relation),
            }))
        }
        Stmt::DropIndex(drop) => {
            let mut names = drop.index_refs();
            let (Some(index), None) = (names.next(), names.next()) else {
                return Err(refused("several indexes at once", "drop one index in each statement"));
            };
            if drop.drop_behavior().is_some_and(|behavior| text_of(&behavior).eq_ignore_ascii_case("cascade"))
            {
                return Err(refused("DROP INDEX … CASCADE", "drop what depends on the index first"));
            }
            Ok(Statement::DropIndex {
                index: text_of(&index),
                if_exists: drop.if_exists().is_some(),
                is_concurrent: drop.concurrently_token().is_some(),
            })
        }
        Stmt::Reindex(reindex) => reindex_of(&reindex),
        other => match object(&other)? {
            Some(object) => Ok(Statement::Object(Box::new(object))),
            None => {
                let words: Vec<String> =
                    text_of(&other).split_whitespace().take(2).map(str::to_uppercase).collect();
                Err(Error::new(ErrorKind::Refused, format!("{} is not run by replank", words.join(" ")))
                    .hint("it changes no table, or it is not known what it locks: run it yourself, with SET lock_timeout"))
            }
        },
    }
}

fn reindex_of(reindex: &Reindex) -> Result<Statement> {
    let mut is_concurrent = text_of(reindex).to_uppercase().contains(" CONCURRENTLY ");
    let mut options = Vec::new();
    for option in reindex.reindex_option_list().iter().flat_map(|list| list.reindex_options()) {
        match option {
            ReindexOption::ReindexOptionConcurrently(said) => {
                let words = text_of(&said).to_uppercase();
                is_concurrent = !["FALSE", "OFF", "0"].iter().any(|no| words.ends_with(no));
            }
            other => options.push(text_of(&other)),
        }
    }
    match needed(reindex.reindex_target(), "what to reindex")? {
        ReindexTarget::ReindexTargetIndex(target) => Ok(Statement::Reindex {
            name: last_word(&text_of(&target), "INDEX"),
            is_table: false,
            is_concurrent,
            options,
        }),
        ReindexTarget::ReindexTargetTable(target) => Ok(Statement::Reindex {
            name: last_word(&text_of(&target), "TABLE"),
            is_table: true,
            is_concurrent,
            options,
        }),
        _ => Err(refused(
            "REINDEX of a whole schema or database",
            "reindex one table or index in each statement",
        )),
    }
}

fn action(action: &AlterTableAction) -> Result<Action> {
    let kind = match action {
        AlterTableAction::AddColumn(add) => {
            let column = text_of(&needed(add.column_name(), "a column")?);
            let (mut plain, mut constraints) = (vec![column.clone()], Vec::new());
            plain.extend(add.ty().map(|ty| text_of(&ty)));
            plain.extend(add.alter_option_list().map(|options| text_of(&options)));
            plain.extend(add.collate().map(|collate| text_of(&collate)));
            for constraint in add.constraints() {
                match added(&constraint, Some(&column)) {
                    Some(added) => constraints.push(added),
                    None => plain.push(text_of(&constraint)),
                }
            }
            let plain = plain.join(" ");
            Kind::AddColumn { column, plain, constraints, if_not_exists: add.if_not_exists().is_some() }
        }
        AlterTableAction::DropColumn(drop) => {
            Kind::DropColumn { column: text_of(&needed(drop.column_name_ref(), "a column")?) }
        }
        AlterTableAction::AlterColumn(alter) => {
            let column = || Ok::<_, Error>(text_of(&needed(alter.column_name_ref(), "a column")?));
            match alter.option() {
                Some(AlterColumnOption::SetType(set)) => Kind::SetType {
                    column: column()?,
                    using: set.using_expr().and_then(|using| using.expr()).map(|expr| text_of(&expr)),
                },
                Some(AlterColumnOption::SetNotNull(_)) => Kind::SetNotNull { column: column()? },
                Some(AlterColumnOption::DropNotNull(_)) => Kind::DropNotNull { column: column()? },
                _ => Kind::Other,
            }
        }
        AlterTableAction::AddConstraint(add) => match added(&needed(add.constraint(), "a constraint")?, None)
        {
            Some(added) => Kind::AddConstraint(added),
            None => Kind::Other,
        },
        AlterTableAction::DropConstraint(drop) => {
            Kind::DropConstraint { name: text_of(&needed(drop.constraint_name_ref(), "a constraint")?) }
        }
        AlterTableAction::ValidateConstraint(_) => Kind::Validate,
        AlterTableAction::RenameColumn(rename) => Kind::RenameColumn(
            text_of(&needed(rename.column_name_ref(), "a column")?),
            text_of(&needed(rename.column_name(), "a new name")?),
        ),
        AlterTableAction::TableRenameTo(rename) => {
            Kind::RenameTable(text_of(&needed(rename.table_name(), "a new name")?))
        }
        AlterTableAction::SetLogged(_) => Kind::SetLasting { is_unlogged: false },
        AlterTableAction::SetUnlogged(_) => Kind::SetLasting { is_unlogged: true },
        AlterTableAction::SetTablespace(set) => {
            Kind::SetTablespace { name: text_of(&needed(set.tablespace_ref(), "a tablespace")?) }
        }
        AlterTableAction::SetAccessMethod(set) => Kind::SetAccessMethod {
            name: match set.default_token() {
                Some(_) => None,
                None => Some(text_of(&needed(set.access_method_ref(), "an access method")?)),
            },
        },
        AlterTableAction::AttachPartition(attach) => Kind::Attach {
            child: text_of(&needed(attach.table_name_ref(), "a table")?),
            bound: text_of(&needed(attach.partition_type(), "the bounds of a partition")?),
        },
        AlterTableAction::DetachPartition(detach) => {
            Kind::Detach { child: text_of(&needed(detach.table_name_ref(), "a partition")?) }
        }
        AlterTableAction::MergePartitions(_)
        | AlterTableAction::SplitPartition(_)
        | AlterTableAction::InheritTable(_)
        | AlterTableAction::NoInheritTable(_)
        | AlterTableAction::OfType(_)
        | AlterTableAction::NotOf(_)
        | AlterTableAction::SetSchema(_) => Kind::Hierarchy,
        AlterTableAction::ClusterOn(_)
        | AlterTableAction::SetWithoutCluster(_)
        | AlterTableAction::DisableRls(_)
        | AlterTableAction::EnableRls(_)
        | AlterTableAction::ForceRls(_)
        | AlterTableAction::NoForceRls(_)
        | AlterTableAction::DisableRule(_)
        | AlterTableAction::EnableRule(_)
        | AlterTableAction::EnableAlwaysRule(_)
        | AlterTableAction::EnableReplicaRule(_)
        | AlterTableAction::DisableTrigger(_)
        | AlterTableAction::EnableTrigger(_)
        | AlterTableAction::EnableAlwaysTrigger(_)
        | AlterTableAction::EnableReplicaTrigger(_)
        | AlterTableAction::OwnerTo(_)
        | AlterTableAction::ReplicaIdentity(_) => Kind::Catalogue,
        _ => Kind::Other,
    };
    Ok(Action { text: text_of(action), kind })
}

/// A constraint that every row is held against; `None` for what belongs to the column itself.
fn added(constraint: &Constraint, column: Option<&str>) -> Option<Added> {
    let (kind, clause, options) = match constraint {
        Constraint::CheckConstraint(check) => {
            (AddedKind::Check, check.constraint_name_clause(), check.constraint_options().collect::<Vec<_>>())
        }
        Constraint::ForeignKeyConstraint(key) => {
            (AddedKind::ForeignKey, key.constraint_name_clause(), key.constraint_options().collect())
        }
        Constraint::ReferencesConstraint(key) => {
            (AddedKind::ForeignKey, key.constraint_name_clause(), key.constraint_options().collect())
        }
        Constraint::UniqueConstraint(unique) => {
            let kind = if unique.using_index().is_some() { AddedKind::UsingIndex } else { AddedKind::Unique };
            (kind, unique.constraint_name_clause(), unique.constraint_options().collect())
        }
        Constraint::PrimaryKeyConstraint(key) => {
            let kind =
                if key.using_index().is_some() { AddedKind::UsingIndex } else { AddedKind::PrimaryKey };
            (kind, key.constraint_name_clause(), key.constraint_options().collect())
        }
        Constraint::ExcludeConstraint(exclude) => {
            (AddedKind::Exclude, exclude.constraint_name_clause(), exclude.constraint_options().collect())
        }
        Constraint::NotNullConstraint(not_null) if column.is_none() => {
            (AddedKind::NotNull, not_null.constraint_name_clause(), not_null.constraint_options().collect())
        }
        Constraint::NotNullConstraint(_)
        | Constraint::NullConstraint(_)
        | Constraint::DefaultConstraint(_)
        | Constraint::GeneratedConstraint(_) => return None,
    };
    let not_valid = options.iter().any(|option| matches!(option, ConstraintOption::NotValid(_)));
    let whole = text_of(constraint);
    let (name, mut text) = match clause {
        Some(clause) => {
            let clause = text_of(&clause);
            let rest = whole.strip_prefix(&clause).unwrap_or(&whole).trim().to_owned();
            (
                Some(clause.split_once(char::is_whitespace).map_or("", |(_, name)| name).trim().to_owned()),
                rest,
            )
        }
        None => (None, whole),
    };
    if let Some(column) = column {
        // As a constraint of the table it names its columns.
        text = match kind {
            AddedKind::ForeignKey => format!("FOREIGN KEY ({column}) {text}"),
            AddedKind::Unique => text.replacen(&first_words(&text, 1), &format!("UNIQUE ({column})"), 1),
            AddedKind::PrimaryKey => {
                text.replacen(&first_words(&text, 2), &format!("PRIMARY KEY ({column})"), 1)
            }
            _ => text,
        };
    }
    let refers_to = match constraint {
        Constraint::ForeignKeyConstraint(key) => key.table_name_ref(),
        Constraint::ReferencesConstraint(key) => key.table(),
        _ => None,
    };
    Some(Added { name, text, kind, not_valid, refers_to: refers_to.map(|name| text_of(&name)) })
}

/// What stands in a statement behind a part of it.
pub fn text_after(
    whole: &impl squawk_syntax::ast::AstNode,
    part: &impl squawk_syntax::ast::AstNode,
) -> String {
    let after = part.syntax().text_range().end() - whole.syntax().text_range().start();
    let text = whole.syntax().text().to_string();
    let tail = text.get(usize::from(after)..).unwrap_or_default();
    tail.trim().trim_end_matches(';').trim().to_owned()
}

/// The first words of a text with what is between them.
fn first_words(text: &str, words: usize) -> String {
    let mut end = 0;
    for _ in 0..words {
        let rest = &text[end..];
        let begins = end + (rest.len() - rest.trim_start().len());
        end = text[begins..].find(char::is_whitespace).map_or(text.len(), |at| begins + at);
    }
    text[..end].to_owned()
}

fn name_of(relation: &TableRelationName) -> Result<String> {
    Ok(text_of(&needed(relation.table_name_ref(), "a table")?))
}

/// What stands behind a keyword, perhaps with CONCURRENTLY between.
fn last_word(text: &str, keyword: &str) -> String {
    let upper = text.to_uppercase();
    let rest = upper.find(keyword).map_or(text, |at| &text[at + keyword.len()..]).trim();
    match rest.get(..12) {
        Some(word) if word.eq_ignore_ascii_case("concurrently") => rest[12..].trim().to_owned(),
        _ => rest.to_owned(),
    }
}

pub fn text_of(node: &impl squawk_syntax::ast::AstNode) -> String {
    node.syntax().text().to_string().trim().to_owned()
}

pub fn needed<T>(part: Option<T>, what: &str) -> Result<T> {
    part.ok_or_else(|| usage(format!("{what} is expected")))
}

/// A statement that is not understood.
pub fn usage(what: String) -> Error {
    Error::new(ErrorKind::Usage, format!("the statement is not understood: {what}"))
}

pub fn refused(what: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("{what} is not run by replank")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(text: &str) -> Vec<Action> {
        match parse(text).expect("understood") {
            Statement::AlterTable { actions, .. } => actions,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_added_column_is_told_from_its_constraints() {
        let parts = actions(
            "ALTER TABLE ONLY \"My\".t ADD COLUMN c numeric(10, 2) DEFAULT 0 NOT NULL CONSTRAINT pos CHECK (c > 0)
             REFERENCES other (id) ON DELETE CASCADE UNIQUE, ALTER b SET NOT NULL",
        );
        let Kind::AddColumn { column, plain, constraints, .. } = &parts[0].kind else { panic!("{parts:?}") };
        assert_eq!((column.as_str(), plain.as_str()), ("c", "c numeric(10, 2) DEFAULT 0 NOT NULL"));
        let texts: Vec<&str> = constraints.iter().map(|added| added.text.as_str()).collect();
        assert_eq!(
            texts,
            ["CHECK (c > 0)", "FOREIGN KEY (c) REFERENCES other (id) ON DELETE CASCADE", "UNIQUE (c)"]
        );
        assert_eq!(constraints[0].name.as_deref(), Some("pos"));
        assert_eq!(parts[1].kind, Kind::SetNotNull { column: "b".to_owned() });
    }

    #[test]
    fn an_index_keeps_all_that_follows_the_table() {
        let text = "create unique index concurrently if not exists \"I x\" on only s.t using btree (lower(a) desc) include (b) where a > 'x;' ;";
        let Statement::CreateIndex(index) = parse(text).expect("understood") else { panic!() };
        assert_eq!(index.name.as_deref(), Some("\"I x\""));
        assert_eq!((index.table.as_str(), index.only, index.is_unique), ("s.t", true, true));
        assert_eq!(index.tail, "using btree (lower(a) desc) include (b) where a > 'x;'");
    }

    #[test]
    fn begin_and_commit_are_taken_off_around_one_statement() {
        let inner = "CREATE INDEX CONCURRENTLY i ON t (a)";
        for text in [
            format!("BEGIN; {inner}; COMMIT"),
            format!("begin transaction isolation level serializable;\n{inner};\ncommit;"),
            format!("START TRANSACTION; {inner}; END;"),
        ] {
            let found = within_transaction(&text).expect(&text).expect(&text);
            assert_eq!(found.trim_end_matches(';').trim(), inner, "{text}");
        }
        for text in [
            inner.to_owned(),
            format!("BEGIN; {inner}; ROLLBACK"),
            format!("BEGIN; {inner}; {inner}; COMMIT"),
        ] {
            assert_eq!(within_transaction(&text).expect(&text), None, "{text}");
        }
    }

    #[test]
    fn constraints_are_told_apart() {
        let parts = actions(
            "ALTER TABLE t ADD CONSTRAINT \"c 1\" CHECK (a > 0) NOT VALID, ADD PRIMARY KEY USING INDEX i, ADD FOREIGN KEY (a) REFERENCES p,
             ADD EXCLUDE USING gist (r WITH &&), DROP CONSTRAINT x, VALIDATE CONSTRAINT y, SET (fillfactor = 70)",
        );
        let kinds: Vec<_> = parts
            .iter()
            .map(|part| match &part.kind {
                Kind::AddConstraint(added) => {
                    format!("{:?} {:?} {}", added.kind, added.name, added.not_valid)
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "Check Some(\"\\\"c 1\\\"\") true",
                "UsingIndex None false",
                "ForeignKey None false",
                "Exclude None false",
                "DropConstraint { name: \"x\" }",
                "Validate",
                "Other",
            ]
        );
    }

    #[test]
    fn other_texts_are_refused_with_what_is_wrong() {
        for (text, kind) in [
            ("", ErrorKind::Usage),
            ("ALTER TALBE t ADD c int", ErrorKind::Usage),
            ("ALTER TABLE t ADD c int; DROP TABLE t", ErrorKind::Usage),
            ("SELECT 1", ErrorKind::Refused),
            ("DROP INDEX a, b", ErrorKind::Refused),
            ("REINDEX DATABASE d", ErrorKind::Refused),
        ] {
            assert_eq!(parse(text).expect_err(text).kind(), kind, "{text}");
        }
        for (text, options, is_concurrent) in [
            ("REINDEX (VERBOSE) TABLE CONCURRENTLY s.t", vec!["VERBOSE"], true),
            (
                "REINDEX (TABLESPACE \"My fast\", CONCURRENTLY, VERBOSE true) TABLE s.t",
                vec!["TABLESPACE \"My fast\"", "VERBOSE true"],
                true,
            ),
            ("REINDEX (CONCURRENTLY off) TABLE s.t", vec![], false),
        ] {
            let (name, options) = ("s.t".to_owned(), options.into_iter().map(ToOwned::to_owned).collect());
            let wanted = Statement::Reindex { name, is_table: true, is_concurrent, options };
            assert_eq!(parse(text).expect(text), wanted, "{text}");
        }
    }
}
