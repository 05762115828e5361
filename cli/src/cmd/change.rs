//! What `apply` and `rebuild` share: plan, summary, confirmation, run.

use replank_core::Result;
use replank_core::driver::Request;
use replank_core::event::Body;
use replank_core::plan::{Choice, Plan};
use replank_core::run::{Origin, Run, RunState};

use crate::args::Change;
use crate::confirm::confirm;
use crate::detach;
use crate::directives::Directives;
use crate::exit::Outcome;
use crate::findings;
use crate::live;
use crate::output::paint::Paint;
use crate::output::{figures, wrap};
use crate::proposal::{self, Proposal};
use crate::shell::{Connected, Shell};

/// Carries a request out.
pub async fn run(
    shell: &Shell,
    connected: Connected,
    request: Request,
    change: &Change,
    directives: Directives,
) -> Result<Outcome> {
    if let Some(outcome) = go_on(shell, &connected, &request, change.detach).await? {
        return Ok(outcome);
    }
    let options = proposal::run_options(&connected, change, &directives)?;
    let choice = match proposal::propose(shell, &connected, &request, &change.bounds, directives).await? {
        Proposal::Nothing => return Ok(nothing_to_do()),
        Proposal::Plan(choice) => *choice,
    };
    approve(shell, &connected, &choice).await?;
    if change.detach && !shell.is_detached {
        return detach(shell).await;
    }
    let run = shell.swapping_runner(&connected)?.apply(choice.plan, options, Origin::default()).await?;
    Ok(applied(&run))
}

/// Says what will be done, and asks whether it shall.
///
/// # Errors
/// [`Refused`](replank_core::ErrorKind::Refused) by a rule, or by the person.
pub async fn approve(shell: &Shell, connected: &Connected, choice: &Choice) -> Result<()> {
    announce(shell, choice);
    if !choice.refusals.is_empty() {
        return Err(findings::refusal(&choice.refusals));
    }
    let target = connected.target.to_string();
    confirm(shell, format!("Run this on {}?", wrap::cut(&target, 50))).await
}

/// The same statement again goes on with the run that was interrupted.
async fn go_on(
    shell: &Shell,
    connected: &Connected,
    request: &Request,
    detached: bool,
) -> Result<Option<Outcome>> {
    let Request::Statement { text, .. } = request else { return Ok(None) };
    let found = shell.runner(&connected.session).find_interrupted(text).await?;
    let Some(run) = found else { return Ok(None) };
    if live::runner(&*connected.session, &run).await?.is_some() {
        // Somebody works on it: the plan says so, and refuses.
        return Ok(None);
    }
    shell.output.name_run(&run.id);
    shell.output.note(&format!("going on with run {}, which is {}", run.id, run.state));
    confirm(shell, format!("Go on with run {} on `{}`?", run.id.short(), run.table)).await?;
    if detached && !shell.is_detached {
        return detach(shell).await.map(Some);
    }
    Ok(Some(applied(&shell.swapping_runner(connected)?.resume(&run.id).await?)))
}

/// The target is as the statement wants it already.
pub fn nothing_to_do() -> Outcome {
    Outcome::done("nothing to do: the target is like that already")
}

async fn detach(shell: &Shell) -> Result<Outcome> {
    let detach::Detached { run, pid, log } = detach::start().await?;
    shell.output.line(run.as_str());
    shell.output.name_run(&run);
    shell.output.note(&format!("process {pid} works on run {run}; its log is {}", log.display()));
    Ok(Outcome::said(format!("process {pid} works on run {run}"))
        .hint(format!("watch it with `replank status {run} --watch`")))
}

/// Says what will be done, before anybody is asked.
fn announce(shell: &Shell, choice: &Choice) {
    if shell.output.is_json() {
        shell.output.object(None, Body::Plan { plan: Box::new(choice.plan.clone()) });
        for finding in &choice.plan.findings {
            shell.output.object(None, Body::Finding(finding.clone()));
        }
        return;
    }
    let paint = Paint::stderr();
    shell.output.block(&summary(&choice.plan, paint));
    if !choice.plan.findings.is_empty() {
        shell.output.block(&findings::text(&choice.plan.findings, paint));
    }
}

/// A plan in a few lines.
fn summary(plan: &Plan, paint: Paint) -> String {
    let about = if plan.table.rows_exact { "" } else { "about " };
    let mut lines = vec![format!(
        "{} ({about}{}) on {} {}",
        paint.bold(&plan.table.id.to_string()),
        figures::rows(plan.table.rows),
        plan.server.product,
        plan.server.version
    )];
    lines.extend(plan.changes.iter().map(|change| wrap::hanging("- ", change, 2)));
    let mut fact = |name: &str, text: &str| {
        lines.push(wrap::hanging(&format!("{name:<10}"), text, 2));
    };
    fact("how", &format!("{}: {}", plan.strategy, plan.reason));
    for lock in &plan.locks {
        fact("lock", &format!("{}, about {} ms", lock.what, lock.hold_ms));
    }
    if let Some(bytes) = plan.disk_bytes {
        fact("disk", &format!("{} meanwhile", figures::bytes(bytes)));
    }
    fact("undo", &plan.undo);
    lines.join("\n")
}

/// What came out of a run that reached its end.
pub fn applied(run: &Run) -> Outcome {
    let table = &run.table;
    let outcome = match run.state {
        RunState::Reversible | RunState::Expanded => {
            Outcome::done(format!("`{table}` is changed; run {} can be taken back", run.id)).hint(format!(
                "`replank revert {0}` takes it back, `replank finalize {0}` makes it final",
                run.id.short()
            ))
        }
        RunState::Finalized => Outcome::done(format!("`{table}` is changed, and final; run {}", run.id)),
        RunState::Reverted => {
            Outcome::done(format!("`{table}` is as before, with every write made since; run {}", run.id))
        }
        RunState::Aborted => {
            Outcome::done(format!("run {} was given up; `{table}` was never touched", run.id))
        }
        state => Outcome::done(format!("run {} is {state}", run.id)),
    };
    outcome.state(run.state)
}
