//! Commands that steer a run from another process or machine. They travel through the target.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is asked of the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Control {
    /// Stop copying; keep the feed applied.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Change limits, by the names that `throttle` documents.
    Throttle {
        /// Limit → value.
        set: BTreeMap<String, String>,
    },
    /// Swap as soon as it is safe.
    Cutover,
    /// Give up: remove everything that the run made.
    Abort,
    /// Save the checkpoint and end; the run can be resumed.
    Stop,
}
