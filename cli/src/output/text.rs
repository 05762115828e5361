//! Text for a person: lasting lines with the time since the start, and a bar or a line per interval below.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use replank_core::event::{Body, Progress};
use replank_core::ident::RunId;
use replank_core::run::RunState;

use super::bar::Bar;
use super::display::Display;
use super::paint::Paint;
use super::{figures, wrap};
use crate::exit::Outcome;

// Often enough to see that it moves, seldom enough for a log that is kept. Chosen.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Text on stderr.
pub struct Text {
    paint: Paint,
    started: Instant,
    moving: Mutex<Moving>,
}

/// What shows that something moves.
enum Moving {
    /// On a terminal.
    Bar(Bar),
    /// Elsewhere: when the last line was written.
    Lines(Option<Instant>),
}

impl Text {
    /// Text as stderr can show it.
    pub fn new() -> Self {
        let moving =
            if std::io::stderr().is_terminal() { Moving::Bar(Bar::new()) } else { Moving::Lines(None) };
        Self { paint: Paint::stderr(), started: Instant::now(), moving: Mutex::new(moving) }
    }

    fn moving(&self) -> std::sync::MutexGuard<'_, Moving> {
        // Whatever a panic left is drawn anew with the next event.
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lasting line, above what moves.
    fn line(&self, warning: Option<&str>, text: &str) {
        let text = self.stamped(warning, text);
        match &*self.moving() {
            Moving::Bar(bar) => bar.line(&text),
            Moving::Lines(_) => to_stderr(&text),
        }
    }

    /// Behind the time since the start; further lines stand under the first word.
    fn stamped(&self, warning: Option<&str>, text: &str) -> String {
        const MARGIN: usize = 8;
        let clock = format!("{:>6}  ", figures::clock(self.started.elapsed()));
        // Wrapped without colours, which have no width, and coloured then.
        let prefix = warning.map_or_else(String::new, |word| format!("{word} "));
        let wrapped = wrap::indented(&format!("{prefix}{text}"), MARGIN);
        let rest = wrapped.trim_start();
        match warning.and_then(|word| rest.strip_prefix(word)) {
            Some(after) => {
                let word = self.paint.yellow(warning.unwrap_or_default());
                format!("{}{word}{after}", self.paint.dim(&clock))
            }
            None => format!("{}{rest}", self.paint.dim(&clock)),
        }
    }

    fn progress(&self, progress: &Progress) {
        match &mut *self.moving() {
            Moving::Bar(bar) => bar.show(progress),
            Moving::Lines(last) => {
                if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    *last = Some(Instant::now());
                    let clock = format!("{:>6}  ", figures::clock(self.started.elapsed()));
                    to_stderr(&format!("{clock}{}", line_of(progress)));
                }
            }
        }
    }
}

impl Display for Text {
    fn show(&self, _run: Option<&RunId>, body: &Body) {
        match body {
            Body::Phase { message, .. } => {
                self.clear();
                self.line(None, message);
            }
            Body::Progress(progress) => self.progress(progress),
            Body::Throttle { reason: Some(reason) } => {
                self.line(Some("slowing down:"), reason);
            }
            Body::Throttle { reason: None } => self.line(None, "at full speed again"),
            Body::Warning { message } => self.line(Some("warning:"), message),
            // The command's result says the same, with what to type.
            Body::Gate { .. } | Body::Result { .. } => {}
            // For programs: a person reads these from the command that prints them.
            Body::Boundary { .. }
            | Body::Plan { .. }
            | Body::Finding(_)
            | Body::Run(_)
            | Body::Driver(_)
            | Body::Rule(_) => {}
        }
    }

    fn note(&self, text: &str) {
        self.line(None, text);
    }

    fn clear(&self) {
        match &mut *self.moving() {
            Moving::Bar(bar) => bar.clear(),
            Moving::Lines(last) => *last = None,
        }
    }
}

/// The last lines of a command that did its work.
pub fn result(outcome: &Outcome, paint: Paint) -> String {
    let message = wrap::indented(&outcome.message, 0);
    match &outcome.hint {
        Some(hint) => format!("{}\n{}", paint.bold(&message), wrap::hanging("next: ", hint, 0)),
        None => paint.bold(&message),
    }
}

/// How far a run is, on one line.
pub fn line_of(progress: &Progress) -> String {
    let mut parts = vec![if is_sweep(progress) {
        let (done, total) = (figures::count(progress.rows_done), figures::rows(progress.rows_total));
        format!("{}: {done} of {total}", verb(progress))
    } else {
        verb(progress).to_owned()
    }];
    parts.extend(details(progress));
    parts.join(", ")
}

/// Whether the run goes through the table, so that rows say how far it is.
pub fn is_sweep(progress: &Progress) -> bool {
    matches!(progress.state, RunState::Copying | RunState::Verifying)
}

/// What the run does with its rows.
pub fn verb(progress: &Progress) -> &'static str {
    match progress.state {
        RunState::Copying => "copying",
        RunState::Verifying => "comparing",
        RunState::BuildingIndexes => "building indexes",
        RunState::CatchingUp => "catching up",
        RunState::WaitingCutover | RunState::CuttingOver => "waiting to swap",
        RunState::Reversible | RunState::Expanded => "keeping the way back",
        RunState::Paused => "paused",
        RunState::Planned
        | RunState::Finalized
        | RunState::Reverted
        | RunState::Aborted
        | RunState::Failed => "working",
    }
}

/// Rate, time left, lag and what slows it down, where they say something.
pub fn details(progress: &Progress) -> Vec<String> {
    // Below these, lag and backlog are the pulse of the loop and no fact about the server.
    const LAG_SHOWN_MS: u64 = 1_000;
    const BACKLOG_SHOWN: u64 = 1_000;
    const SHARE_SHOWN: u32 = 90;
    let mut parts = Vec::new();
    if progress.rows_per_second > 0 && is_sweep(progress) {
        parts.push(format!("{}/s", figures::count(progress.rows_per_second)));
    }
    if let Some(eta) = progress.eta_s {
        parts.push(format!("{} left", figures::clock(Duration::from_secs(eta))));
    }
    if progress.lag_ms >= LAG_SHOWN_MS {
        parts.push(format!("lag {}", figures::time(Duration::from_millis(progress.lag_ms))));
    }
    if progress.backlog >= BACKLOG_SHOWN {
        parts.push(format!("{} changes waiting", figures::count(progress.backlog)));
    }
    if let Some(percent) = progress.copy_percent.filter(|percent| *percent < SHARE_SHOWN) {
        parts.push(format!("{percent} % of the time, beside writers"));
    }
    if let Some(reason) = &progress.throttle {
        parts.push(format!("slowed: {reason}"));
    }
    parts
}

/// A line on stderr. Nobody reading it is no reason to stop a run.
pub fn to_stderr(text: &str) {
    if writeln!(std::io::stderr().lock(), "{text}").is_err() {
        tracing::debug!("nobody reads stderr any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_says_what_matters() {
        let progress = Progress {
            state: RunState::Copying,
            rows_done: 200_000,
            rows_total: 500_000,
            rows_per_second: 41_200,
            lag_ms: 20,
            backlog: 0,
            eta_s: Some(7),
            throttle: None,
            copy_percent: None,
        };
        let shared = Progress { copy_percent: Some(28), ..progress.clone() };
        assert!(line_of(&shared).ends_with("0:07 left, 28 % of the time, beside writers"));
        assert_eq!(line_of(&progress), "copying: 200,000 of 500,000 rows, 41,200/s, 0:07 left");
        let slow = Progress {
            lag_ms: 12_000,
            eta_s: None,
            rows_per_second: 0,
            throttle: Some("lag 12000 ms is over lag_max_ms".to_owned()),
            ..progress
        };
        assert!(line_of(&slow).ends_with("lag 12 s, slowed: lag 12000 ms is over lag_max_ms"));
    }
}
