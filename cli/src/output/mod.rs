//! What a command says: results on stdout, progress on stderr; with `--json` everything as JSON lines.

mod bar;
mod display;
mod failure;
pub mod figures;
mod json;
pub mod log;
pub mod markdown;
pub mod paint;
mod text;
pub mod wrap;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use replank_core::event::{Body, Reporter};
use replank_core::ident::RunId;
use replank_core::run::RunState;
use replank_core::{Error, Result};

use crate::exit::Outcome;
use display::Display;
use paint::Paint;

/// Where a command's words go.
pub struct Output {
    display: Box<dyn Display>,
    is_json: bool,
    seen: Mutex<Seen>,
}

/// The run that was spoken of last, for the result of a command that failed in the middle of it.
#[derive(Default)]
struct Seen {
    run: Option<RunId>,
    state: Option<RunState>,
}

impl Output {
    /// JSON lines, or text.
    pub fn new(is_json: bool) -> Arc<Self> {
        let display: Box<dyn Display> =
            if is_json { Box::new(json::Lines) } else { Box::new(text::Text::new()) };
        Arc::new(Self { display, is_json, seen: Mutex::new(Seen::default()) })
    }

    /// Whether a program reads.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// The colours of stdout.
    pub fn paint(&self) -> Paint {
        Paint::stdout()
    }

    /// A part of the result, for a person. Programs get [`Output::object`].
    pub fn line(&self, text: &str) {
        if !self.is_json {
            self.display.clear();
            print(text);
        }
    }

    /// A part of the result, for a program.
    pub fn object(&self, run: Option<&RunId>, body: Body) {
        if self.is_json {
            self.display.show(run, &body);
        }
    }

    /// Which run the result will be about.
    pub fn name_run(&self, run: &RunId) {
        self.seen().run = Some(run.clone());
    }

    /// Several lines to read before what comes next, for a person; on stderr.
    pub fn block(&self, text: &str) {
        if !self.is_json {
            self.display.clear();
            text::to_stderr(text);
        }
    }

    /// Something to know on the way, for a person; on stderr.
    pub fn note(&self, text: &str) {
        self.display.note(text);
    }

    /// Says how the command ended, and gives the exit code.
    pub fn finish(&self, result: Result<Outcome>) -> u8 {
        self.display.clear();
        match result {
            Ok(outcome) => {
                let exit = outcome.exit;
                self.end(outcome, None);
                exit
            }
            Err(error) => {
                let exit = error.kind().exit_code();
                let outcome = Outcome {
                    state: None,
                    exit,
                    message: error.to_string(),
                    hint: error.hint_text().map(ToOwned::to_owned),
                    is_said: false,
                };
                self.end(outcome, Some(&error));
                exit
            }
        }
    }

    fn end(&self, outcome: Outcome, error: Option<&Error>) {
        let Seen { run, state } = std::mem::take(&mut *self.seen());
        if self.is_json {
            let Outcome { state: told, exit, message, hint, is_said: _ } = outcome;
            self.display.show(run.as_ref(), &Body::Result { state: told.or(state), exit, message, hint });
        } else if let Some(error) = error {
            failure::show(error);
        } else if !outcome.is_said {
            print(&text::result(&outcome, self.paint()));
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Two words that are set one after the other cannot be left half-way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Output {
    fn report(&self, run: Option<&RunId>, body: Body) {
        if let Some(run) = run {
            let mut seen = self.seen();
            if seen.run.as_ref() != Some(run) {
                *seen = Seen { run: Some(run.clone()), state: None };
            }
            if let Body::Phase { state, .. } = &body {
                seen.state = Some(*state);
            }
        }
        self.display.show(run, &body);
    }
}

/// An event as it stands in a JSON line.
fn event(run: Option<&RunId>, body: &Body) -> replank_core::event::Event {
    replank_core::event::Event {
        v: replank_core::event::VERSION,
        ts: Timestamp::now(),
        run: run.cloned(),
        body: body.clone(),
    }
}

/// A line on stdout. A reader that has gone away, as `head` does, is no error of ours.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
        tracing::debug!("nobody reads stdout any more");
    }
}
