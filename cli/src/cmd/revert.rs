//! `replank revert`: take a change back, with every write made since.

use replank_core::driver::Request;
use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};

use super::change::{Done, applied, carry_out};
use super::selected::{Selected, select};
use crate::args::{Bounds, Change, Revert};
use crate::confirm::confirm;
use crate::directives::Directives;
use crate::exit::Outcome;
use crate::shell::Shell;

/// Takes a run back.
pub async fn run(shell: &Shell, args: &Revert) -> Result<Outcome> {
    let selected = select(shell, &args.run).await?;
    let run = &selected.run;
    let runner = shell.runner(&selected.connected.session);
    shell.output.name_run(&run.id);
    if run.state.is_reversible() && !run.plan.undo_keeping.is_empty() && !args.no_revert {
        let keeping = keep(shell, &selected).await?;
        let run = runner.revert(&run.id).await?;
        return Ok(match keeping {
            Some(keeping) => kept(&run, &keeping),
            None => applied(&run),
        });
    }
    if run.state.is_reversible() {
        confirm(shell, format!("Take run {} on `{}` back?", selected.short, run.table)).await?;
    }
    let run = match args.no_revert {
        true => runner.revert_and_discard(&run.id).await?,
        false => runner.revert(&run.id).await?,
    };
    Ok(applied(&run))
}

/// Takes off what the run added by a change of its own, which keeps what was written there. `None` when that is off
/// already.
async fn keep(shell: &Shell, selected: &Selected) -> Result<Option<Run>> {
    let (run, connected) = (&selected.run, &selected.connected);
    let statement = &run.plan.undo_keeping;
    let runner = shell.runner(&connected.session);
    if runner.find_interrupted(statement).await?.is_none() {
        let discards = runner.discards(run).await?;
        if discards.is_empty() {
            confirm(shell, format!("Take run {} on `{}` back?", selected.short, run.table)).await?;
            return Ok(None);
        }
        let what = discards.join(", ");
        shell.output.note(&format!("what was written since is kept ({what}): {statement}"));
    }
    let bounds = Bounds { directives: Vec::new(), no_revert: false, lock_budget: None };
    let change = Change { bounds, cutover: None, detach: false, throttle: Vec::new() };
    let request = Request::Statement { text: statement.clone(), forward: Vec::new(), reverse: Vec::new() };
    let done = carry_out(shell, connected, &request, &change, Directives::default()).await;
    let done = done.map_err(|error| or_without(error, &selected.short))?;
    Ok(match done {
        Done::Here(run) => Some(*run),
        Done::Nothing | Done::Detached(_) => None,
    })
}

/// Where no rebuild can be made, there is still the quick way.
fn or_without(error: Error, run: &str) -> Error {
    if error.kind() != ErrorKind::Refused {
        return error;
    }
    let quick =
        format!("`replank revert {run} --no-revert` drops what was written there since, and copies nothing");
    let hint = match error.hint_text() {
        Some(hint) => format!("{hint}; {quick}"),
        None => quick,
    };
    error.hint(hint)
}

/// What came out where another run keeps what was written since.
fn kept(run: &Run, keeping: &Run) -> Outcome {
    Outcome::done(format!("`{}` is as before; run {} is taken back", run.table, run.id))
        .hint(format!(
            "run {0} keeps what was written since: `replank revert {0}` brings it back, `replank finalize {0}` drops it",
            keeping.id.short()
        ))
        .state(run.state)
}
