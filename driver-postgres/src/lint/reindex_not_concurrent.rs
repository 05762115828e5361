//! P125: Without CONCURRENTLY writers wait until the index is built anew, and readers who would use it as well.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `reindex_not_concurrent.md`.
pub const RULE: Own = Own {
    code: "P125",
    slug: "reindex-not-concurrent",
    severity: Severity::Error,
    page: include_str!("reindex_not_concurrent.md"),
    advice: "write REINDEX … CONCURRENTLY",
    judged: Judged::Handled,
};
