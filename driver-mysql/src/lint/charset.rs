//! M207: Another character set or collation: texts are converted, and values that were different may become equal.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `charset.md`.
pub struct Charset;

impl Rule for Charset {
    fn code(&self) -> &'static str {
        "M207"
    }

    fn slug(&self) -> &'static str {
        "charset-collation-change"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("charset.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .recoded
            .into_iter()
            .map(|change| match subject.strategy {
                Strategy::Shadow => {
                    Verdict::error(change, "every text is checked before, and compared after").handled()
                }
                _ => Verdict::warning(change, "applications compare by the new rules from then on"),
            })
            .collect()
    }
}
