//! P115: A default that differs from row to row, a stored computation or a counting column makes the server write every row anew under a lock.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `column_rewrites.md`.
pub const RULE: Own = Own {
    code: "P115",
    slug: "add-column-rewrites",
    severity: Severity::Error,
    page: include_str!("column_rewrites.md"),
    advice: "add the column without it, set the default, and fill the rows in batches",
    judged: Judged::ByRebuild,
};
