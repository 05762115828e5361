//! What a person types after a run has failed.

use crate::run::{Direction, Run};
use crate::{Error, ErrorKind};

/// What to type next, after what the driver says of it.
pub fn with_way_out(error: Error, run: &Run) -> Error {
    let id = &run.id;
    let way_out = match error.kind() {
        // Of steps of the server's own there is no copy.
        ErrorKind::ForeignDdl if !run.plan.is_rebuild() => match run.stands().is_reversible() {
            true => format!("`replank revert {id}` goes on then"),
            false => format!("`replank abort {id}` takes back what was done, then apply again"),
        },
        ErrorKind::FeedGap | ErrorKind::ForeignDdl if run.direction == Direction::Reverse => {
            format!(
                "the new table stays as it is, with every write; `replank finalize {id}` ends the way back"
            )
        }
        ErrorKind::FeedGap | ErrorKind::ForeignDdl => {
            format!("the live table is untouched; `replank abort {id}` removes the copy, then apply again")
        }
        ErrorKind::DiskFull => format!("free some room on the server, then `replank resume {id}`"),
        kind if kind.exit_code() == 1 && error.hint_text().is_none() => {
            format!("go on with `replank resume {id}`")
        }
        _ => return error,
    };
    let hint = match error.hint_text() {
        Some(hint) => format!("{hint}; {way_out}"),
        None => way_out,
    };
    error.hint(hint)
}
