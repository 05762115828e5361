//! M229: Another table of the database differs from this one by the case of its letters only.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `case_twin.md`.
pub struct CaseTwin;

impl Rule for CaseTwin {
    fn code(&self) -> &'static str {
        "M229"
    }

    fn slug(&self) -> &'static str {
        "case-twin-table"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("case_twin.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .twins
            .into_iter()
            .map(|twin| {
                Verdict::error(
                    format!(
                        "`{twin}` differs from `{}` by the case of its letters only",
                        subject.draft.table.id.name
                    ),
                    "rename one of the two first",
                )
            })
            .collect()
    }
}
