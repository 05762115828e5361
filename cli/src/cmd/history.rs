//! `replank history`: every run, the oldest first.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};
use replank_core::Result;
use replank_core::event::Body;
use replank_core::run::Run;

use crate::exit::Outcome;
use crate::output::{figures, wrap};
use crate::shell::Shell;
use crate::signals::or_interrupted;
use crate::{run_id, run_line};

/// Lists the runs of the target.
pub async fn run(shell: &Shell) -> Result<Outcome> {
    let connected = shell.connect().await?;
    let runs = or_interrupted(&shell.stop, connected.session.state().runs()).await?;
    for run in &runs {
        shell.output.object(Some(&run.id), Body::Run(run_line::plain(run)));
    }
    if runs.is_empty() {
        return Ok(Outcome::done("no runs yet"));
    }
    if std::io::stdout().is_terminal() {
        shell.output.line(&table(&runs));
    } else {
        runs.iter().for_each(|run| shell.output.line(&line(run)));
    }
    Ok(Outcome::said(format!("{} runs", runs.len())))
}

/// For a terminal: one line a run, 80 columns.
fn table(runs: &[Run]) -> String {
    const TABLE: usize = 14;
    // Two spaces between columns, and one before the first.
    const GAPS: usize = 9;
    const STARTED: usize = "2026-01-31 12:00".len();
    let widest = |cell: &dyn Fn(&Run) -> usize| runs.iter().map(cell).max().unwrap_or(0);
    let others = widest(&|run| run_id::short(runs, run).len())
        + widest(&|run| run.state.word().len()).max("STATE".len())
        + widest(&|run| run.table.to_string().chars().count().min(TABLE)).max("TABLE".len())
        + STARTED;
    let statement = wrap::WIDTH.saturating_sub(others + GAPS);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["RUN", "STATE", "TABLE", "STARTED", "STATEMENT"]);
    for run in runs {
        table.add_row([
            run_id::short(runs, run),
            run.state.to_string(),
            wrap::cut(&run.table.to_string(), TABLE),
            figures::moment(run.started),
            wrap::cut(&run.statement, statement),
        ]);
    }
    let text = table.to_string();
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

/// For a pipe: every field whole, between tabs.
fn line(run: &Run) -> String {
    let ended = run.ended.map_or_else(|| "-".to_owned(), |ended| ended.to_string());
    let statement = run.statement.split_whitespace().collect::<Vec<_>>().join(" ");
    [
        run.id.to_string(),
        run.state.to_string(),
        run.table.to_string(),
        run.started.to_string(),
        ended,
        statement,
    ]
    .join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_line::example::run;

    #[test]
    fn the_table_keeps_to_80_columns() {
        let mut long = run("0123456789abcdef");
        long.statement = "ALTER TABLE orders ALTER COLUMN customer_id TYPE INTEGER, ADD COLUMN x".to_owned();
        let text = table(&[long, run("beef456789abcdef")]);
        assert!(text.lines().all(|line| line.chars().count() <= wrap::WIDTH), "{text}");
        assert!(text.contains("01234567") && text.contains("reversible"), "{text}");
    }

    #[test]
    fn a_piped_line_has_every_field() {
        assert_eq!(line(&run("0123456789abcdef")).split('\t').count(), 6);
    }
}
