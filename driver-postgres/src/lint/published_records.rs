//! P154: What replank writes down of a run goes to the subscribers of a publication of all tables.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `published_records.md`.
pub const RULE: Own = Own {
    code: "P154",
    slug: "records-in-a-publication",
    severity: Severity::Error,
    page: include_str!("published_records.md"),
    advice: "let the subscribers follow a publication that names its tables; or make the schema of the records there as well",
    judged: Judged::Refused,
};
