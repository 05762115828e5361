//! P118: The server writes every row and every index anew while nobody can read or write.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `type_rewrites.md`.
pub const RULE: Own = Own {
    code: "P118",
    slug: "type-change-rewrites",
    severity: Severity::Error,
    page: include_str!("type_rewrites.md"),
    advice: "let the table be rebuilt",
    judged: Judged::ByRebuild,
};
