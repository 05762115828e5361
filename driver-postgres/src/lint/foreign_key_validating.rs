//! P111: While the rows that are there are looked at, writers of both tables wait.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `foreign_key_validating.md`.
pub const RULE: Own = Own {
    code: "P111",
    slug: "add-foreign-key-validating",
    severity: Severity::Error,
    page: include_str!("foreign_key_validating.md"),
    advice: "add it NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own",
    judged: Judged::Handled,
};
