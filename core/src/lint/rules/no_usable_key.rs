//! C016: Rows are copied in key order and changes are applied by key, so a rebuild needs a unique key
//! without NULLs whose equality is exact. Floating-point keys, partial and expression indexes do not
//! count.

use crate::lint::{Rule, Severity, Subject, Verdict};
use crate::plan::Strategy;

/// See `no_usable_key.md`.
pub struct NoUsableKey;

impl Rule for NoUsableKey {
    fn code(&self) -> &'static str {
        "C016"
    }

    fn slug(&self) -> &'static str {
        "no-usable-key"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("no_usable_key.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let needs_key = subject.strategy == Strategy::Shadow;
        subject
            .draft
            .evidence
            .no_key
            .iter()
            .map(|why| {
                let verdict = Verdict::error(
                    format!("`{}` has no usable key: {why}", subject.draft.table.id),
                    "add a primary key, or a unique key of NOT NULL columns, in an earlier change",
                );
                if needs_key { verdict } else { verdict.handled() }
            })
            .collect()
    }
}
