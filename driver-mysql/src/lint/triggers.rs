//! M209: Triggers belong to a table and not to its name: they have to be made again on the new one.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;
use super::facts::followed;

/// See `triggers.md`.
pub struct Triggers;

impl Rule for Triggers {
    fn code(&self) -> &'static str {
        "M209"
    }

    fn slug(&self) -> &'static str {
        "triggers-present"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("triggers.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        let gap = "a swap that is killed half-way can leave some off until the next command on the run, which makes them again";
        let advice = "drop the trigger in an earlier change, and make it again afterwards";
        followed(&Facts::of(subject).triggers, gap, advice)
    }
}
