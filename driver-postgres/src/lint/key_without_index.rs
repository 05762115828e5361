//! P135: Each DELETE or UPDATE of a row that is referred to looks through the whole table for those that refer to it.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `key_without_index.md`.
pub const RULE: Own = Own {
    code: "P135",
    slug: "foreign-key-without-index",
    severity: Severity::Warning,
    page: include_str!("key_without_index.md"),
    advice: "CREATE INDEX CONCURRENTLY on the columns of the key",
    judged: Judged::Warned,
};
