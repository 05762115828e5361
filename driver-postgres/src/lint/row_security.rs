//! P134: With row level security and no policy everybody but the owner sees no row at all.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `row_security.md`.
pub const RULE: Own = Own {
    code: "P134",
    slug: "row-security-without-policy",
    severity: Severity::Warning,
    page: include_str!("row_security.md"),
    advice: "CREATE POLICY first",
    judged: Judged::Warned,
};
