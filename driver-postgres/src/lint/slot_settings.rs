//! P152: Capture by a slot needs settings of the server, and a slot that is too far behind is given up by it.

use replank_core::lint::Severity;

use super::own::{Judged, Own};

/// See `slot_settings.md`.
pub const RULE: Own = Own {
    code: "P152",
    slug: "slot-settings",
    severity: Severity::Warning,
    page: include_str!("slot_settings.md"),
    advice: "set it, or leave out -D capture=slot: triggers need none of it",
    judged: Judged::CaptureWarned,
};
