//! `replank status`: where runs stand, and who works on them.

use std::sync::Arc;
use std::time::Duration;

use replank_core::Result;
use replank_core::driver::Session;
use replank_core::event::{Body, RunLine};
use replank_core::run::{Run, RunState};
use tokio::time::sleep;

use crate::args::Status;
use crate::exit::Outcome;
use crate::output::paint::Paint;
use crate::output::{figures, wrap};
use crate::shell::Shell;
use crate::signals::or_interrupted;
use crate::{live, revertible, run_id, run_line};

const WATCH_EVERY: Duration = Duration::from_secs(1);

/// A run as it stands now.
struct Seen {
    run: Run,
    line: RunLine,
    short: String,
}

/// Shows one run, or all of them.
pub async fn run(shell: &Shell, args: Status) -> Result<Outcome> {
    let connected = shell.connect().await?;
    let mut before = String::new();
    loop {
        let seen = or_interrupted(&shell.stop, look(&connected.session, args.run.as_deref())).await?;
        let paint = shell.output.paint();
        let text = match (&args.run, seen.first()) {
            (Some(_), Some(one)) => detail(one, paint),
            _ => list(&seen, paint),
        };
        if text != before {
            shell.output.line(&text);
            before = text;
        }
        for one in &seen {
            shell.output.object(Some(&one.run.id), Body::Run(one.line.clone()));
        }
        let is_moving = seen.iter().any(|one| one.line.runner.is_some());
        if !args.watch || !is_moving {
            return Ok(outcome(&args, &seen));
        }
        or_interrupted(&shell.stop, async {
            sleep(WATCH_EVERY).await;
            Ok(())
        })
        .await?;
    }
}

async fn look(session: &Arc<dyn Session>, wanted: Option<&str>) -> Result<Vec<Seen>> {
    let runs = session.state().runs().await?;
    let chosen: Vec<&Run> = match wanted {
        Some(text) => vec![run_id::find(&runs, text)?],
        None => runs.iter().collect(),
    };
    let mut seen = Vec::with_capacity(chosen.len());
    for run in chosen {
        let runner = live::runner(&**session, run).await?;
        // Whoever works on it uses the feed; two readers of it would disturb each other.
        let not_revertible = match (run.state.is_reversible(), &runner) {
            (true, None) => Some(revertible::objection(&**session, run).await),
            _ => None,
        };
        let mut line = run_line::full(run, runner.as_ref(), not_revertible);
        if runner.is_none()
            && let Some(unsettled) = revertible::unsettled(&**session, run).await
        {
            line.note = Some(unsettled);
        }
        seen.push(Seen { run: run.clone(), line, short: run_id::short(&runs, run) });
    }
    Ok(seen)
}

fn outcome(args: &Status, seen: &[Seen]) -> Outcome {
    let unfinished: Vec<&Seen> =
        seen.iter().filter(|one| !one.run.state.is_final() && !one.run.state.is_reversible()).collect();
    if args.check && !unfinished.is_empty() {
        let names: Vec<String> =
            unfinished.iter().map(|one| format!("{} ({})", one.short, one.run.state)).collect();
        return Outcome::refused(format!("not finished: {}", names.join(", ")));
    }
    let outcome = match seen {
        [] => Outcome::done("no runs yet"),
        [one] => Outcome::said(format!("run {} is {}", one.run.id, one.run.state)).state(one.run.state),
        _ => Outcome::said(format!("{} runs, {} unfinished", seen.len(), unfinished.len())),
    };
    if args.check {
        Outcome { is_said: false, message: "nothing is unfinished".to_owned(), ..outcome }
    } else {
        outcome
    }
}

/// One line a run that is not over; the others are counted.
fn list(seen: &[Seen], paint: Paint) -> String {
    let (open, over): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|one| !one.run.state.is_final());
    let width = open.iter().map(|one| one.short.len()).max().unwrap_or(0);
    let mut lines: Vec<String> = open.iter().map(|one| line(one, width, paint)).collect();
    if open.is_empty() && !over.is_empty() {
        lines.push("no run is under way".to_owned());
    }
    if !over.is_empty() {
        let noun = if over.len() == 1 { "run is" } else { "runs are" };
        lines.push(paint.dim(&format!("{} {noun} over: see `replank history`", over.len())));
    }
    lines.join("\n")
}

fn line(one: &Seen, width: usize, paint: Paint) -> String {
    const TABLE: usize = 18;
    let about = match (&one.line.runner, one.line.revertible) {
        (Some(runner), _) => format!("process {} on {}", runner.pid, runner.host),
        (None, Some(true)) => "revertible".to_owned(),
        (None, Some(false)) => "not revertible".to_owned(),
        (None, None) => "nobody works on it".to_owned(),
    };
    let state = format!("{:<16}", one.run.state.to_string());
    format!(
        "{:<width$}  {}  {:<TABLE$}  {about}",
        one.short,
        coloured(one.run.state, &state, paint),
        wrap::cut(&one.run.table.to_string(), TABLE)
    )
}

fn coloured(state: RunState, text: &str, paint: Paint) -> String {
    match state {
        RunState::Failed => paint.red(text),
        RunState::Paused | RunState::WaitingCutover => paint.yellow(text),
        RunState::Reversible | RunState::Expanded | RunState::Finalized => paint.green(text),
        _ => text.to_owned(),
    }
}

/// Everything about one run.
fn detail(one: &Seen, paint: Paint) -> String {
    let Seen { run, line, short } = one;
    let mut lines = Vec::new();
    let mut fact = |name: &str, text: &str| {
        lines.push(wrap::hanging(&format!("{name:<11}"), text, 0));
    };
    fact("run", run.id.as_str());
    fact("table", &run.table.to_string());
    fact("statement", &run.statement);
    if let Some(migration) = &run.migration {
        fact("migration", migration);
    }
    fact("strategy", run.plan.strategy.word());
    fact(
        "started",
        &format!("{}, {} ago", figures::moment(run.started), figures::time(figures::since(run.started))),
    );
    if let Some(ended) = run.ended {
        fact(
            "ended",
            &format!(
                "{}, after {}",
                figures::moment(ended),
                figures::time(figures::between(run.started, ended))
            ),
        );
    }
    fact("state", run.state.word());
    if let Some(progress) = progress(run) {
        fact("progress", &progress);
    }
    if let Some(note) = &line.note {
        fact("note", note);
    }
    if !run.state.is_final() {
        fact("runner", &runner(line));
    }
    if line.revertible == Some(true) {
        fact("way back", "open");
    }
    if let Some(next) = next(run, line, short) {
        fact("next", &next);
    }
    let text = lines.join("\n");
    // The one word that is looked for first.
    text.replacen(
        &format!("{:<11}{}", "state", run.state.word()),
        &format!("{:<11}{}", "state", coloured(run.state, run.state.word(), paint)),
        1,
    )
}

fn runner(line: &RunLine) -> String {
    match &line.runner {
        Some(runner) => format!(
            "process {} on {}, lease for another {}",
            runner.pid,
            runner.host,
            figures::time(Duration::from_secs(runner.lease_ms.div_ceil(1000)))
        ),
        None => "nobody works on it".to_owned(),
    }
}

/// How far the checkpoint is: the runner itself may be a second ahead.
fn progress(run: &Run) -> Option<String> {
    let shows_rows = run.plan.is_rebuild() && !run.state.is_final() && !run.state.is_reversible();
    if !shows_rows {
        return None;
    }
    let total = run.plan.table.rows.max(run.checkpoint.copied.rows);
    let mut text =
        format!("{} of {} copied", figures::count(run.checkpoint.copied.rows), figures::rows(total));
    if run.checkpoint.passes > 0 {
        text.push_str(&format!(", {} compared", figures::count(run.checkpoint.verified.rows)));
    }
    Some(text)
}

/// What a person may type now.
fn next(run: &Run, line: &RunLine, short: &str) -> Option<String> {
    let commands: &[&str] = match (run.state, &line.runner) {
        (state, _) if state.is_final() => return None,
        (RunState::Reversible | RunState::Expanded, _) if line.revertible == Some(false) => &["finalize"],
        (RunState::Reversible | RunState::Expanded, _) if run.plan.is_rebuild() => {
            &["verify", "revert", "finalize"]
        }
        (RunState::Reversible | RunState::Expanded, _) => &["revert", "finalize"],
        (RunState::Paused, Some(_)) => &["resume", "abort"],
        (RunState::WaitingCutover, None) => &["cutover", "abort"],
        (_, Some(_)) => &["pause", "throttle", "abort"],
        (_, None) => &["resume", "abort"],
    };
    Some(format!("replank {} {short}", commands.join("|")))
}
