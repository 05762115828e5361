//! M215: A date of zeros is a default that strict sessions refuse to write.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::{Facts, ZeroDefault};

/// See `zero_date.md`.
pub struct ZeroDate;

impl Rule for ZeroDate {
    fn code(&self) -> &'static str {
        "M215"
    }

    fn slug(&self) -> &'static str {
        "zero-date"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("zero_date.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .zero_dates
            .into_iter()
            .map(|ZeroDefault { column, is_new }| {
                let verdict = Verdict::warning(
                    format!("`{column}` has a date of zeros as its default"),
                    "let it be NULL, and NULL its default",
                );
                if is_new { verdict } else { verdict.handled() }
            })
            .collect()
    }
}
