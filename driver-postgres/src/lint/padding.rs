//! P133: Numbers and times begin at multiples of their size: a narrow column in front of a wide one leaves bytes unused in every
//! row.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `padding.md`.
pub const RULE: Own = Own {
    code: "P133",
    slug: "padding",
    severity: Severity::Info,
    page: include_str!("padding.md"),
    advice: "put wide columns first, and those of varying length last",
    judged: Judged::Noted,
};
