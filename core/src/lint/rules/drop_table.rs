//! C001: A dropped table is gone, and code that still reads it fails.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `drop_table.md`.
pub struct DropTable;

impl Rule for DropTable {
    fn code(&self) -> &'static str {
        "C001"
    }

    fn slug(&self) -> &'static str {
        "drop-table"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("drop_table.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .discards
            .iter()
            .filter(|what| what.starts_with("table "))
            .map(|what| {
                Verdict::error(
                    format!("{what} would be gone for good"),
                    "leave out --no-revert: the table is then kept aside until `replank finalize`",
                )
            })
            .collect()
    }
}
