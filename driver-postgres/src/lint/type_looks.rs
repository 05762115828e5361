//! P119: A CHECK or an index on the column makes the server look at every row, or build the index, under a lock, although the values stay.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `type_looks.md`.
pub const RULE: Own = Own {
    code: "P119",
    slug: "type-change-looks-at-rows",
    severity: Severity::Warning,
    page: include_str!("type_looks.md"),
    advice: "drop the constraint, change the type, and add it again NOT VALID",
    judged: Judged::ByRebuild,
};
