//! M231: The key that could tell rows apart is computed: from other columns, or from a JSON document.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `computed_key.md`.
pub struct ComputedKey;

impl Rule for ComputedKey {
    fn code(&self) -> &'static str {
        "M231"
    }

    fn slug(&self) -> &'static str {
        "generated-or-json-key"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("computed_key.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let facts = Facts::of(subject);
        facts
            .computed_key
            .into_iter()
            .map(|why| Verdict::error(why, "add a primary key of plain columns in an earlier change"))
            .collect()
    }
}
