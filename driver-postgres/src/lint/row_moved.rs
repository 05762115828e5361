//! P138: A BEFORE INSERT trigger for each row must not move the row to another partition than the one that it was sent to.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `row_moved.md`.
pub const RULE: Own = Own {
    code: "P138",
    slug: "trigger-moves-row",
    severity: Severity::Warning,
    page: include_str!("row_moved.md"),
    advice: "let the column get its value by a DEFAULT or in the INSERT; or waive this, where the value stays in the same partition",
    judged: Judged::Warned,
};
