//! C009: A column that becomes NOT NULL must hold no NULL. Rows that do are counted before anything is
//! created, with their first keys, and the change is refused while there are any.

use super::{counted, first_keys};
use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `not_null.md`.
pub struct NotNullOnExisting;

impl Rule for NotNullOnExisting {
    fn code(&self) -> &'static str {
        "C009"
    }

    fn slug(&self) -> &'static str {
        "set-not-null-on-existing"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("not_null.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .draft
            .evidence
            .nulls
            .iter()
            .map(|nulls| {
                Verdict::error(
                    format!(
                        "{} NULL in `{}`{}",
                        counted(nulls.rows, "holds", "hold"),
                        nulls.column,
                        first_keys(&nulls.samples)
                    ),
                    "fill those rows first",
                )
            })
            .collect()
    }
}
