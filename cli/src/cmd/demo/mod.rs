//! `replank demo`: an online change and its way back, on a database of its own, under a live write load.
//!
//! What runs is what `apply` and `revert` run. The application knows every write that was acknowledged, so
//! the tables are compared with what it knows and not with what replank says.

mod folder;
mod marks;
mod report;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use replank_core::engine::Runner;
use replank_core::event::Body;
use replank_core::ident::RunId;
use replank_core::plan::Plan;
use replank_core::run::{Origin, Run, RunOptions, RunState};
use replank_core::{Error, ErrorKind, Result};
use replank_driver_sqlite::demo::{self, Journal, Writers};

use crate::args::{Bounds, Demo};
use crate::config::Config;
use crate::exit::Outcome;
use crate::output::figures;
use crate::proposal::{self, Proposal};
use crate::shell::{Connected, Shell};
use crate::signals::or_interrupted;
use crate::target::Target;
use folder::Folder;
use marks::Marks;
use report::Stage;

/// A type that SQLite's own ALTER TABLE cannot change, and an index on the result.
const STATEMENT: &str =
    "ALTER TABLE orders ALTER COLUMN customer_id TYPE INTEGER, ADD INDEX orders_customer (customer_id)";

// Long enough for every writer to have connected and written.
const WARM_UP: Duration = Duration::from_millis(300);

/// Shows it all.
pub async fn run(shell: &Shell, args: Demo) -> Result<Outcome> {
    let folder = Folder::new(args.keep)?;
    let file = folder.path().join("demo.db");
    shell.output.line(&format!(
        "{} on SQLite, with 3 connections writing all the time",
        shell.output.paint().bold(&format!("{} orders", figures::count(args.rows)))
    ));
    or_interrupted(&shell.stop, demo::make(&file, args.rows)).await?;
    let connected = shell.connect_to(Target::file(&file), Config::default()).await?;
    let plan = plan(shell, &connected).await?;
    shell.output.line(&report::statement(STATEMENT));

    let journal = Journal::new(args.rows);
    let (run, journal, forward) =
        stage(shell, &connected, &file, journal, Work::Apply(Box::new(plan)), "integer").await?;
    let (run, _, backward) = stage(shell, &connected, &file, journal, Work::Revert(run.id), "text").await?;

    shell.output.line("");
    shell.output.line(&report::table(&forward, &backward));
    folder.keep_if_asked(|kept| shell.output.line(&format!("the database is {}", kept.display())))?;
    judge(&run, &forward, &backward)
}

async fn plan(shell: &Shell, connected: &Connected) -> Result<Plan> {
    let bounds = Bounds { directives: Vec::new(), no_revert: false, lock_budget: None };
    let directives = proposal::directives(&bounds)?;
    let request = proposal::request(STATEMENT.to_owned(), &directives);
    let choice = match proposal::propose(shell, connected, &request, &bounds, directives).await? {
        Proposal::Plan(choice) => *choice,
        Proposal::Nothing => {
            return Err(Error::new(ErrorKind::Internal, "the demo's statement changes nothing"));
        }
    };
    if !choice.refusals.is_empty() {
        return Err(crate::findings::refusal(&choice.refusals));
    }
    shell.output.object(None, Body::Plan { plan: Box::new(choice.plan.clone()) });
    Ok(choice.plan)
}

enum Work {
    Apply(Box<Plan>),
    Revert(RunId),
}

/// Carries out one half while the application writes, then stops it and compares every row.
async fn stage(
    shell: &Shell,
    connected: &Connected,
    file: &Path,
    journal: Journal,
    work: Work,
    customer_type: &str,
) -> Result<(Run, Journal, Stage)> {
    let writers = Writers::start(file, journal, 1).await?;
    tokio::time::sleep(WARM_UP).await;
    let marks = Arc::new(Marks::new(Arc::clone(&shell.output)));
    let runner = Runner::new(Arc::clone(&connected.session), Arc::clone(&marks) as _, shell.stop.clone());
    let started = Instant::now();
    let result = match work {
        Work::Apply(plan) => runner.apply(*plan, RunOptions::default(), Origin::default()).await,
        Work::Revert(id) => runner.revert(&id).await,
    };
    let took = started.elapsed();
    // The writers are waited for whatever came out, so that the folder is removed behind them.
    let stopped = writers.stop().await;
    let run = result?;
    let (journal, tally) = stopped?;
    let checked = demo::check(file, &journal, customer_type).await?;
    let stage =
        Stage { took, copy: marks.copy(), compare: marks.compare(), swap: marks.swap(), tally, checked };
    Ok((run, journal, stage))
}

/// Whether all of it is true.
fn judge(run: &Run, forward: &Stage, backward: &Stage) -> Result<Outcome> {
    let wrong = forward.wrong() + backward.wrong();
    if wrong > 0 {
        return Err(Error::new(ErrorKind::Mismatch, format!("{wrong} rows are not what was written"))
            .hint("this must never happen: please report it, with the output of `replank demo --keep DIR`"));
    }
    let failed = forward.tally.failed + backward.tally.failed;
    if failed > 0 {
        return Err(Error::new(
            ErrorKind::Server,
            format!("{failed} writes of the application were refused"),
        )
        .hint("a very slow or busy disk does this; try `replank demo --rows 50000`"));
    }
    if run.state != RunState::Reverted || !backward.checked.leftovers.is_empty() {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("the way back left something: {}", backward.checked.leftovers.join(", ")),
        ));
    }
    Ok(Outcome::done("every acknowledged write is there, after the change and after taking it back")
        .state(run.state)
        .hint("`replank plan -t sqlite:YOUR.db -e \"ALTER TABLE …\"` on a copy of yours"))
}
