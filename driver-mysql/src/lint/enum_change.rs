//! M205: An ENUM or SET whose members change other than by more of them at the end, or whose values need another number
//! of bytes. MySQL itself copies the table then, and what is stored by number must be stored anew by name.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `enum_change.md`.
pub struct EnumChange;

impl Rule for EnumChange {
    fn code(&self) -> &'static str {
        "M205"
    }

    fn slug(&self) -> &'static str {
        "enum-set-change"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("enum_change.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .members
            .into_iter()
            .map(|change| {
                let verdict =
                    Verdict::error(change, "append members at the end, or let the table be rebuilt");
                if subject.strategy == Strategy::Shadow { verdict.handled() } else { verdict }
            })
            .collect()
    }
}
