//! Colours: on a terminal, unless `NO_COLOR` is set.

use std::io::IsTerminal;

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    is_on: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { is_on: false }
    }

    /// Those that stdout can show.
    pub fn stdout() -> Self {
        Self { is_on: std::io::stdout().is_terminal() && is_wanted() }
    }

    /// Those that stderr can show.
    pub fn stderr() -> Self {
        Self { is_on: std::io::stderr().is_terminal() && is_wanted() }
    }

    /// Whether there are any.
    pub fn is_on(self) -> bool {
        self.is_on
    }

    /// What matters most in a line.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What may be skipped.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What to think about.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// <https://no-color.org>: any value but the empty one turns colours off.
fn is_wanted() -> bool {
    let is_set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !is_set && !is_dumb
}
