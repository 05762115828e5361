//! `replank doctor`: is the target as it should be?

use replank_core::Result;
use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;
use replank_core::event::Body;
use replank_core::lint::{Finding, Severity};

use crate::exit::Outcome;
use crate::output::paint::Paint;
use crate::output::wrap;
use crate::shell::Shell;
use crate::signals::or_interrupted;

/// Prints every check, with the statement that mends it.
pub async fn run(shell: &Shell) -> Result<Outcome> {
    let connected = shell.connect().await?;
    let checks = or_interrupted(&shell.stop, connected.session.checks()).await?;
    shell.output.line(&shell.output.paint().bold(&connected.target.to_string()));
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in &checks {
        shell.output.line(&text(check, width, shell.output.paint()));
        shell.output.object(None, Body::Finding(finding(check)));
    }
    let bad = checks.iter().filter(|check| check.state == CheckState::Bad).count();
    Ok(if bad == 0 {
        Outcome::done("ready")
    } else {
        let hint =
            checks.iter().find_map(|check| check.mend.clone().filter(|_| check.state == CheckState::Bad));
        let outcome = Outcome::refused(format!("{bad} of {} checks must be mended first", checks.len()));
        match hint {
            Some(mend) => outcome.hint(mend),
            None => outcome,
        }
    })
}

fn text(check: &Check, width: usize, paint: Paint) -> String {
    let word = match check.state {
        CheckState::Good => paint.green("ok  "),
        CheckState::Warning => paint.yellow("warn"),
        CheckState::Bad => paint.red("bad "),
    };
    // Wrapped as if the word had no colour, then given its word.
    let lines = wrap::hanging(&format!("{:<width$}  ", check.name), &check.found, 8);
    let mut text = format!("  {word}  {}", lines.trim_start());
    if let Some(mend) = check.mend.as_ref().filter(|_| check.state != CheckState::Good) {
        text.push('\n');
        text.push_str(&wrap::hanging("mend: ", mend, 8));
    }
    text
}

/// A check as an event.
fn finding(check: &Check) -> Finding {
    Finding {
        code: "doctor".to_owned(),
        slug: check.name.clone(),
        severity: match check.state {
            CheckState::Good => Severity::Info,
            CheckState::Warning => Severity::Warning,
            CheckState::Bad => Severity::Error,
        },
        message: check.found.clone(),
        advice: check.mend.clone().unwrap_or_default(),
        handled_by: None,
        waived: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_mended_comes_with_its_statement() {
        let check = Check {
            name: "journal".to_owned(),
            state: CheckState::Bad,
            found: "delete".to_owned(),
            mend: Some("PRAGMA journal_mode = WAL;".to_owned()),
        };
        let text = text(&check, 10, Paint::plain());
        assert_eq!(text, "  bad   journal     delete\n        mend: PRAGMA journal_mode = WAL;");
        assert_eq!(finding(&check).severity, Severity::Error);
    }
}
