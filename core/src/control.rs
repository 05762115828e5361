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

/// What a runner answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It does what was asked, or has done it.
    pub obeyed: bool,
    /// In a few words.
    pub text: String,
}

impl Answer {
    /// It does.
    pub fn obeyed(text: impl Into<String>) -> Self {
        Self { obeyed: true, text: text.into() }
    }

    /// It does not, and why.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { obeyed: false, text: text.into() }
    }

    /// As it is kept in the store.
    #[must_use]
    pub fn write(&self) -> String {
        serde_json::json!({ "obeyed": self.obeyed, "text": self.text }).to_string()
    }

    /// What [`Answer::write`] wrote; any other text is one of a runner of another version, and means that it obeyed.
    #[must_use]
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self::obeyed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_were_written() {
        for answer in [Answer::obeyed("paused"), Answer::refused("no \"way\"")] {
            assert_eq!(Answer::read(&answer.write()), answer);
        }
        assert_eq!(Answer::read("paused"), Answer::obeyed("paused"));
    }
}
