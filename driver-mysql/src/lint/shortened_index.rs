//! M256: The server would keep less in an index than there is now, and nobody asked for it.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `shortened_index.md`.
pub struct ShortenedIndex;

impl Rule for ShortenedIndex {
    fn code(&self) -> &'static str {
        "M256"
    }

    fn slug(&self) -> &'static str {
        "shortened-index"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("shortened_index.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let mend = "say what is to be kept: DROP INDEX and ADD INDEX with the length, in the same statement";
        Facts::of(subject).shortened.into_iter().map(|what| Verdict::error(what, mend)).collect()
    }
}
