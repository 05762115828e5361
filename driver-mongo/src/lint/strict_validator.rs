//! D309: A strict validator finds documents that break it.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Unfit;

use super::{Facts, documents};

/// See `strict_validator.md`.
pub struct StrictValidator;

impl Rule for StrictValidator {
    fn code(&self) -> &'static str {
        "D309"
    }

    fn slug(&self) -> &'static str {
        "validator-strict-first"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("strict_validator.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let facts = Facts::of(subject);
        let told = |unfit: &Unfit| {
            let breaking = documents(unfit.rows, "breaks", "break");
            format!("{breaking} the validator (first: {})", unfit.samples.join(", "))
        };
        let strict = facts.breaking_strict.iter().map(|unfit| {
            Verdict::error(
                format!("{}, and could not be updated any more", told(unfit)),
                "change them first, or begin with \"validationLevel\": \"moderate\", which lets them be",
            )
        });
        let moderate = facts
            .breaking
            .iter()
            .map(|unfit| Verdict::warning(told(unfit), "they stay as they are until it becomes strict"));
        strict.chain(moderate).collect()
    }
}
