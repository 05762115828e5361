//! M214: A column becomes NOT NULL on a server whose sessions are not strict: NULLs turn into zeros and empty texts, without
//! an error.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;

/// See `not_strict.md`.
pub struct NotStrict;

impl Rule for NotStrict {
    fn code(&self) -> &'static str {
        "M214"
    }

    fn slug(&self) -> &'static str {
        "not-null-without-strict"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("not_strict.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        Facts::of(subject)
            .not_strict
            .into_iter()
            .map(|column| {
                let message = format!(
                    "`{column}` becomes NOT NULL, and the server's sql_mode is not strict: a NULL that an \
                     application writes becomes a zero or an empty text, without an error"
                );
                let advice =
                    "make the server's sql_mode strict first: SET PERSIST sql_mode = 'STRICT_TRANS_TABLES'";
                match subject.draft.evidence.nulls.iter().any(|found| found.column == column) {
                    true => Verdict::error(message, advice),
                    false => Verdict::warning(message, advice),
                }
            })
            .collect()
    }
}
