//! C007: The new type or constraint cannot hold values that are there now: they would be cut, bent or
//! refused. Every row is looked at before anything is created, and the rows that do not fit are counted
//! with their first keys.

use super::{counted, first_keys};
use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `lossy_type.md`.
pub struct LossyType;

impl Rule for LossyType {
    fn code(&self) -> &'static str {
        "C007"
    }

    fn slug(&self) -> &'static str {
        "lossy-type-change"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("lossy_type.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .draft
            .evidence
            .unfit
            .iter()
            .map(|unfit| {
                Verdict::error(
                    format!(
                        "{} not fit {}{}",
                        counted(unfit.rows, "does", "do"),
                        unfit.what,
                        first_keys(&unfit.samples)
                    ),
                    "change those rows first, or give an expression that says what becomes of them",
                )
            })
            .collect()
    }
}
