//! M208: Foreign keys of the table, or of others to it, do not follow a swap of names by themselves, and cascades may be
//! missing from the log.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `foreign_keys.md`.
pub struct ForeignKeys;

impl Rule for ForeignKeys {
    fn code(&self) -> &'static str {
        "M208"
    }

    fn slug(&self) -> &'static str {
        "foreign-keys"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("foreign_keys.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        Facts::of(subject)
            .foreign_keys
            .into_iter()
            .map(|key| {
                Verdict::error(
                    format!("{key} would not follow the name in a rebuild"),
                    "drop the foreign key in an earlier change, and add it again afterwards",
                )
            })
            .collect()
    }
}
