//! P101: Without CONCURRENTLY the build keeps every writer of the table out until it is done.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `index_not_concurrent.md`.
pub const RULE: Own = Own {
    code: "P101",
    slug: "create-index-not-concurrent",
    severity: Severity::Error,
    page: include_str!("index_not_concurrent.md"),
    advice: "write CREATE INDEX CONCURRENTLY",
    judged: Judged::Handled,
};
