//! P105: A build that was interrupted leaves an index that costs every write and serves no query; IF NOT EXISTS takes it for done.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `invalid_left.md`.
pub const RULE: Own = Own {
    code: "P105",
    slug: "invalid-index-left",
    severity: Severity::Warning,
    page: include_str!("invalid_left.md"),
    advice: "look at pg_index.indisvalid after each build",
    judged: Judged::Handled,
};
