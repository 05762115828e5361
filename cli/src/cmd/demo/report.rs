//! What happened, on a screenful.

use std::time::Duration;

use replank_driver_sqlite::demo::{Checked, Tally};

use crate::output::figures;

/// One half of the demo.
pub struct Stage {
    /// From start to end.
    pub took: Duration,
    /// The copy.
    pub copy: Option<Duration>,
    /// The comparison before the swap.
    pub compare: Option<Duration>,
    /// How long writers were kept out for the swap.
    pub swap: Option<Duration>,
    /// How the application fared.
    pub tally: Tally,
    /// What the table held in the end.
    pub checked: Checked,
}

impl Stage {
    /// Rows that are not what the application wrote.
    pub fn wrong(&self) -> u64 {
        self.checked.wrong + self.checked.mistyped + self.tally.lost
    }
}

/// The statement over two lines.
pub fn statement(text: &str) -> String {
    format!("  {}", text.replace(", ADD", ",\n    ADD"))
}

/// Both halves, side by side.
pub fn table(forward: &Stage, backward: &Stage) -> String {
    let row = |name: &str, cell: fn(&Stage) -> String| {
        format!("  {name:<26}{:<26}{}", cell(forward), cell(backward)).trim_end().to_owned()
    };
    [
        format!("  {:<26}{:<26}{}", "", "CHANGE", "WAY BACK"),
        row("took", |stage| figures::time(stage.took)),
        row("copying rows", |stage| optional(stage.copy)),
        row("comparing rows", |stage| optional(stage.compare)),
        row("writers held for the swap", |stage| optional(stage.swap)),
        row("writes meanwhile", writes),
        row("longest write", |stage| figures::time(stage.tally.longest)),
        row("rows checked afterwards", |stage| figures::count(stage.checked.rows)),
        row("rows wrong or lost", |stage| figures::count(stage.wrong())),
    ]
    .join("\n")
}

fn optional(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), figures::time)
}

fn writes(stage: &Stage) -> String {
    format!("{}, {} failed", figures::count(stage.tally.done), figures::count(stage.tally.failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::wrap;

    #[test]
    fn the_table_fits_and_adds_up() {
        let stage = |lost| Stage {
            took: Duration::from_secs(12),
            copy: None,
            compare: Some(Duration::from_millis(1500)),
            swap: Some(Duration::from_millis(12)),
            tally: Tally { done: 123_456, failed: 0, lost, longest: Duration::from_millis(85) },
            checked: Checked { rows: 500_000, wrong: 1, mistyped: 2, ..Checked::default() },
        };
        let text = table(&stage(0), &stage(3));
        assert!(text.lines().all(|line| line.chars().count() <= wrap::WIDTH), "{text}");
        assert!(text.ends_with("3                         6"), "{text}");
    }
}
