//! D317: The server cannot be followed while a collection is rebuilt.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `no_change_stream.md`.
pub struct NoChangeStream;

impl Rule for NoChangeStream {
    fn code(&self) -> &'static str {
        "D317"
    }

    fn slug(&self) -> &'static str {
        "no-change-stream"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("no_change_stream.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let missing = Facts::of(subject).missing.into_iter();
        missing
            .map(|what| Verdict::error(what, "rebuild it on a replica set of MongoDB 4.4 or newer"))
            .collect()
    }
}
