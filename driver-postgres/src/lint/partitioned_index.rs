//! P128: There is no CONCURRENTLY for the index of a partitioned table: writers of all partitions wait until the last one is built.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `partitioned_index.md`.
pub const RULE: Own = Own {
    code: "P128",
    slug: "index-on-partitioned",
    severity: Severity::Error,
    page: include_str!("partitioned_index.md"),
    advice: "ON ONLY the parent, CONCURRENTLY on each partition, then ALTER INDEX … ATTACH PARTITION",
    judged: Judged::Handled,
};
