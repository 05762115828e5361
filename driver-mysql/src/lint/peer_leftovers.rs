//! M254: Another tool for online changes was here, or still is.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `peer_leftovers.md`.
pub struct PeerLeftovers;

impl Rule for PeerLeftovers {
    fn code(&self) -> &'static str {
        "M254"
    }

    fn slug(&self) -> &'static str {
        "leftover-artefacts"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("peer_leftovers.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .peers
            .into_iter()
            .map(|left| Verdict::warning(format!("{} stands beside the table", left.what), left.mend))
            .collect()
    }
}
