//! M255: What ANALYZE TABLE gathered about columns stays with the old table.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `histograms.md`.
pub struct Histograms;

impl Rule for Histograms {
    fn code(&self) -> &'static str {
        "M255"
    }

    fn slug(&self) -> &'static str {
        "histograms"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("histograms.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let again = Facts::of(subject).histograms;
        let what = "what ANALYZE TABLE gathered about columns stays with the old table";
        again
            .into_iter()
            .map(|again| Verdict::warning(what.to_owned(), format!("after the swap: {again}")))
            .collect()
    }
}
