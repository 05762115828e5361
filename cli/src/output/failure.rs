//! An error at the end of a command: what happened, and what to type next.

use std::fmt;
use std::io::{IsTerminal, Write};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, Severity};
use replank_core::{Error, ErrorKind};

use super::paint::Paint;
use super::wrap;

/// Shows an error on stderr: drawn on a terminal, plain lines elsewhere.
pub fn show(error: &Error) {
    let text = if std::io::stderr().is_terminal() { drawn(error) } else { plain(error) };
    if writeln!(std::io::stderr().lock(), "{text}").is_err() {
        tracing::debug!("nobody reads stderr any more");
    }
}

/// The word before the message. A run that waits for a person, or was stopped by one, did nothing wrong.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Gate => "waiting",
        ErrorKind::Interrupted => "stopped",
        _ => "error",
    }
}

fn plain(error: &Error) -> String {
    let mut lines = vec![format!("{}: {error}", word(error.kind()))];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        lines.push(format!("  caused by: {cause}"));
        source = cause.source();
    }
    if let Some(hint) = error.hint_text() {
        lines.push(format!("hint: {hint}"));
    }
    lines.join("\n")
}

fn drawn(error: &Error) -> String {
    let theme =
        if Paint::stderr().is_on() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(wrap::WIDTH);
    let mut drawn = String::new();
    match handler.render_report(&mut drawn, &Shown(error)) {
        Ok(()) => drawn.trim_end().to_owned(),
        Err(fmt::Error) => plain(error),
    }
}

/// An error of core, as the renderer wants it.
struct Shown<'a>(&'a Error);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl std::error::Error for Shown<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.0)
    }
}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(match self.0.kind() {
            ErrorKind::Gate | ErrorKind::Interrupted => Severity::Advice,
            ErrorKind::Refused => Severity::Warning,
            _ => Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.hint_text().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_have_message_cause_and_hint() {
        let error = Error::new(ErrorKind::Server, "no room")
            .with("free", "1 MiB")
            .caused_by(std::io::Error::other("disk is full"))
            .hint("free some");
        assert_eq!(plain(&error), "error: no room (free: 1 MiB)\n  caused by: disk is full\nhint: free some");
        assert_eq!(plain(&Error::new(ErrorKind::Gate, "ready")), "waiting: ready");
    }

    #[test]
    fn drawn_has_message_and_hint() {
        let error = Error::new(ErrorKind::Refused, "run 1 is not over").hint("resume it");
        let text = drawn(&error);
        assert!(text.contains("run 1 is not over") && text.contains("resume it"), "{text}");
    }
}
