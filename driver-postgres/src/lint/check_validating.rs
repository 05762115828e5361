//! P113: While the rows that are there are looked at, nobody can read or write.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `check_validating.md`.
pub const RULE: Own = Own {
    code: "P113",
    slug: "add-check-validating",
    severity: Severity::Error,
    page: include_str!("check_validating.md"),
    advice: "add it NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own",
    judged: Judged::Handled,
};
