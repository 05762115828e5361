//! M221: A column is dropped and added again in one statement: its values are gone, or stay, depending on who reads it.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `drop_and_add.md`.
pub struct DropAndAdd;

impl Rule for DropAndAdd {
    fn code(&self) -> &'static str {
        "M221"
    }

    fn slug(&self) -> &'static str {
        "drop-and-add-same-column"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("drop_and_add.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .replaced
            .into_iter()
            .map(|column| {
                Verdict::error(
                    format!("`{column}` is dropped and added again in one statement"),
                    "MODIFY it to keep its values, or make two changes of it",
                )
            })
            .collect()
    }
}
