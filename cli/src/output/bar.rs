//! The bar at the bottom of a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use replank_core::event::Progress;

use super::text::{details, is_sweep, to_stderr, verb};

// Slow enough to read, fast enough to live.
const TICK: Duration = Duration::from_millis(120);

/// A bar that exists while there is something to show.
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Nothing is drawn yet.
    pub fn new() -> Self {
        Self { bar: None }
    }

    /// Draws progress.
    pub fn show(&mut self, progress: &Progress) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(progress.rows_total);
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_style(if is_sweep(progress) { sweep() } else { wait() });
        bar.set_length(progress.rows_total);
        bar.set_position(progress.rows_done);
        bar.set_prefix(verb(progress));
        bar.set_message(details(progress).join("  "));
    }

    /// Writes a lasting line above.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| to_stderr(text)),
            None => to_stderr(text),
        }
    }

    /// Removes the bar.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// With an end in sight.
fn sweep() -> ProgressStyle {
    style("        {prefix:9} {bar:22} {percent:>3} %  {wide_msg}").progress_chars("━╾─")
}

/// Without.
fn wait() -> ProgressStyle {
    style("      {spinner} {prefix}  {wide_msg}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_error| ProgressStyle::default_bar())
}
