//! Statements that change something other than the columns and indexes of a table: what they say, as far as a plan has to
//! know.

use replank_core::{Error, ErrorKind, Result};
use squawk_syntax::ast::{
    AlterDomainAction, AlterIndexAction, AlterTypeAction, AstNode, ForeignKeyConstraint,
    ReferencesConstraint, Stmt,
};

use crate::parse::{needed, refused, text_after, text_of};

/// A statement about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// As it was typed, without what ends it.
    pub text: String,
    /// The object's name, as it was typed; empty where there is more than one.
    pub name: String,
    /// Tables, views and sequences that it locks for a moment.
    pub locks: Vec<String>,
    /// What is done.
    pub what: What,
}

/// What is done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is made.
    Made {
        /// What takes it away again; `None` where something may be replaced, or there is no telling.
        drop: Option<String>,
        /// It may look at many rows.
        is_long: bool,
    },
    /// `CREATE TABLE`.
    TableMade {
        /// It may be there already.
        if_not_exists: bool,
        /// The table that it is a partition of, its bounds, and what follows them; `None` in the last where columns are
        /// described.
        part: Option<(String, String, Option<String>)>,
    },
    /// `DROP TABLE`.
    TableDropped {
        /// It need not be there.
        if_exists: bool,
    },
    /// `ALTER TYPE … ADD VALUE`.
    ValueAdded {
        /// Its place among the others was said.
        has_place: bool,
    },
    /// `ALTER TYPE … RENAME VALUE`, with the literals before and after.
    ValueRenamed(String, String),
    /// `COMMENT ON`, with the kind of object.
    Comment(String),
    /// `ALTER INDEX … RENAME TO`.
    IndexRenamed(String),
    /// `DROP TRIGGER`, with its name.
    TriggerDropped(String),
    /// `REFRESH MATERIALIZED VIEW`.
    Refreshed,
    /// Every row is written anew: VACUUM FULL, CLUSTER, REPACK.
    Repacked {
        /// In the order of this index.
        by: Option<String>,
    },
    /// The catalogue alone changes, and there is no telling what it was before.
    Changed,
}

/// Reads a statement that is about an object; `None` for one that is not run.
///
/// # Errors
/// [`ErrorKind::Refused`] with what to write instead.
pub fn object(statement: &Stmt) -> Result<Option<Object>> {
    let text = text_of(statement).trim_end_matches(';').trim().to_owned();
    let of = |name: String, locks: Vec<String>, what: What| {
        Ok(Some(Object { text: text.clone(), name, locks, what }))
    };
    let made = |kind: &str, name: String, replaces: bool| {
        let drop = (!replaces).then(|| format!("DROP {kind} {name}"));
        of(name, Vec::new(), What::Made { drop, is_long: false })
    };
    let words = words(statement);
    let begins_with = |word: &str| words.first().is_some_and(|first| first == word);
    if begins_with("DROP") && words.iter().any(|word| word == "CASCADE") {
        return Err(refused("DROP … CASCADE", "drop what depends on it first, one by one"));
    }
    let kind =
        words.iter().skip(1).find(|word| !["OR", "REPLACE", "LOCAL", "GLOBAL"].contains(&word.as_str()));
    if begins_with("CREATE") && kind.is_some_and(|kind| kind == "TEMP" || kind == "TEMPORARY") {
        return Err(refused(
            "CREATE TEMPORARY",
            "it ends with the session that makes it: make it in your own",
        ));
    }
    match statement {
        Stmt::CreateTable(create)
            if create.persistence().is_none_or(|how| text_of(&how).eq_ignore_ascii_case("unlogged")) =>
        {
            let name = text_of(&needed(create.table_name(), "a table")?);
            let part = match (create.partition_of(), create.partition_type()) {
                (Some(of), Some(bound)) => {
                    let rest = text_after(create, &bound);
                    let is_plain = create.table_arg_list().is_none();
                    let parent = text_of(&needed(of.table_name_ref(), "a table")?);
                    Some((parent, text_of(&bound), is_plain.then_some(rest)))
                }
                _ => None,
            };
            let of_table = create.syntax().descendants().filter_map(ForeignKeyConstraint::cast);
            let of_column = create.syntax().descendants().filter_map(ReferencesConstraint::cast);
            let locks = of_table
                .filter_map(|key| key.table_name_ref())
                .chain(of_column.filter_map(|key| key.table()))
                .map(|table| text_of(&table))
                .filter(|table| *table != name)
                .collect();
            of(name, locks, What::TableMade { if_not_exists: create.if_not_exists().is_some(), part })
        }
        Stmt::DropTable(drop) => {
            let mut names = drop.table_name_refs();
            let (Some(name), None) = (names.next(), names.next()) else {
                return Err(refused("DROP TABLE of several tables", "drop one table in each statement"));
            };
            of(text_of(&name), Vec::new(), What::TableDropped { if_exists: drop.if_exists().is_some() })
        }
        Stmt::CreateSequence(create) => {
            let name = text_of(&needed(create.sequence(), "a sequence")?);
            made("SEQUENCE", name, create.if_not_exists().is_some())
        }
        Stmt::CreateView(create) => {
            let name = text_of(&needed(create.view(), "a view")?);
            let replaces = create.or_replace().is_some();
            let drop = (!replaces).then(|| format!("DROP VIEW {name}"));
            let locks = if replaces { vec![name.clone()] } else { Vec::new() };
            of(name, locks, What::Made { drop, is_long: false })
        }
        Stmt::CreateMaterializedView(create) => {
            let name = text_of(&needed(create.view(), "a view")?);
            let drop = create.if_not_exists().is_none().then(|| format!("DROP MATERIALIZED VIEW {name}"));
            of(name, Vec::new(), What::Made { drop, is_long: true })
        }
        Stmt::CreateType(create) => made("TYPE", text_of(&needed(create.type_name(), "a type")?), false),
        Stmt::CreateDomain(create) => made("DOMAIN", text_of(&needed(create.domain(), "a domain")?), false),
        Stmt::CreateSchema(create) => {
            // Named after its owner, or filled at once.
            let target = text_of(&needed(create.create_schema_target(), "a schema")?);
            let name = target.split_whitespace().next().unwrap_or_default().to_owned();
            let is_plain =
                !name.eq_ignore_ascii_case("authorization") && create.schema_elements().next().is_none();
            made("SCHEMA", name, !is_plain || create.if_not_exists().is_some())
        }
        Stmt::CreateExtension(create) => {
            let name = text_of(&needed(create.extension(), "an extension")?);
            // What it has made would go with it, rows among it.
            made("EXTENSION", name, true)
        }
        Stmt::CreateFunction(create) => {
            let name = text_of(&needed(create.name(), "a function")?);
            let arguments = create.param_list().map(|list| text_of(&list)).unwrap_or_default();
            // Names, modes and defaults of arguments are no part of which function it is; without any it is known.
            let is_known =
                arguments.replace(char::is_whitespace, "") == "()" && create.or_replace().is_none();
            let drop = is_known.then(|| format!("DROP FUNCTION {name}()"));
            of(name, Vec::new(), What::Made { drop, is_long: false })
        }
        Stmt::CreateStatistics(create) => {
            let table =
                text_of(&needed(create.from_table().and_then(|from| from.table_name_ref()), "a table")?);
            let named = create.statistics().filter(|_| create.if_not_exists().is_none());
            let drop = named.map(|name| format!("DROP STATISTICS {}", text_of(&name)));
            of(table, Vec::new(), What::Made { drop, is_long: false })
        }
        Stmt::CreateTrigger(create) => {
            let table =
                text_of(&needed(create.on_relation().and_then(|on| on.relation_name_ref()), "a table")?);
            let name = text_of(&needed(create.trigger(), "a trigger")?);
            let drop = create.or_replace().is_none().then(|| format!("DROP TRIGGER {name} ON {table}"));
            of(table.clone(), vec![table], What::Made { drop, is_long: false })
        }
        Stmt::DropTrigger(drop) => {
            let table =
                text_of(&needed(drop.on_relation().and_then(|on| on.relation_name_ref()), "a table")?);
            let name = text_of(&needed(drop.trigger_ref(), "a trigger")?);
            of(table.clone(), vec![table], What::TriggerDropped(name))
        }
        Stmt::CreatePolicy(create) => {
            let table = text_of(&needed(create.on_table().and_then(|on| on.table_name_ref()), "a table")?);
            let name = text_of(&needed(create.policy(), "a policy")?);
            let drop = Some(format!("DROP POLICY {name} ON {table}"));
            of(table.clone(), vec![table], What::Made { drop, is_long: false })
        }
        Stmt::CreatePublication(_) | Stmt::AlterPublication(_) => Err(refused(
            "CREATE or ALTER PUBLICATION",
            "UPDATE and DELETE of a table without a replica identity fail from then on: look at each, and run it yourself",
        )),
        Stmt::CommentOn(comment) => {
            let object = text_of(&needed(comment.comment_object(), "what to comment on")?);
            let (kind, name) = match object.to_uppercase().strip_prefix("MATERIALIZED VIEW ") {
                Some(_) => object.split_at(17),
                None => object.split_at(object.find(char::is_whitespace).unwrap_or(object.len())),
            };
            of(name.trim().to_owned(), Vec::new(), What::Comment(kind.to_uppercase()))
        }
        Stmt::AlterType(alter) => {
            let name = text_of(&needed(alter.type_name_ref(), "a type")?);
            match needed(alter.action(), "what to alter")? {
                AlterTypeAction::AddValue(add) => {
                    of(name, Vec::new(), What::ValueAdded { has_place: add.value_position().is_some() })
                }
                AlterTypeAction::RenameValue(rename) => {
                    let from = text_of(&needed(rename.from(), "a value")?);
                    let to = text_of(&needed(rename.to(), "a value")?);
                    of(name, Vec::new(), What::ValueRenamed(from, to))
                }
                _ => Ok(None),
            }
        }
        Stmt::AlterDomain(alter) => {
            let name = text_of(&needed(alter.domain_ref(), "a domain")?);
            match needed(alter.action(), "what to alter")? {
                AlterDomainAction::AddConstraint(add) => {
                    let constraint = text_of(&needed(add.constraint(), "a constraint")?);
                    let mut words = constraint.split_whitespace();
                    let named = words.next().filter(|word| word.eq_ignore_ascii_case("constraint"));
                    let named = named.and_then(|_| words.next());
                    let drop = named.map(|it| format!("ALTER DOMAIN {name} DROP CONSTRAINT {it}"));
                    of(name, Vec::new(), What::Made { drop, is_long: false })
                }
                AlterDomainAction::ValidateConstraint(_) => {
                    let drop = Some("-- a valid constraint is left as it is".to_owned());
                    // Writers of every table that uses it wait meanwhile: not for long.
                    of(name, Vec::new(), What::Made { drop, is_long: false })
                }
                AlterDomainAction::DomainRenameTo(_) | AlterDomainAction::SetSchema(_) => Ok(None),
                _ => of(name, Vec::new(), What::Changed),
            }
        }
        Stmt::AlterIndex(alter) => {
            let Some(name) = alter.index_ref().map(|index| text_of(&index)) else { return Ok(None) };
            match needed(alter.action(), "what to alter")? {
                AlterIndexAction::IndexRenameTo(rename) => {
                    let to = text_of(&rename);
                    let to = to.split_whitespace().last().unwrap_or_default().to_owned();
                    of(name, Vec::new(), What::IndexRenamed(to))
                }
                AlterIndexAction::SetTablespace(_) => Err(refused(
                    "ALTER INDEX … SET TABLESPACE, which writes the index anew under a lock,",
                    "REINDEX (TABLESPACE …) INDEX CONCURRENTLY does it while others write",
                )),
                _ => of(name, Vec::new(), What::Changed),
            }
        }
        Stmt::AlterSequence(alter) => {
            let name = text_of(&needed(alter.sequence_ref(), "a sequence")?);
            of(name.clone(), vec![name], What::Changed)
        }
        Stmt::Refresh(refresh) => {
            if refresh.data_option().is_some_and(|option| text_of(&option).to_uppercase().contains("NO")) {
                return Err(refused(
                    "REFRESH … WITH NO DATA",
                    "it empties the view for all who read it: drop it instead",
                ));
            }
            of(text_of(&needed(refresh.view_ref(), "a view")?), Vec::new(), What::Refreshed)
        }
        Stmt::Vacuum(vacuum) => {
            let options =
                vacuum.vacuum_option_list().map(|list| text_of(&list).to_uppercase()).unwrap_or_default();
            if vacuum.full_token().is_none() && !options.contains("FULL") {
                return Err(refused(
                    "VACUUM, which changes nothing,",
                    "run it yourself: others read and write meanwhile",
                ));
            }
            let tables = vacuum.table_and_columns_list();
            repacked(&text, tables.iter().flat_map(|list| list.table_and_columnss()), None)
        }
        Stmt::Repack(repack) => {
            let by = repack.using_index().map(|using| text_of(&using));
            let by = by.and_then(|by| by.split_whitespace().last().map(ToOwned::to_owned));
            let tables = repack.table_and_columns_list();
            repacked(&text, tables.iter().flat_map(|list| list.table_and_columnss()), by)
        }
        Stmt::Cluster(cluster) => {
            let by = cluster
                .cluster_using_index()
                .and_then(|using| using.index_ref())
                .map(|index| text_of(&index));
            match cluster.table_name_ref() {
                Some(table) => of(text_of(&table), Vec::new(), What::Repacked { by }),
                None => Err(refused("CLUSTER of every table", "name the table")),
            }
        }
        Stmt::DropView(drop) => of(String::new(), names(drop.view_refs()), What::Changed),
        Stmt::DropMaterializedView(drop) => of(String::new(), names(drop.view_refs()), What::Changed),
        Stmt::DropSequence(drop) => of(String::new(), names(drop.sequence_refs()), What::Changed),
        Stmt::Grant(_)
        | Stmt::Revoke(_)
        | Stmt::AlterDefaultPrivileges(_)
        | Stmt::DropType(_)
        | Stmt::DropDomain(_)
        | Stmt::DropFunction(_)
        | Stmt::DropSchema(_)
        | Stmt::DropExtension(_)
        | Stmt::DropStatistics(_)
        | Stmt::DropPublication(_) => of(String::new(), Vec::new(), What::Changed),
        Stmt::DropPolicy(drop) => {
            let table = text_of(&needed(drop.on_table().and_then(|on| on.table_name_ref()), "a table")?);
            of(table.clone(), vec![table], What::Changed)
        }
        _ => Ok(None),
    }
}

fn names<T: AstNode>(nodes: impl Iterator<Item = T>) -> Vec<String> {
    nodes.map(|node| text_of(&node)).collect()
}

/// The words of a statement, without comments, in capitals; quoted names keep their quotes.
fn words(statement: &Stmt) -> Vec<String> {
    let tokens = statement.syntax().descendants_with_tokens().filter_map(|part| part.into_token());
    let words = tokens.filter(|token| !token.kind().is_trivia());
    words.map(|word| word.text().to_uppercase()).collect()
}

fn repacked(
    text: &str,
    tables: impl Iterator<Item = squawk_syntax::ast::TableAndColumns>,
    by: Option<String>,
) -> Result<Option<Object>> {
    let names: Vec<String> =
        tables.filter_map(|one| one.table_relation_name()).map(|name| text_of(&name)).collect();
    match names.as_slice() {
        [name] => {
            let (text, name) = (text.to_owned(), name.clone());
            Ok(Some(Object { text, name, locks: Vec::new(), what: What::Repacked { by } }))
        }
        _ => Err(Error::new(ErrorKind::Refused, "one table at a time is written anew")
            .hint("replank rebuild TABLE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Statement, parse};

    fn read(text: &str) -> Object {
        match parse(text).expect(text) {
            Statement::Object(object) => *object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_made_is_known_with_what_takes_it_away() {
        for (text, wanted) in [
            ("CREATE SEQUENCE s.counter START 5;", Some("DROP SEQUENCE s.counter")),
            ("CREATE VIEW seen AS SELECT 1", Some("DROP VIEW seen")),
            ("CREATE TYPE mood AS ENUM ('a')", Some("DROP TYPE mood")),
            ("CREATE SCHEMA more", Some("DROP SCHEMA more")),
            ("CREATE SCHEMA AUTHORIZATION joe", None),
            ("CREATE EXTENSION IF NOT EXISTS hstore", None),
            ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", Some("DROP FUNCTION f()")),
            ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", None),
            ("CREATE OR\nREPLACE VIEW seen AS SELECT 1", None),
            ("CREATE VIEW temp AS SELECT 1", Some("DROP VIEW temp")),
            ("CREATE EXTENSION hstore", None),
            ("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'", None),
            (
                "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
                Some("DROP TRIGGER x ON t"),
            ),
            ("CREATE POLICY p ON s.t USING (true)", Some("DROP POLICY p ON s.t")),
            ("CREATE STATISTICS st ON a, b FROM t", Some("DROP STATISTICS st")),
        ] {
            let What::Made { drop, .. } = read(text).what else { panic!("{text}") };
            assert_eq!(drop.as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn others_are_told_apart() {
        assert_eq!(
            read("ALTER TYPE mood ADD VALUE 'b' AFTER 'a'").what,
            What::ValueAdded { has_place: true }
        );
        assert_eq!(
            read("ALTER TYPE mood RENAME VALUE 'a' TO 'b'").what,
            What::ValueRenamed("'a'".into(), "'b'".into())
        );
        assert_eq!(
            read("COMMENT ON MATERIALIZED VIEW m IS 'x'").what,
            What::Comment("MATERIALIZED VIEW".into())
        );
        assert_eq!(read("COMMENT ON COLUMN t.c IS NULL").name, "t.c");
        assert_eq!(read("ALTER INDEX i RENAME TO \"J\"").what, What::IndexRenamed("\"J\"".into()));
        assert_eq!(read("CLUSTER t USING i").what, What::Repacked { by: Some("i".into()) });
        assert_eq!(read("VACUUM (FULL) s.t").name, "s.t");
        let part = read(
            "CREATE TABLE c PARTITION OF p FOR VALUES FROM (1) TO (2) PARTITION BY LIST (b) TABLESPACE x",
        );
        let What::TableMade { part: Some((parent, bound, rest)), .. } = part.what else { panic!() };
        assert_eq!((parent.as_str(), bound.as_str()), ("p", "FOR VALUES FROM (1) TO (2)"));
        assert_eq!(rest.as_deref(), Some("PARTITION BY LIST (b) TABLESPACE x"));
        let keys = read(
            "CREATE TABLE c (a int REFERENCES x, b int, FOREIGN KEY (b) REFERENCES s.y, c int REFERENCES c)",
        );
        assert_eq!(keys.locks, ["s.y", "x"]);
        for text in [
            "DROP TABLE a, b",
            "DROP TABLE a CASCADE",
            "DROP SCHEMA a\n\tcascade",
            "DROP TYPE a CASCADE -- all of it",
            "CREATE OR REPLACE\nTEMP VIEW v AS SELECT 1",
            "CREATE TEMPORARY SEQUENCE s",
            "VACUUM t",
            "REFRESH MATERIALIZED VIEW m WITH NO DATA",
        ] {
            assert_eq!(parse(text).expect_err(text).kind(), ErrorKind::Refused, "{text}");
        }
    }
}
