//! M208: Foreign keys of the table, and of others to it, do not follow a swap of names by themselves, and cascades may be
//! missing from the log.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;
use super::facts::followed;

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
        let facts = Facts::of(subject);
        let gap = if facts.has_gap_of_keys {
            "a swap that is killed half-way can leave one off until the next command on the run, which adds it and looks \
             for rows without a parent"
        } else {
            "a swap that is killed half-way leaves all on, and some children of new rows are refused until the next \
             command on the run"
        };
        let advice = "drop the foreign key in an earlier change, and add it again afterwards";
        followed(&facts.keys, gap, advice)
    }
}
