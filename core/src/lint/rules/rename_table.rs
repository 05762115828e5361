//! C003: During a deployment two versions of an application run at once, and one of them uses the old
//! name.

use super::renames;
use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `rename_table.md`.
pub struct RenameTable;

impl Rule for RenameTable {
    fn code(&self) -> &'static str {
        "C003"
    }

    fn slug(&self) -> &'static str {
        "rename-table"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("rename_table.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        renames(subject, "table")
            .map(|what| {
                Verdict::error(
                    format!("{what}: applications that use the old name fail at once"),
                    "create the new table beside the old, or waive the rule when no application is running",
                )
            })
            .collect()
    }
}
