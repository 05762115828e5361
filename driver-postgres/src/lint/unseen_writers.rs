//! P151: With session_replication_role = replica no ordinary trigger fires, and the worker of a subscription fires none for
//! statements at all.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `unseen_writers.md`.
pub const RULE: Own = Own {
    code: "P151",
    slug: "writers-without-triggers",
    severity: Severity::Error,
    page: include_str!("unseen_writers.md"),
    advice: "let the table be written by sessions of this server",
    judged: Judged::CaptureHandled,
};
