//! P124: VACUUM FULL, CLUSTER and REPACK keep everybody out while they write the table anew.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `vacuum_full.md`.
pub const RULE: Own = Own {
    code: "P124",
    slug: "vacuum-full-or-cluster",
    severity: Severity::Error,
    page: include_str!("vacuum_full.md"),
    advice: "replank rebuild TABLE",
    judged: Judged::Handled,
};
