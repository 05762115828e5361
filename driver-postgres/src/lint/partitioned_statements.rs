//! P137: COPY of a partitioned table fails, ONLY finds nothing in it, and ON CONFLICT needs all columns of a key that has grown.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `partitioned_statements.md`.
pub const RULE: Own = Own {
    code: "P137",
    slug: "statements-that-partitions-break",
    severity: Severity::Warning,
    page: include_str!("partitioned_statements.md"),
    advice: "look for such statements in what the application sends, and change them before the swap",
    judged: Judged::Warned,
};
