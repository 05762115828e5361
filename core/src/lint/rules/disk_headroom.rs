//! C043: A rebuild needs room for a second table with its indexes, and for the log of both. Where the
//! free disk can be read, a change that does not fit is refused before it begins; where it cannot, this
//! is a warning.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `disk_headroom.md`.
pub struct DiskHeadroom;

impl Rule for DiskHeadroom {
    fn code(&self) -> &'static str {
        "C043"
    }

    fn slug(&self) -> &'static str {
        "disk-headroom"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("disk_headroom.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let Some(needed) = subject.disk_bytes else { return Vec::new() };
        match subject.draft.evidence.disk_free {
            Some(free) if free < needed => vec![Verdict::error(
                format!("about {} MiB are needed meanwhile and {} MiB are free", needed >> 20, free >> 20),
                "free some disk, or choose a cheaper strategy",
            )],
            Some(_) => Vec::new(),
            None => vec![Verdict::warning(
                format!("about {} MiB are needed meanwhile; free disk cannot be read here", needed >> 20),
                "look at the server's disk yourself",
            )],
        }
    }
}
