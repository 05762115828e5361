//! P112: VALIDATE lets others write while it looks at the rows; in one statement or transaction with something stronger it does
//! not.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `validate_together.md`.
pub const RULE: Own = Own {
    code: "P112",
    slug: "validate-with-others",
    severity: Severity::Error,
    page: include_str!("validate_together.md"),
    advice: "give VALIDATE a statement and a transaction of its own",
    judged: Judged::Handled,
};
