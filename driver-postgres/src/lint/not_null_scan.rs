//! P114: NULLs are looked for while nobody can read or write, unless a valid CHECK says that there are none.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `not_null_scan.md`.
pub const RULE: Own = Own {
    code: "P114",
    slug: "set-not-null-scan",
    severity: Severity::Error,
    page: include_str!("not_null_scan.md"),
    advice: "validate a CHECK first: SET NOT NULL believes it",
    judged: Judged::Handled,
};
