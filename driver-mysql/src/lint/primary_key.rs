//! M222: Another primary key: rows are told apart by a unique key that both shapes have, and there may be none.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `primary_key.md`.
pub struct PrimaryKeyChange;

impl Rule for PrimaryKeyChange {
    fn code(&self) -> &'static str {
        "M222"
    }

    fn slug(&self) -> &'static str {
        "primary-key-change"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("primary_key.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let facts = Facts::of(subject);
        let Some(change) = facts.primary_key else { return Vec::new() };
        let verdict =
            Verdict::error(change.what, "keep the old key as a unique one, or change it in two steps");
        vec![match (subject.strategy, change.why_not) {
            (Strategy::Shadow, Some(why)) => {
                Verdict { message: format!("{}: {why}", verdict.message), ..verdict }
            }
            _ => verdict.handled(),
        }]
    }
}
