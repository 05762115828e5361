//! C010: A new unique key over rows that collide cannot be built. Tools that copy with INSERT IGNORE
//! drop such rows silently. Here collisions are counted under the types and collations of the new shape
//! before anything is created; one that appears while the run goes on is reported, and fails the change
//! under the lock if it is still there.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `unique_on_existing.md`.
pub struct UniqueOnExisting;

impl Rule for UniqueOnExisting {
    fn code(&self) -> &'static str {
        "C010"
    }

    fn slug(&self) -> &'static str {
        "unique-on-existing"
    }

    fn severity(&self) -> Severity {
        Severity::Warning
    }

    fn page(&self) -> &'static str {
        include_str!("unique_on_existing.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .draft
            .evidence
            .collisions
            .iter()
            .filter(|collision| collision.groups > 0)
            .map(|collision| {
                Verdict::error(
                    format!(
                        "{} values are not unique under `{}` (first: {})",
                        collision.groups,
                        collision.unique,
                        collision.samples.join("; ")
                    ),
                    "remove the duplicates first: which row is right is not ours to guess",
                )
            })
            .collect()
    }
}
