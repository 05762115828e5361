//! P126: ATTACH looks at every row of the table, and of the default partition, under its lock.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `attach_detach.md`.
pub const RULE: Own = Own {
    code: "P126",
    slug: "attach-or-detach",
    severity: Severity::Error,
    page: include_str!("attach_detach.md"),
    advice: "a CHECK that says what the bounds say, validated before ATTACH; DETACH … CONCURRENTLY",
    judged: Judged::Handled,
};
