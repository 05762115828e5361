//! M253: Somebody has held the table for a long time: whoever wants its lock waits, and everybody after him as well.

use replank_core::lint::{Rule, Severity, Subject, Verdict};

use super::Facts;
use crate::connect::Product;

/// See `old_holders.md`.
pub struct OldHolders;

impl Rule for OldHolders {
    fn code(&self) -> &'static str {
        "M253"
    }

    fn slug(&self) -> &'static str {
        "preflight-lock-holders"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("old_holders.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        let facts = Facts::of(subject);
        let mut verdicts: Vec<Verdict> = facts
            .holders
            .iter()
            .map(|holder| {
                Verdict::error(format!("{holder} holds the table"), "end that session, or wait for its end")
            })
            .collect();
        if facts.has_unseen_holders {
            let mend = match subject.draft.server.product == Product::MariaDb.name() {
                // It cannot be turned on while the server runs.
                true => {
                    "start the server with --performance-schema and \
                     --performance-schema-instrument='wait/lock/metadata/sql/mdl=ON'"
                }
                false => {
                    "UPDATE performance_schema.setup_instruments SET enabled = 'YES' \
                     WHERE name = 'wait/lock/metadata/sql/mdl'"
                }
            };
            let found =
                "who holds the table cannot be seen: performance_schema does not record metadata locks";
            verdicts.push(Verdict::warning(found, mend));
        }
        verdicts
    }
}
