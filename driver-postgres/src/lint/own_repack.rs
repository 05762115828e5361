//! P136: REPACK (CONCURRENTLY) leaves an empty table to whoever has an older snapshot.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `own_repack.md`.
pub const RULE: Own = Own {
    code: "P136",
    slug: "repack-and-older-snapshots",
    severity: Severity::Error,
    page: include_str!("own_repack.md"),
    advice: "leave out -D strategy=native-online: a rebuild waits for such snapshots",
    judged: Judged::OfServer,
};
