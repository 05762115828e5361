//! M223: A column is renamed while the table is copied: tools that map columns by name, or by type, put values in the wrong
//! place.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

/// See `rename_in_copy.md`.
pub struct RenameInCopy;

impl Rule for RenameInCopy {
    fn code(&self) -> &'static str {
        "M223"
    }

    fn slug(&self) -> &'static str {
        "rename-in-shadow-copy"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("rename_in_copy.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let renames = &subject.draft.evidence.renames;
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        renames
            .iter()
            .filter_map(|(from, to)| from.strip_prefix("column ").map(|from| (from, to)))
            .map(|(from, to)| {
                Verdict::error(
                    format!("the values of `{from}` go to `{to}`, as the statement says"),
                    "nothing is guessed: check that this is what you mean",
                )
                .handled()
            })
            .collect()
    }
}
