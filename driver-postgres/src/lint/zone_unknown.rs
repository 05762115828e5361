//! P140: What comes of a statement depends on the session's zone, ours are in UTC, and nobody has said that others are.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `zone_unknown.md`.
pub const RULE: Own = Own {
    code: "P140",
    slug: "zone-unknown",
    severity: Severity::Error,
    page: include_str!("zone_unknown.md"),
    advice: "name the zone in the statement, with AT TIME ZONE '…'; or waive this where sessions are in UTC",
    judged: Judged::Warned,
};
