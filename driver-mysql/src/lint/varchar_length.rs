//! M206: A VARCHAR that grows past 255 bytes needs a second byte for its length in every row.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `varchar_length.md`.
pub struct VarcharLength;

impl Rule for VarcharLength {
    fn code(&self) -> &'static str {
        "M206"
    }

    fn slug(&self) -> &'static str {
        "varchar-length-byte"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("varchar_length.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .lengths
            .into_iter()
            .map(|change| {
                let verdict = Verdict::warning(change, "stay below the border, or let the table be rebuilt");
                if subject.strategy == Strategy::Shadow { verdict.handled() } else { verdict }
            })
            .collect()
    }
}
