//! P109: The index of a new UNIQUE is built while nobody can read or write.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `unique_direct.md`.
pub const RULE: Own = Own {
    code: "P109",
    slug: "add-unique-direct",
    severity: Severity::Error,
    page: include_str!("unique_direct.md"),
    advice: "build a unique index CONCURRENTLY, then ADD UNIQUE USING INDEX",
    judged: Judged::Handled,
};
