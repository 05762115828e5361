//! P150: A transaction that holds the table keeps every exclusive lock waiting; one with an old snapshot keeps concurrent builds waiting.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `old_transactions.md`.
pub const RULE: Own = Own {
    code: "P150",
    slug: "old-transactions",
    severity: Severity::Warning,
    page: include_str!("old_transactions.md"),
    advice: "end them, or wait: they are named",
    judged: Judged::Warned,
};
