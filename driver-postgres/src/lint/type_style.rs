//! P121: Some types make later changes harder than others that hold the same.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `type_style.md`.
pub const RULE: Own = Own {
    code: "P121",
    slug: "type-style",
    severity: Severity::Info,
    page: include_str!("type_style.md"),
    advice: "choose the other type now: it is a rebuild later",
    judged: Judged::Noted,
};
