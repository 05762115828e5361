//! P127: Before PostgreSQL 18 a foreign key of a partitioned table cannot be NOT VALID, so every row is looked at under locks.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `partitioned_key.md`.
pub const RULE: Own = Own {
    code: "P127",
    slug: "foreign-key-of-partitioned",
    severity: Severity::Error,
    page: include_str!("partitioned_key.md"),
    advice: "add it to each partition by replank, and then to the table",
    judged: Judged::Refused,
};
