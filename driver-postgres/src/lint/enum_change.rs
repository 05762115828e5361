//! P122: A value cannot be taken away again.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `enum_change.md`.
pub const RULE: Own = Own {
    code: "P122",
    slug: "enum-change",
    severity: Severity::Error,
    page: include_str!("enum_change.md"),
    advice: "say BEFORE or AFTER; instead of renaming, add a value, move the rows, and let go of the old one",
    judged: Judged::Warned,
};
