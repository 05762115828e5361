//! How a command ended: the state, the exit code, and what is said last.

use replank_core::ErrorKind;
use replank_core::run::RunState;

/// The end of a command that did what it was asked to do, also when the answer is "no".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The state of the run, where there is one.
    pub state: Option<RunState>,
    /// The exit code.
    pub exit: u8,
    /// What came out, in one sentence.
    pub message: String,
    /// What to type next.
    pub hint: Option<String>,
    /// The message only repeats what a person has just read.
    pub is_said: bool,
}

impl Outcome {
    /// Done.
    pub fn done(message: impl Into<String>) -> Self {
        Self { state: None, exit: 0, message: message.into(), hint: None, is_said: false }
    }

    /// Done, and the text on stdout says it all: the message is for programs.
    pub fn said(message: impl Into<String>) -> Self {
        Self { is_said: true, ..Self::done(message) }
    }

    /// The command worked, and its answer is that something is refused or must be mended.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { exit: ErrorKind::Refused.exit_code(), ..Self::done(message) }
    }

    /// With the state of a run.
    pub fn state(mut self, state: RunState) -> Self {
        self.state = Some(state);
        self
    }

    /// With what to type next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
