//! P153: A pooler in transaction mode gives each transaction another server process.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `pooler.md`.
pub const RULE: Own = Own {
    code: "P153",
    slug: "transaction-pooler",
    severity: Severity::Error,
    page: include_str!("pooler.md"),
    advice: "name the server itself in the target, or a pool with pool_mode = session",
    judged: Judged::Refused,
};
