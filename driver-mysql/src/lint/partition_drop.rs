//! M225: A partition goes, and its rows with it.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

/// See `partition_drop.md`.
pub struct PartitionDrop;

impl Rule for PartitionDrop {
    fn code(&self) -> &'static str {
        "M225"
    }

    fn slug(&self) -> &'static str {
        "partition-drop"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("partition_drop.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .discards
            .iter()
            .filter(|what| what.starts_with("partition "))
            .map(|what| {
                Verdict::error(
                    format!("{what} would be gone for good"),
                    "archive its rows first, and waive this rule",
                )
            })
            .collect()
    }
}
