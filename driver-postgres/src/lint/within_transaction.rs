//! P103: CONCURRENTLY cannot run inside of a transaction: the server refuses the statement.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `within_transaction.md`.
pub const RULE: Own = Own {
    code: "P103",
    slug: "concurrently-in-transaction",
    severity: Severity::Error,
    page: include_str!("within_transaction.md"),
    advice: "leave out BEGIN and COMMIT: each step stands by itself",
    judged: Judged::Handled,
};
