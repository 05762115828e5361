//! One error type with a kind, context, a hint and a source.
//!
//! The kind decides two things, each in one `match`: whether the engine may try again, and the
//! process's exit code. Server codes become kinds in a driver's `error.rs` and nowhere else.

use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as the engine and the exit code care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line, a file or a URL says something that cannot be meant.
    Usage,
    /// A rule, the preflight or the state of a run forbids it. Nothing was changed.
    Refused,
    /// Rows differ, and no later change explains it.
    Mismatch,
    /// Stopped at a gate or a checkpoint; can be resumed.
    Gate,
    /// Another live runner holds the lease.
    LeaseHeld,
    /// This runner's fencing token is no longer the current one: another took over. Or another server did.
    Fenced,
    /// The owner of the table's name could not be found out. A person must look.
    OutcomeUnknown,
    /// SIGINT or SIGTERM; the checkpoint is saved.
    Interrupted,
    /// A lock was not granted, or not released, within its budget. Nothing was changed.
    LockTimeout,
    /// Rolled back by the server (deadlock, busy, serialisation); the same call may be repeated.
    Retry,
    /// The reply was lost: the statement may have run, may be running, or may run later.
    ConnectionLost,
    /// The feed no longer reaches back to the saved position, or delivered what it cannot explain.
    FeedGap,
    /// Somebody else changed the table's definition while the run went on.
    ForeignDdl,
    /// Rows of one source snapshot collide under a unique key of the new shape.
    Duplicate,
    /// A value does not fit the new shape.
    Unfit,
    /// The object is not there.
    NotFound,
    /// The server has no room left.
    DiskFull,
    /// Anything else that the server or the system said.
    Server,
    /// An invariant of ours did not hold. Always a bug.
    Internal,
}

impl ErrorKind {
    /// The process exit code that this kind ends in, as documented in `docs/exit-codes.md`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::NotFound => 2,
            Self::Refused => 3,
            Self::Mismatch => 4,
            Self::Gate => 5,
            Self::LeaseHeld | Self::Fenced => 6,
            Self::OutcomeUnknown => 8,
            Self::Interrupted => 130,
            Self::LockTimeout
            | Self::Retry
            | Self::ConnectionLost
            | Self::FeedGap
            | Self::ForeignDdl
            | Self::Duplicate
            | Self::Unfit
            | Self::DiskFull
            | Self::Server
            | Self::Internal => 1,
        }
    }

    /// What the engine does with a failed call that changes nothing outside its own transaction.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Self::Retry | Self::LockTimeout => Retry::Again,
            Self::ConnectionLost => Retry::AfterFence,
            Self::Usage
            | Self::Refused
            | Self::Mismatch
            | Self::Gate
            | Self::LeaseHeld
            | Self::Fenced
            | Self::OutcomeUnknown
            | Self::Interrupted
            | Self::FeedGap
            | Self::ForeignDdl
            | Self::Duplicate
            | Self::Unfit
            | Self::NotFound
            | Self::DiskFull
            | Self::Server
            | Self::Internal => Retry::Never,
        }
    }
}

/// Whether a failed call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The server rolled it back: repeat it as it was.
    Again,
    /// It may still run: rename the written table first (R5), then repeat it.
    AfterFence,
    /// Repeating changes nothing.
    Never,
}

/// An error for the person at three in the morning: what happened, in what state things are, and
/// what to type next.
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `message` is a lower-case fragment with values in backticks.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), hint: None, source: None }
    }

    /// Adds a named fact. Never row contents other than keys and colliding values that the reader
    /// must decide about; never secrets.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// What to do next. A later hint replaces an earlier one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without context or hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, if the thrower knew.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The facts added with [`Error::with`].
    #[must_use]
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (index, (name, value)) in self.context.iter().enumerate() {
            f.write_str(if index == 0 { " (" } else { ", " })?;
            write!(f, "{name}: {value}")?;
        }
        if !self.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        if let Some(hint) = &self.hint {
            write!(f, " [hint: {hint}]")?;
        }
        if let Some(source) = &self.source {
            write!(f, " [caused by: {source}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_has_message_and_context_but_no_hint() {
        let error = Error::new(ErrorKind::LockTimeout, "table `t` stayed locked")
            .with("waited", "200 ms")
            .with("holder", 7)
            .hint("end the transaction");
        assert_eq!(error.to_string(), "table `t` stayed locked (waited: 200 ms, holder: 7)");
        assert_eq!(error.hint_text(), Some("end the transaction"));
    }

    #[test]
    fn a_lost_reply_is_never_repeated_without_a_fence() {
        assert_eq!(ErrorKind::ConnectionLost.retry(), Retry::AfterFence);
        assert_eq!(ErrorKind::Fenced.retry(), Retry::Never);
    }
}
