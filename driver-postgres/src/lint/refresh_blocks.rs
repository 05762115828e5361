//! P130: REFRESH keeps readers of the view out until it is done, unless a unique index of columns lets it be CONCURRENTLY.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `refresh_blocks.md`.
pub const RULE: Own = Own {
    code: "P130",
    slug: "refresh-blocks-readers",
    severity: Severity::Warning,
    page: include_str!("refresh_blocks.md"),
    advice: "CREATE UNIQUE INDEX on columns of the view, once: REFRESH can be CONCURRENTLY from then on",
    judged: Judged::Handled,
};
