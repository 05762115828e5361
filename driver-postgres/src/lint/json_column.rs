//! P120: json has no equality: DISTINCT, GROUP BY and UNION of such a column fail.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `json_column.md`.
pub const RULE: Own = Own {
    code: "P120",
    slug: "json-column",
    severity: Severity::Warning,
    page: include_str!("json_column.md"),
    advice: "use jsonb",
    judged: Judged::Warned,
};
