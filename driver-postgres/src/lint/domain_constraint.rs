//! P123: A constraint of a domain is held against the rows of every table that uses it, and writers of all of them wait
//! meanwhile.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `domain_constraint.md`.
pub const RULE: Own = Own {
    code: "P123",
    slug: "domain-constraint",
    severity: Severity::Warning,
    page: include_str!("domain_constraint.md"),
    advice: "write the CHECK on the column: it can be NOT VALID, and validated beside those who write",
    judged: Judged::Warned,
};
