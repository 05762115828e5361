//! P108: ADD PRIMARY KEY makes its columns NOT NULL, and looks at every row for that while nobody can read or write, even with
//! USING INDEX.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `nullable_key.md`.
pub const RULE: Own = Own {
    code: "P108",
    slug: "primary-key-on-nullable",
    severity: Severity::Error,
    page: include_str!("nullable_key.md"),
    advice: "make the columns NOT NULL first, by a CHECK that is validated",
    judged: Judged::Handled,
};
