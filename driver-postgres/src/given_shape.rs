//! The shape of a table as a person gives it for a rebuild: a file of statements.

use replank_core::Result;
use squawk_syntax::ast::{AstNode as _, CreateTable, Persistence, Stmt};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use crate::parse::{CreateIndex, Statement, needed, read, statement, text_after, text_of, usage};

/// A table with its partitions and indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The table's name.
    pub table: String,
    /// Everything after the name.
    pub tail: String,
    /// It says UNLOGGED.
    pub is_unlogged: bool,
    /// Its partitions, each behind the one that it is a part of.
    pub partitions: Vec<GivenPartition>,
    /// Its indexes, beside those of its constraints.
    pub indexes: Vec<CreateIndex>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPartition {
    /// Its name.
    pub name: String,
    /// The table that it is a part of.
    pub parent: String,
    /// Everything after that: its bounds, and perhaps how it is partitioned itself.
    pub tail: String,
}

/// Reads `CREATE TABLE`, with the `CREATE TABLE … PARTITION OF` and `CREATE INDEX` that may follow it.
///
/// # Errors
/// [`ErrorKind::Usage`](replank_core::ErrorKind::Usage) for anything else.
pub fn parse_shape(text: &str) -> Result<Shape> {
    const WHAT: &str = "a shape is CREATE TABLE, with CREATE TABLE … PARTITION OF and CREATE INDEX behind it";
    let mut statements = read(text)?.into_iter();
    let Some(Stmt::CreateTable(create)) = statements.next() else { return Err(usage(WHAT.to_owned())) };
    let is_unlogged = lasting(&create)?;
    if create.partition_of().is_some() {
        return Err(usage(WHAT.to_owned()));
    }
    let name = needed(create.table_name(), "a table")?;
    let (table, tail) = (text_of(&name), text_after(&create, &name));
    let mut shape = Shape { table, tail, is_unlogged, partitions: Vec::new(), indexes: Vec::new() };
    for other in statements {
        match other {
            Stmt::CreateTable(create) => {
                let of = needed(create.partition_of(), "PARTITION OF, in a table behind the first one,")?;
                if lasting(&create)? || create.if_not_exists().is_some() {
                    return Err(usage(
                        "a partition of a shape is neither UNLOGGED nor IF NOT EXISTS".to_owned(),
                    ));
                }
                shape.partitions.push(GivenPartition {
                    name: text_of(&needed(create.table_name(), "a partition")?),
                    parent: text_of(&needed(of.table_name_ref(), "a partitioned table")?),
                    tail: text_after(&create, &of),
                });
            }
            other => match statement(other)? {
                Statement::CreateIndex(index) => shape.indexes.push(index),
                _ => {
                    return Err(usage(
                        "behind CREATE TABLE only CREATE TABLE … PARTITION OF and CREATE INDEX may follow"
                            .to_owned(),
                    ));
                }
            },
        }
    }
    Ok(shape)
}

/// Whether it says UNLOGGED.
fn lasting(create: &CreateTable) -> Result<bool> {
    let is_key = |node: SyntaxNode| {
        matches!(node.kind(), SyntaxKind::FOREIGN_KEY_CONSTRAINT | SyntaxKind::REFERENCES_CONSTRAINT)
    };
    if create.syntax().descendants().any(is_key) {
        return Err(usage("a shape with foreign keys".to_owned())
            .hint("those of the table follow its name: leave them out of the file"));
    }
    match create.persistence() {
        None => Ok(false),
        Some(Persistence::Unlogged(_)) => Ok(true),
        Some(Persistence::Temp(_)) => Err(usage("a shape is not TEMPORARY".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_a_table_with_its_indexes() {
        let shape = parse_shape(
            "-- as it shall be\nCREATE UNLOGGED TABLE s.\"T\" (id int, PRIMARY KEY (id)) WITH (fillfactor = 70);
             CREATE UNIQUE INDEX i ON s.\"T\" (id) WHERE id > 0;",
        )
        .expect("understood");
        assert_eq!(
            (shape.table.as_str(), shape.tail.as_str(), shape.is_unlogged),
            ("s.\"T\"", "(id int, PRIMARY KEY (id)) WITH (fillfactor = 70)", true)
        );
        assert_eq!(shape.indexes.len(), 1);
        assert_eq!(shape.indexes[0].tail, "(id) WHERE id > 0");
        for wrong in [
            "CREATE TABLE t AS SELECT 1",
            "CREATE INDEX ON t (id)",
            "CREATE TABLE t (id int); DROP TABLE t",
            "CREATE TABLE t (id int); CREATE TABLE u (id int)",
            "CREATE TABLE t PARTITION OF u DEFAULT",
            "CREATE TABLE t (id int) PARTITION BY HASH (id); CREATE TABLE IF NOT EXISTS u PARTITION OF t DEFAULT",
            "CREATE TABLE t (id int) PARTITION BY HASH (id); CREATE TABLE u PARTITION OF t (id REFERENCES x) DEFAULT",
        ] {
            assert!(parse_shape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn partitions_come_with_their_bounds() {
        let shape = parse_shape(
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
             CREATE TABLE \"t 1\" PARTITION OF t FOR VALUES FROM ('2026-01-01') TO (MAXVALUE) PARTITION BY HASH (id);
             CREATE INDEX ON t (at);
             CREATE TABLE s.t1a PARTITION OF \"t 1\" (CHECK (id > 0)) FOR VALUES WITH (MODULUS 2, REMAINDER 0) WITH (fillfactor = 70);
             CREATE TABLE rest PARTITION OF t DEFAULT;",
        )
        .expect("understood");
        assert_eq!(shape.tail, "(id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)");
        let parts: Vec<_> = shape
            .partitions
            .iter()
            .map(|part| (part.name.as_str(), part.parent.as_str(), part.tail.as_str()))
            .collect();
        assert_eq!(
            parts,
            [
                ("\"t 1\"", "t", "FOR VALUES FROM ('2026-01-01') TO (MAXVALUE) PARTITION BY HASH (id)"),
                (
                    "s.t1a",
                    "\"t 1\"",
                    "(CHECK (id > 0)) FOR VALUES WITH (MODULUS 2, REMAINDER 0) WITH (fillfactor = 70)"
                ),
                ("rest", "t", "DEFAULT"),
            ]
        );
    }
}
