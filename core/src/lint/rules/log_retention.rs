//! C044: Changes are read from the server's log. It must reach back over the whole run, and over the
//! time in which the change can be taken back. A log that is purged earlier stops the run.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `log_retention.md`.
pub struct LogRetention;

impl Rule for LogRetention {
    fn code(&self) -> &'static str {
        "C044"
    }

    fn slug(&self) -> &'static str {
        "log-retention-too-short"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("log_retention.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .draft
            .evidence
            .retention
            .iter()
            .map(|why| Verdict::error(why.clone(), "keep the log for longer, as the message says"))
            .collect()
    }
}
