//! C022: PostgreSQL cuts names at 63 bytes, MySQL refuses names over 64 characters, and two long names
//! that are cut become one.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `identifier_too_long.md`.
pub struct IdentifierTooLong;

impl Rule for IdentifierTooLong {
    fn code(&self) -> &'static str {
        "C022"
    }

    fn slug(&self) -> &'static str {
        "identifier-too-long"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("identifier_too_long.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .draft
            .evidence
            .long_names
            .iter()
            .map(|name| {
                Verdict::error(
                    format!("the name `{name}` is longer than the server takes"),
                    "choose a shorter name: servers cut names silently or refuse them late",
                )
            })
            .collect()
    }
}
