//! P116: A column that is GENERATED … STORED is computed for every row while nobody can read or write.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `stored_column.md`.
pub const RULE: Own = Own {
    code: "P116",
    slug: "add-stored-column",
    severity: Severity::Error,
    page: include_str!("stored_column.md"),
    advice: "let replank rebuild the table, or from PostgreSQL 18 on make it VIRTUAL",
    judged: Judged::ByRebuild,
};
