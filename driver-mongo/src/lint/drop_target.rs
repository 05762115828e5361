//! D319: A rename replaces another collection.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `drop_target.md`.
pub struct DropTarget;

impl Rule for DropTarget {
    fn code(&self) -> &'static str {
        "D319"
    }

    fn slug(&self) -> &'static str {
        "out-or-drop-target"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("drop_target.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let target = Facts::of(subject).drops_target.into_iter();
        target
            .map(|target| {
                Verdict::error(
                    format!("collection {target} is replaced, with its documents, indexes and validator"),
                    "`replank rebuild` replaces a collection by one that was compared with it; or drop the old one first, which keeps it",
                )
            })
            .collect()
    }
}
