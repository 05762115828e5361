//! `replank rebuild`: the shadow rebuild without a statement.

use replank_core::driver::Request;
use replank_core::{Error, ErrorKind, Result};

use super::change;
use crate::args::Rebuild;
use crate::exit::Outcome;
use crate::proposal;
use crate::shell::Shell;

/// Rebuilds a table, as it is or in a new shape.
pub async fn run(shell: &Shell, args: Rebuild) -> Result<Outcome> {
    let shape = match &args.shape {
        None => None,
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("the shape `{}` cannot be read", file.display()))
                .caused_by(error)
        })?),
    };
    let directives = proposal::directives(&args.change.bounds)?;
    if !directives.forward.is_empty() || !directives.reverse.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "`forward` and `reverse` belong to a statement")
            .hint("use `replank apply -e`"));
    }
    let connected = shell.connect().await?;
    let request = Request::Rebuild { table: args.table, shape, capture: directives.capture.clone() };
    change::run(shell, connected, request, &args.change, directives).await
}
