//! Which run is meant: its full id, a unique prefix of at least four characters, or `last`.

use replank_core::run::Run;
use replank_core::{Error, ErrorKind, Result};

// Four hex digits tell apart the runs of most targets, and are still a deliberate act. Fixed by the manual.
const PREFIX_MIN: usize = 4;

/// The run that `text` names among `runs`, which are ordered from the oldest.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is none, [`ErrorKind::Usage`] when it could be several.
pub fn find<'a>(runs: &'a [Run], text: &str) -> Result<&'a Run> {
    if text == "last" {
        return runs.last().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "this target has no runs yet")
                .hint("`replank apply -e STATEMENT` starts one")
        });
    }
    if text.len() < PREFIX_MIN {
        return Err(Error::new(ErrorKind::Usage, format!("`{text}` is too short for a run"))
            .hint("give at least four characters of its id, or `last`"));
    }
    let wanted = text.to_ascii_lowercase();
    let mut matching = runs.iter().filter(|run| run.id.as_str().starts_with(&wanted));
    match (matching.next(), matching.next()) {
        (Some(run), None) => Ok(run),
        (Some(first), Some(second)) => {
            Err(Error::new(ErrorKind::Usage, format!("`{text}` could be {} or {}", first.id, second.id))
                .hint("give more characters of the id"))
        }
        (None, _) => Err(Error::new(ErrorKind::NotFound, format!("no run `{text}`"))
            .hint("`replank history` lists the runs")),
    }
}

/// A prefix of the run's id that is shorter to type and still names no other run.
pub fn short(runs: &[Run], run: &Run) -> String {
    let id = run.id.as_str();
    let is_unique = |length: usize| {
        runs.iter().all(|other| other.id == run.id || !other.id.as_str().starts_with(&id[..length]))
    };
    let length = if is_unique(run.id.short().len()) { run.id.short().len() } else { id.len() };
    id[..length].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_line::example::run;

    #[test]
    fn by_id_prefix_and_last() {
        let runs = [run("0123456789abcdef"), run("0123ffff89abcdef"), run("beef456789abcdef")];
        let found = |text: &str| find(&runs, text).expect(text).id.as_str().to_owned();
        assert_eq!(found("0123456789abcdef"), "0123456789abcdef");
        assert_eq!(found("01234"), "0123456789abcdef");
        assert_eq!(found("BEEF"), "beef456789abcdef");
        assert_eq!(found("last"), "beef456789abcdef");
    }

    #[test]
    fn unknown_short_and_ambiguous_are_usage_errors() {
        let runs = [run("0123456789abcdef"), run("0123ffff89abcdef")];
        for (text, expected) in [("0123", "could be"), ("beef", "no run"), ("012", "too short")] {
            let error = find(&runs, text).expect_err(text);
            assert_eq!(error.kind().exit_code(), 2, "{text}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_eq!(find(&[], "last").expect_err("none").kind().exit_code(), 2);
    }

    #[test]
    fn short_names_stay_unique() {
        let runs = [run("0123456789abcdef"), run("012345678fffffff"), run("beef456789abcdef")];
        assert_eq!(short(&runs, &runs[2]), "beef4567");
        assert_eq!(short(&runs, &runs[0]), "0123456789abcdef");
    }
}
