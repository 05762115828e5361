//! Slowing down before the application does: signals in, a decision with a reason out.

mod decide;
mod limits;
mod outside;

pub use decide::{Decision, Waiting, decide};
pub use limits::{Limits, status_signal};
pub use outside::Outside;

use serde::{Deserialize, Serialize};

/// A load signal, as a session read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// One of the names that [`Limits`] knows, such as `disk_free`.
    pub signal: String,
    /// The value; `None` when the server offers the signal and it cannot be read now.
    pub value: Option<f64>,
}
