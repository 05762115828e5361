//! P106: In 14.0 to 14.3 an index that is built CONCURRENTLY can lack rows that were updated meanwhile, and nothing tells.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `corrupting_release.md`.
pub const RULE: Own = Own {
    code: "P106",
    slug: "concurrent-build-corrupts",
    severity: Severity::Error,
    page: include_str!("corrupting_release.md"),
    advice: "install the newest release of PostgreSQL 14 first",
    judged: Judged::Refused,
};
