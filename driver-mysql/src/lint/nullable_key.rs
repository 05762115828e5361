//! M230: The only unique key that could tell rows apart has a column that may be NULL, and NULLs are never equal.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `nullable_key.md`.
pub struct NullableKey;

impl Rule for NullableKey {
    fn code(&self) -> &'static str {
        "M230"
    }

    fn slug(&self) -> &'static str {
        "nullable-unique-chunk-key"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("nullable_key.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let facts = Facts::of(subject);
        facts
            .nullable_key
            .into_iter()
            .map(|why| {
                Verdict::error(why, "add a primary key, or make the column NOT NULL, in an earlier change")
            })
            .collect()
    }
}
