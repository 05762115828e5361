//! D306: Many documents are written by one command.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::{Facts, documents};

/// See `unbounded_update.md`.
pub struct UnboundedUpdate;

impl Rule for UnboundedUpdate {
    fn code(&self) -> &'static str {
        "D306"
    }

    fn slug(&self) -> &'static str {
        "unbounded-updatemany"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("unbounded_update.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let facts = Facts::of(subject);
        let updated = documents(facts.updates_many, "is updated", "are updated");
        let deleted = documents(facts.deletes_many, "is deleted", "are deleted");
        let said = [(facts.updates_many, updated), (facts.deletes_many, deleted)];
        let said = said.into_iter().filter(|(number, _)| *number > 0);
        said.map(|(_, what)| {
            let what = format!("{what} by one command, which nobody can slow down, stop or resume");
            Verdict::error(what, "do it in ranges of _id").handled()
        })
        .collect()
    }
}
