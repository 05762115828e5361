//! P107: The index of a new primary key is built, and NULLs are looked for, while nobody can read or write.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `primary_key_direct.md`.
pub const RULE: Own = Own {
    code: "P107",
    slug: "add-primary-key-direct",
    severity: Severity::Error,
    page: include_str!("primary_key_direct.md"),
    advice: "build a unique index CONCURRENTLY, then ADD PRIMARY KEY USING INDEX",
    judged: Judged::Handled,
};
