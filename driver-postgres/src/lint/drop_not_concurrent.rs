//! P102: Without CONCURRENTLY the server asks for a lock against readers and writers, and whoever comes later waits behind it.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `drop_not_concurrent.md`.
pub const RULE: Own = Own {
    code: "P102",
    slug: "drop-index-not-concurrent",
    severity: Severity::Error,
    page: include_str!("drop_not_concurrent.md"),
    advice: "write DROP INDEX CONCURRENTLY",
    judged: Judged::Handled,
};
