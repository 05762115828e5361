//! C004: During a deployment two versions of an application run at once, and one of them uses the old
//! name.

use super::renames;
use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `rename_column.md`.
pub struct RenameColumn;

impl Rule for RenameColumn {
    fn code(&self) -> &'static str {
        "C004"
    }

    fn slug(&self) -> &'static str {
        "rename-column"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("rename_column.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        renames(subject, "column")
            .map(|what| {
                Verdict::error(
                    format!("{what}: applications that use the old name fail at once"),
                    "add the new column, move the readers, drop the old one; or waive the rule",
                )
            })
            .collect()
    }
}
