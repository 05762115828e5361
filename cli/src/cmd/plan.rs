//! `replank plan`: what would be done, before anything is.

use std::path::Path;

use replank_core::event::Body;
use replank_core::plan::{self, Choice};
use replank_core::{Error, ErrorKind, Result};

use super::change::nothing_to_do;
use crate::args::{Plan, PlanFormat};
use crate::exit::Outcome;
use crate::findings;
use crate::output::paint::Paint;
use crate::output::wrap;
use crate::proposal::{self, Proposal};
use crate::shell::Shell;

/// Plans the statement and prints the plan.
pub async fn run(shell: &Shell, args: Plan) -> Result<Outcome> {
    let statement = proposal::statement(&args.files, args.statement)?;
    let directives = proposal::directives(&args.bounds)?;
    let connected = shell.connect().await?;
    let request = proposal::request(statement, &directives);
    let choice = match proposal::propose(shell, &connected, &request, &args.bounds, directives).await? {
        Proposal::Nothing => return Ok(nothing_to_do()),
        Proposal::Plan(choice) => *choice,
    };
    shell.output.object(None, Body::Plan { plan: Box::new(choice.plan.clone()) });
    for finding in &choice.plan.findings {
        shell.output.object(None, Body::Finding(finding.clone()));
    }
    let document = document(&choice, args.format)?;
    match &args.output {
        Some(file) => write(file, &document)?,
        None => shell.output.line(&document),
    }
    if !choice.refusals.is_empty() {
        // On the terminal the plan itself has just said it.
        if args.output.is_some() || args.format == PlanFormat::Json {
            shell.output.block(&findings::text(&choice.refusals, Paint::stderr()));
        }
        return Err(findings::refusal(&choice.refusals));
    }
    let strategy = choice.plan.strategy;
    let message = format!("`{}` would be changed by {strategy}", choice.plan.table.id);
    Ok(match &args.output {
        Some(file) => Outcome::done(format!("the plan is in {}", file.display())),
        None => Outcome::said(message),
    })
}

fn document(choice: &Choice, format: PlanFormat) -> Result<String> {
    match format {
        PlanFormat::Text => Ok(plan::text(&choice.plan).trim_end().to_owned()),
        PlanFormat::Json => serde_json::to_string_pretty(&choice.plan).map_err(|error| {
            Error::new(ErrorKind::Internal, "the plan could not be written as JSON").caused_by(error)
        }),
    }
}

fn write(file: &Path, document: &str) -> Result<()> {
    std::fs::write(file, format!("{document}\n")).map_err(|error| {
        Error::new(
            ErrorKind::Usage,
            format!("the plan cannot be written to `{}`", wrap::cut(&file.display().to_string(), 200)),
        )
        .caused_by(error)
    })
}
