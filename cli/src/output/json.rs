//! One JSON object a line.

use replank_core::event::Body;
use replank_core::ident::RunId;

use super::display::Display;
use super::{event, print};

/// JSON lines on stdout.
pub struct Lines;

impl Display for Lines {
    fn show(&self, run: Option<&RunId>, body: &Body) {
        match serde_json::to_string(&event(run, body)) {
            Ok(line) => print(&line),
            Err(error) => tracing::error!(%error, "an event could not be written as JSON"),
        }
    }

    /// Programs read events only.
    fn note(&self, _text: &str) {}

    fn clear(&self) {}
}
