//! From what a person typed to a plan, or to what forbids it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::ZonedDateTime;
use replank_core::driver::Request;
use replank_core::journal::patience::repeatedly;
use replank_core::lint::{Rule, rules};
use replank_core::plan::{self, Choice, PlanOptions};
use replank_core::run::{CutoverGate, Run, RunOptions};
use replank_core::{Error, ErrorKind, Result};

use crate::args::{Bounds, Change, Revert};
use crate::directives::{self, Directives};
use crate::length;
use crate::shell::{Connected, Shell};
use crate::signals::or_interrupted;

/// A plan, unless nothing would change.
pub enum Proposal {
    /// What would be done, and what forbids it.
    Plan(Box<Choice>),
    /// The target is as the statement wants it already.
    Nothing,
}

/// The statement of `-e`.
///
/// # Errors
/// [`ErrorKind::Usage`] without one: files are not read yet.
pub fn statement(files: &[PathBuf], statement: Option<String>) -> Result<String> {
    if let Some(file) = files.first() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("migration files are not supported yet, so `{}` is not read", file.display()),
        )
        .hint("give one statement with -e"));
    }
    statement.filter(|text| !text.trim().is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no statement was given")
            .hint("give one with -e \"ALTER TABLE …\"; migration files are not supported yet")
    })
}

/// The directives of a command line.
pub fn directives(bounds: &Bounds) -> Result<Directives> {
    directives::parse(&bounds.directives, ZonedDateTime::now().date())
}

/// The request of a statement, with the expressions that its directives give.
pub fn request(text: String, directives: &Directives) -> Request {
    let Directives { forward, reverse, capture, .. } = directives;
    Request::Statement { text, forward: forward.clone(), reverse: reverse.clone(), capture: capture.clone() }
}

/// What a run is to keep to: flags before directives before the project's file.
pub fn run_options(connected: &Connected, change: &Change, directives: &Directives) -> Result<RunOptions> {
    let cutover = change.cutover.or(directives.cutover).unwrap_or(CutoverGate::Auto);
    let mut limits = connected.config.limits()?;
    limits.set_all(change.throttle.iter().map(|(name, value)| (name, value)))?;
    let lock_budget_ms = lock_budget_ms(connected, &change.bounds, directives)?;
    let fence_budget_ms = fence_budget_ms(directives, RunOptions::default().fence_budget_ms)?;
    Ok(RunOptions { cutover, revertible: !change.bounds.no_revert, lock_budget_ms, fence_budget_ms, limits })
}

/// The same for a run that takes another back: as that one was made, unless something else is said now.
pub fn take_back_options(
    connected: &Connected,
    run: &Run,
    args: &Revert,
    directives: &Directives,
) -> Result<RunOptions> {
    let mut limits = run.options.limits.clone();
    limits.set_all(args.throttle.iter().map(|(name, value)| (name, value)))?;
    let lock_budget_ms = match args.bounds.lock_budget.or(directives.lock_budget) {
        Some(_) => lock_budget_ms(connected, &args.bounds, directives)?,
        None => run.options.lock_budget_ms,
    };
    let cutover = args.cutover.or(directives.cutover).unwrap_or(CutoverGate::Auto);
    let fence_budget_ms = fence_budget_ms(directives, run.options.fence_budget_ms)?;
    Ok(RunOptions { cutover, revertible: true, lock_budget_ms, fence_budget_ms, limits })
}

fn fence_budget_ms(directives: &Directives, otherwise: u64) -> Result<u64> {
    directives.fence_budget.map_or(Ok(otherwise), in_milliseconds)
}

fn lock_budget_ms(connected: &Connected, bounds: &Bounds, directives: &Directives) -> Result<u64> {
    let budget = match bounds.lock_budget.or(directives.lock_budget) {
        Some(budget) => budget,
        None => match &connected.config.lock_budget {
            Some(text) => length::parse(text).map_err(|error| error.with("file", crate::config::FILE))?,
            None => return Ok(RunOptions::default().lock_budget_ms),
        },
    };
    in_milliseconds(budget)
}

/// A lock budget, as a run has it.
pub fn in_milliseconds(budget: Duration) -> Result<u64> {
    let millis = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return Err(Error::new(ErrorKind::Usage, "a budget of nothing lets nothing be done"));
    }
    Ok(millis)
}

/// Reads the request against the target and chooses how to run it.
///
/// # Errors
/// Those of the driver; [`ErrorKind::Refused`] when no strategy can run it.
pub async fn propose(
    shell: &Shell,
    connected: &Connected,
    request: &Request,
    bounds: &Bounds,
    directives: Directives,
) -> Result<Proposal> {
    let mut judges: Vec<&dyn Rule> = rules::all();
    judges.extend(connected.driver.rules());
    for waiver in &directives.waivers {
        if !judges.iter().any(|rule| rule.code() == waiver.code) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("no rule is called `{}`, so it cannot be waived", waiver.code),
            )
            .hint("`replank explain --list` lists the rules"));
        }
    }
    let lock_budget_ms = lock_budget_ms(connected, bounds, &directives)?;
    // What a plan creates is gone when it is made, or when it fails.
    let drafting = repeatedly(|| connected.session.draft(request));
    let mut draft = or_interrupted(&shell.stop, drafting).await?;
    if draft.changes.is_empty() {
        return Ok(Proposal::Nothing);
    }
    if directives.counts_rows && !draft.table.rows_exact {
        let counting = repeatedly(|| connected.session.count(&draft.table.id));
        draft.table.rows = or_interrupted(&shell.stop, counting).await?;
        draft.table.rows_exact = true;
    }
    let options = PlanOptions {
        strategy: directives.strategy,
        revertible: !bounds.no_revert,
        lock_budget: std::time::Duration::from_millis(lock_budget_ms),
        waivers: directives.waivers,
    };
    Ok(Proposal::Plan(Box::new(plan::choose(&draft, &judges, &options)?)))
}
