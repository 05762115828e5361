//! M252: The server is not the one place where the table is written.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::{Facts, refusals};

/// See `topology.md`.
pub struct Topology;

impl Rule for Topology {
    fn code(&self) -> &'static str {
        "M252"
    }

    fn slug(&self) -> &'static str {
        "preflight-topology"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("topology.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        refusals(&Facts::of(subject).topology)
    }
}
