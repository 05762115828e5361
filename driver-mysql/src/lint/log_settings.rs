//! M250: Settings without which the log does not show every changed row.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::{Facts, refusals};

/// See `log_settings.md`.
pub struct LogSettings;

impl Rule for LogSettings {
    fn code(&self) -> &'static str {
        "M250"
    }

    fn slug(&self) -> &'static str {
        "preflight-log"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("log_settings.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        refusals(&Facts::of(subject).log)
    }
}
