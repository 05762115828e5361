//! `replank revert`: take a change back, with every write made since.

use replank_core::driver::{Request, Revision};
use replank_core::engine::Runner;
use replank_core::plan::{Choice, Step};
use replank_core::run::{Origin, Run};
use replank_core::{Error, ErrorKind, Result};

use super::change::{applied, approve};
use super::selected::{Selected, select};
use crate::args::Revert;
use crate::confirm::confirm;
use crate::exit::Outcome;
use crate::proposal::{self, Proposal};
use crate::shell::Shell;
use crate::signals::or_interrupted;

/// Rules of what is so now and will be otherwise in a while: no reason to give values up.
const PASSING: [&str; 5] = ["C032", "C043", "C044", "M253", "P153"];

/// Takes a run back.
pub async fn run(shell: &Shell, args: &Revert) -> Result<Outcome> {
    let mut selected = select(shell, &args.run).await?;
    let runner = shell.swapping_runner(&selected.connected)?;
    // What takes another run back, and is not through with it, stands for that one.
    if let Some(first) = selected.run.takes_back.clone()
        && runner.taking_back(&first).await?.is_some_and(|other| other.id == selected.run.id)
    {
        let other = select(shell, first.as_str()).await?;
        if other.run.state.is_reversible() {
            selected = other;
        }
    }
    let run = &selected.run;
    shell.output.name_run(&run.id);
    let by = match run.state.is_reversible() && !run.plan.is_rebuild() {
        true => by(shell, &selected, &runner, args).await?,
        false => By::Itself,
    };
    if !matches!(by, By::New(_)) {
        refuse_options(args, run)?;
    }
    let question = format!("Take run {} on `{}` back?", selected.short, run.table);
    let another = match by {
        By::Unfinished(other) => {
            let what =
                format!("run {} takes it back, and is {}: going on with that", other.id.short(), other.state);
            shell.output.note(&what);
            confirm(shell, question).await?;
            Some(runner.resume(&other.id).await?)
        }
        By::New(steps) => Some(keep(shell, &selected, &runner, &steps, args).await?),
        By::Through(other) => {
            confirm(shell, question).await?;
            runner.revert(&run.id).await?;
            Some(*other)
        }
        By::Itself => {
            if run.state.is_reversible() {
                confirm(shell, question).await?;
            }
            let run = match args.bounds.no_revert {
                true => runner.revert_and_discard(&run.id).await?,
                false => runner.revert(&run.id).await?,
            };
            return Ok(applied(&run));
        }
    };
    let (run, _) =
        selected.connected.session.state().load(&run.id).await?.unwrap_or((run.clone(), Revision(0)));
    Ok(match another.filter(|other| other.state.is_reversible()) {
        Some(other) => kept(&run, &other),
        None => applied(&run),
    })
}

/// How a run is taken back.
enum By {
    /// As its plan says.
    Itself,
    /// By another run, which keeps what was written since, and is to be begun for these steps.
    New(Vec<Step>),
    /// By one that was interrupted.
    Unfinished(Box<Run>),
    /// By one that has swapped.
    Through(Box<Run>),
}

async fn by(shell: &Shell, selected: &Selected, runner: &Runner, args: &Revert) -> Result<By> {
    let run = &selected.run;
    if let Some(other) = runner.taking_back(&run.id).await? {
        if other.state.is_reversible() || other.state.is_final() {
            return Ok(By::Through(Box::new(other)));
        }
        if args.bounds.no_revert {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("run {} takes it back already, and keeps what was written since", other.id),
            )
            .hint(format!("`replank abort {}` first", other.id.short())));
        }
        return Ok(By::Unfinished(Box::new(other)));
    }
    or_interrupted(&shell.stop, runner.refuse_unless_newest(run)).await?;
    let steps = or_interrupted(&shell.stop, runner.by_rebuild(run)).await?;
    Ok(match steps.is_empty() || args.bounds.no_revert {
        true => By::Itself,
        false => By::New(steps),
    })
}

/// Options of a rebuild, where there will be none.
fn refuse_options(args: &Revert, run: &Run) -> Result<()> {
    let bounds = &args.bounds;
    let quick = bounds.no_revert && run.plan.is_rebuild();
    if quick
        || !bounds.directives.is_empty()
        || bounds.lock_budget.is_some()
        || args.cutover.is_some()
        || !args.throttle.is_empty()
    {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("run {} is taken back as it was made, and takes no options for that", run.id),
        )
        .hint(format!("`replank throttle {}` changes its limits", run.id.short())));
    }
    Ok(())
}

/// Takes off what the run added by a change of its own, which keeps what was written there.
async fn keep(
    shell: &Shell,
    selected: &Selected,
    runner: &Runner,
    steps: &[Step],
    args: &Revert,
) -> Result<Run> {
    let (run, connected) = (&selected.run, &selected.connected);
    let what: Vec<&str> =
        steps.iter().flat_map(|step| step.inverse_discards.iter().map(String::as_str)).collect();
    if !what.is_empty() {
        shell.output.note(&format!("what was written since is kept: {}", what.join(", ")));
    }
    let again = steps.iter().map(|step| step.inverse_rebuilds.as_str()).filter(|what| !what.is_empty());
    for what in again {
        shell.output.note(&format!("a rebuild gives back {what}"));
    }
    let has_quick_way = steps.iter().all(|step| step.inverse_rebuilds.is_empty());
    let directives = proposal::directives(&args.bounds)?;
    let options = proposal::take_back_options(connected, run, args, &directives)?;
    let request = Request::TakeBack { inverses: steps.iter().map(|step| step.inverse.clone()).collect() };
    let proposed = proposal::propose(shell, connected, &request, &args.bounds, directives).await;
    let or_without = |error| if has_quick_way { or_without(error, &selected.short) } else { error };
    let choice: Box<Choice> = match proposed.map_err(or_without)? {
        Proposal::Plan(choice) => choice,
        Proposal::Nothing => {
            return Err(
                Error::new(ErrorKind::Refused, "somebody else is changing the table").hint("try again")
            );
        }
    };
    let is_lasting = choice.refusals.iter().any(|finding| !PASSING.contains(&finding.code.as_str()));
    let approved = approve(shell, connected, &choice).await;
    approved.map_err(|error| if is_lasting { or_without(error) } else { error })?;
    let origin = Origin { migration: None, takes_back: Some(run.id.clone()) };
    runner.apply(choice.plan, options, origin).await
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
