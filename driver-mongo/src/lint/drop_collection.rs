//! D322: A dropped collection is gone.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `drop_collection.md`.
pub struct DropCollection;

impl Rule for DropCollection {
    fn code(&self) -> &'static str {
        "D322"
    }

    fn slug(&self) -> &'static str {
        "drop-collection-or-database"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("drop_collection.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let Some(name) = Facts::of(subject).dropped else { return Vec::new() };
        let gone = Verdict::error(
            format!("collection {name} is gone for good"),
            "leave out --no-revert: it is then kept under another name until `replank finalize`",
        );
        vec![if subject.discards.is_empty() { gone.handled() } else { gone }]
    }
}
