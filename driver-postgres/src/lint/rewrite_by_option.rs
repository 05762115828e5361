//! P129: SET TABLESPACE, SET LOGGED, SET UNLOGGED and SET ACCESS METHOD write every row anew while nobody can read or write.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `rewrite_by_option.md`.
pub const RULE: Own = Own {
    code: "P129",
    slug: "rewrite-by-option",
    severity: Severity::Error,
    page: include_str!("rewrite_by_option.md"),
    advice: "let replank rebuild the table",
    judged: Judged::ByRebuild,
};
