//! P131: Programs that were written for a column without NULLs meet them from then on, and on the way back they would have to be looked for.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `drop_not_null.md`.
pub const RULE: Own = Own {
    code: "P131",
    slug: "drop-not-null",
    severity: Severity::Warning,
    page: include_str!("drop_not_null.md"),
    advice: "see that every program that reads the column takes NULL",
    judged: Judged::Warned,
};
