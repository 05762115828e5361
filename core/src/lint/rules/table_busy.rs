//! C032: One run changes a table at a time. A run that waits as `reversible` does not count for changes
//! that the server makes itself, but a rebuild is refused while an earlier one still keeps a retired
//! table: end that one with `replank finalize RUN` or `replank revert RUN`.

use crate::lint::{Rule, Severity, Subject, Verdict};

/// See `table_busy.md`.
pub struct TableBusy;

impl Rule for TableBusy {
    fn code(&self) -> &'static str {
        "C032"
    }

    fn slug(&self) -> &'static str {
        "table-busy"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("table_busy.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        subject
            .draft
            .evidence
            .busy
            .iter()
            .map(|why| Verdict::error(why.clone(), "end the earlier run first, as its message says"))
            .collect()
    }
}
