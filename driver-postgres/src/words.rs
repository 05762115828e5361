//! What the words of a statement show by themselves, for rules that judge them: types that columns are given, and constraints
//! of domains.

use squawk_syntax::SourceFile;
use squawk_syntax::ast::{AlterColumnOption, AlterDomainAction, AlterTableAction, Stmt, TableArg};

use crate::parse::text_of;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Columns with the types that they are given, as they were typed.
    pub columns: Vec<(String, String)>,
    /// These are all columns of a new table, in their order.
    pub is_whole: bool,
    /// A domain, and what is done with it.
    pub domain: Option<(String, DomainChange)>,
}

/// What is done with a domain, as far as somebody may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainChange {
    /// It is made with a constraint.
    Made,
    /// Every row that uses it is looked at.
    LooksAtRows,
}

/// Reads the first statement of a text. One that is not understood shows nothing.
pub fn words(text: &str) -> Words {
    let mut words = Words::default();
    match SourceFile::parse(text).tree().stmts().next() {
        Some(Stmt::CreateTable(create)) => {
            let plain = create.inherits().is_none() && create.partition_of().is_none();
            words.is_whole = plain;
            for argument in create.table_arg_list().iter().flat_map(|list| list.args()) {
                match argument {
                    TableArg::Column(column) => {
                        if let (Some(name), Some(kind)) = (column.name(), column.ty()) {
                            words.columns.push((text_of(&name), text_of(&kind)));
                        }
                    }
                    TableArg::LikeClause(_) => words.is_whole = false,
                    TableArg::TableConstraint(_) => {}
                }
            }
        }
        Some(Stmt::AlterTable(alter)) => {
            for action in alter.actions() {
                let typed = match &action {
                    AlterTableAction::AddColumn(add) => (add.column_name().map(|it| text_of(&it)), add.ty()),
                    AlterTableAction::AlterColumn(alter) => match alter.option() {
                        Some(AlterColumnOption::SetType(set)) => {
                            (alter.column_name_ref().map(|it| text_of(&it)), set.ty())
                        }
                        _ => continue,
                    },
                    _ => continue,
                };
                if let (Some(name), Some(kind)) = typed {
                    words.columns.push((name, text_of(&kind)));
                }
            }
        }
        Some(Stmt::CreateDomain(create)) => {
            let mut qualifiers = create.domain_qualifiers().map(|it| text_of(&it).to_uppercase());
            if let Some(name) = create.domain()
                && qualifiers.any(|it| it.contains("CHECK") || it.ends_with("NOT NULL"))
            {
                words.domain = Some((text_of(&name), DomainChange::Made));
            }
        }
        Some(Stmt::AlterDomain(alter)) => {
            let change = match alter.action() {
                Some(AlterDomainAction::AddConstraint(add)) if !is_not_valid(&text_of(&add)) => {
                    Some(DomainChange::LooksAtRows)
                }
                // VALIDATE keeps writers out as well: tried on 17 and 18.
                Some(AlterDomainAction::SetNotNull(_) | AlterDomainAction::ValidateConstraint(_)) => {
                    Some(DomainChange::LooksAtRows)
                }
                _ => None,
            };
            words.domain = alter.domain_ref().map(|it| text_of(&it)).zip(change);
        }
        _ => {}
    }
    words
}

/// Whether a constraint says that the rows that are there are not looked at.
pub fn is_not_valid(constraint: &str) -> bool {
    let words: Vec<String> = constraint.split_whitespace().map(str::to_uppercase).collect();
    words.ends_with(&["NOT".to_owned(), "VALID".to_owned()])
}

/// What is against a type, if anything is.
pub fn against(kind: &str) -> Option<&'static str> {
    let kind = kind.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let kind = kind.strip_prefix("pg_catalog.").unwrap_or(&kind);
    let base = kind.split(['(', '[']).next().unwrap_or_default().trim();
    match base {
        "char" | "character" | "bpchar" | "nchar" => {
            Some("pads with blanks, which count in no comparison: text does not")
        }
        "varchar" | "character varying" | "char varying" if kind.contains('(') => {
            Some("is another type with another length: text with a CHECK is changed beside those who write")
        }
        "timestamp" if !kind.contains("with time zone") => {
            Some("means what each session takes it for: timestamptz is a moment")
        }
        "smallserial" | "serial" | "bigserial" | "serial2" | "serial4" | "serial8" => {
            Some("has a sequence with rights of its own: GENERATED BY DEFAULT AS IDENTITY has none")
        }
        _ => None,
    }
}

/// The size and the alignment of a column's values, in bytes; no size where that varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Of each value.
    pub size: Option<usize>,
    /// Values begin at multiples of this.
    pub multiple: usize,
}

/// In which order rows would be shorter, and by how many bytes. Values of varying length are left out: where they end is
/// not known.
pub fn shorter(columns: &[Shape]) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|at| match columns[*at].size {
        Some(_) => (0, std::cmp::Reverse(columns[*at].multiple)),
        None => (1, std::cmp::Reverse(0)),
    });
    let best: Vec<Shape> = order.iter().map(|at| columns[*at]).collect();
    let less = length(columns).checked_sub(length(&best)).filter(|less| *less > 0)?;
    Some((order, less))
}

/// What the values of a row take: a row ends at a multiple of eight.
fn length(columns: &[Shape]) -> usize {
    let sized = columns.iter().filter_map(|column| Some((column.size?, column.multiple.max(1))));
    sized.fold(0_usize, |at, (size, multiple)| at.next_multiple_of(multiple) + size).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_wherever_a_column_gets_one() {
        for (text, columns, is_whole) in [
            (
                "CREATE TABLE t (a int, \"B c\" varchar(20) NOT NULL, CHECK (a > 0))",
                vec!["a int", "\"B c\" varchar(20)"],
                true,
            ),
            ("CREATE TABLE t (LIKE u, a timestamp)", vec!["a timestamp"], false),
            (
                "ALTER TABLE t ADD COLUMN a char(3), DROP b, ALTER c TYPE timestamp(3) USING now()",
                vec!["a char(3)", "c timestamp(3)"],
                false,
            ),
            ("DROP TABLE t", vec![], false),
            ("no statement", vec![], false),
        ] {
            let words = words(text);
            let found: Vec<String> =
                words.columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            assert_eq!(
                (found, words.is_whole),
                (columns.into_iter().map(ToOwned::to_owned).collect(), is_whole),
                "{text}"
            );
        }
    }

    #[test]
    fn domains_are_told_by_what_they_make_wait() {
        for (text, change) in [
            ("CREATE DOMAIN d AS int CHECK (VALUE > 0)", Some(DomainChange::Made)),
            ("CREATE DOMAIN d AS int NOT NULL", Some(DomainChange::Made)),
            ("CREATE DOMAIN d AS int DEFAULT 7", None),
            ("ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0)", Some(DomainChange::LooksAtRows)),
            ("ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0) NOT VALID", None),
            ("ALTER DOMAIN d SET NOT NULL", Some(DomainChange::LooksAtRows)),
            ("ALTER DOMAIN d VALIDATE CONSTRAINT c", Some(DomainChange::LooksAtRows)),
            ("ALTER DOMAIN d SET DEFAULT 1", None),
        ] {
            assert_eq!(words(text).domain, change.map(|change| ("d".to_owned(), change)), "{text}");
        }
    }

    #[test]
    fn types_that_make_later_changes_harder_are_told() {
        for kind in [
            "char(3)",
            "CHARACTER (3)",
            "varchar (20)",
            "character varying(9)[]",
            "timestamp",
            "timestamp(3) without time zone",
            "bigserial",
        ] {
            assert!(against(kind).is_some(), "{kind}");
        }
        for kind in [
            "varchar",
            "text",
            "\"char\"",
            "timestamptz",
            "timestamp(3) with time zone",
            "int",
            "numeric(10, 2)",
        ] {
            assert_eq!(against(kind), None, "{kind}");
        }
    }

    #[test]
    fn an_order_is_better_only_where_a_row_becomes_shorter() {
        let of = |sizes: &[usize]| -> Vec<Shape> {
            sizes.iter().map(|size| Shape { size: (*size > 0).then_some(*size), multiple: *size }).collect()
        };
        // 1 + 7 + 8 + 1 + 7 + 8 = 32 against 8 + 8 + 1 + 1, up to 24.
        assert_eq!(shorter(&of(&[1, 8, 1, 8])), Some((vec![1, 3, 0, 2], 8)));
        assert_eq!(shorter(&of(&[8, 4, 4, 0])), None);
        // Four bytes that the row's end would need anyway.
        assert_eq!(shorter(&of(&[4, 8])), None);
        assert_eq!(shorter(&of(&[0, 8])), None);
    }
}
