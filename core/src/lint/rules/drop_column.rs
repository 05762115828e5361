//! C002: A dropped column's values are gone, and ORMs that cache column lists fail on the next
//! statement.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// What goes as a whole, and has a rule of its own.
const NO_COLUMNS: [&str; 3] = ["table ", "partition ", "collection "];

/// See `drop_column.md`.
pub struct DropColumn;

impl Rule for DropColumn {
    fn code(&self) -> &'static str {
        "C002"
    }

    fn slug(&self) -> &'static str {
        "drop-column"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("drop_column.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .discards
            .iter()
            .filter(|what| !NO_COLUMNS.iter().any(|kind| what.starts_with(kind)))
            .map(|what| {
                Verdict::error(
                    format!("{what} would be gone for good"),
                    "leave out --no-revert: the values are then kept in the retired table until `replank finalize`",
                )
            })
            .collect()
    }
}
