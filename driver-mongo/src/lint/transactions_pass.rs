//! D323: A transaction that is open while writes are refused commits all the same.

use replank_core::lint::{Rule, Severity, Subject, Verdict};
use replank_core::plan::Strategy;

use super::Facts;

/// See `transactions_pass.md`.
pub struct TransactionsPass;

impl Rule for TransactionsPass {
    fn code(&self) -> &'static str {
        "D323"
    }

    fn slug(&self) -> &'static str {
        "transactions-pass-the-fence"
    }

    fn severity(&self) -> Severity {
        Severity::Error
    }

    fn page(&self) -> &'static str {
        include_str!("transactions_pass.md")
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Verdict> {
        if subject.strategy != Strategy::Shadow {
            return Vec::new();
        }
        if !Facts::of(subject).transactions_pass {
            return Vec::new();
        }
        vec![Verdict::error(
            "this server does not wait for open transactions before it refuses writes: what they commit during the swap is lost",
            "stop transactions on the collection for the moment of the swap (`--cutover manual`), and waive the rule",
        )]
    }
}
