//! P132: A name without a schema is looked up along search_path, which is another one for another login.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `same_name.md`.
pub const RULE: Own = Own {
    code: "P132",
    slug: "name-in-several-schemas",
    severity: Severity::Info,
    page: include_str!("same_name.md"),
    advice: "write the schema in front of the name",
    judged: Judged::Noted,
};
