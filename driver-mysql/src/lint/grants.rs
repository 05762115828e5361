//! M251: Privileges that the run needs, up to its last step.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::{Facts, refusals};

/// See `grants.md`.
pub struct Grants;

impl Rule for Grants {
    fn code(&self) -> &'static str {
        "M251"
    }

    fn slug(&self) -> &'static str {
        "preflight-grants"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("grants.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        refusals(&Facts::of(subject).grants)
    }
}
