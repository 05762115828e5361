//! The two ways to show what a run says.

use replank_core::event::Body;
use replank_core::ident::RunId;

/// Shows events as they come. Called from the engine's loop, so nothing here waits for anybody.
pub trait Display: Send + Sync {
    /// Shows one event.
    fn show(&self, run: Option<&RunId>, body: &Body);

    /// Something to know on the way, for a person only.
    fn note(&self, text: &str);

    /// Removes what is drawn and not lasting, such as a bar.
    fn clear(&self);
}
