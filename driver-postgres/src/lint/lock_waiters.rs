//! P104: A session that waits for an advisory lock inside of a statement keeps its snapshot, and CONCURRENTLY waits for that.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `lock_waiters.md`.
pub const RULE: Own = Own {
    code: "P104",
    slug: "advisory-lock-waiters",
    severity: Severity::Error,
    page: include_str!("lock_waiters.md"),
    advice: "let that session end, or whoever waits ask with pg_try_advisory_lock and without an open transaction",
    judged: Judged::Refused,
};
