//! P110: The index of an EXCLUDE can be built in no other way than under a lock against all.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `exclusion.md`.
pub const RULE: Own = Own {
    code: "P110",
    slug: "add-exclusion",
    severity: Severity::Error,
    page: include_str!("exclusion.md"),
    advice: "let the table be rebuilt",
    judged: Judged::ByRebuild,
};
