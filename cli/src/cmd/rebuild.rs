//! `replank rebuild`: the shadow rebuild without a statement.

use std::path::Path;

use replank_core::driver::Request;
use replank_core::{Error, ErrorKind, Result};

use super::change;
use crate::args::Rebuild;
use crate::exit::Outcome;
use crate::proposal;
use crate::shell::Shell;

/// Rebuilds a table, as it is or in a new shape.
pub async fn run(shell: &Shell, args: Rebuild) -> Result<Outcome> {
    let shape = text("shape", args.shape.as_deref())?;
    let pipeline = text("pipeline", args.pipeline.as_deref())?;
    let reverse_pipeline = text("pipeline", args.reverse_pipeline.as_deref())?;
    let directives = proposal::directives(&args.change.bounds)?;
    if !directives.forward.is_empty() || !directives.reverse.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "`forward` and `reverse` belong to a statement")
            .hint("use `replank apply -e`"));
    }
    let connected = shell.connect().await?;
    let request = Request::Rebuild {
        table: args.table,
        shape,
        pipeline,
        reverse_pipeline,
        capture: directives.capture.clone(),
    };
    change::run(shell, connected, request, &args.change, directives).await
}

fn text(what: &str, file: Option<&Path>) -> Result<Option<String>> {
    file.map(|file| {
        std::fs::read_to_string(file).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("the {what} `{}` cannot be read", file.display()))
                .caused_by(error)
        })
    })
    .transpose()
}
