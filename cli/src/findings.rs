//! What rules say, for a person.

use replank_core::lint::{Finding, Severity};
use replank_core::{Error, ErrorKind};

use crate::output::{paint::Paint, wrap};

/// Findings as a block of text: what, then what to do.
pub fn text(findings: &[Finding], paint: Paint) -> String {
    findings.iter().map(|finding| one(finding, paint)).collect::<Vec<_>>().join("\n")
}

fn one(finding: &Finding, paint: Paint) -> String {
    let (word, is_refusal) = match (finding.severity, &finding.handled_by, &finding.waived) {
        (_, Some(_), _) => ("handled", false),
        (_, _, Some(_)) => ("waived", false),
        (Severity::Error, ..) => ("refused", true),
        (Severity::Warning, ..) => ("warning", false),
        (Severity::Info, ..) => ("note", false),
    };
    let word = if is_refusal { paint.red(word) } else { paint.yellow(word) };
    let mut lines = vec![format!("{word}  {} {}", paint.bold(&finding.code), finding.slug)];
    lines.push(wrap::indented(&finding.message, 2));
    if !finding.advice.is_empty() {
        lines.push(wrap::hanging("→ ", &finding.advice, 2));
    }
    lines.join("\n")
}

/// The error of a change that rules forbid.
pub fn refusal(refusals: &[Finding]) -> Error {
    let codes: Vec<&str> = refusals.iter().map(|finding| finding.code.as_str()).collect();
    let verb = if refusals.len() == 1 { "refuses" } else { "refuse" };
    let message = format!("{} {verb} this change; nothing was changed", codes.join(", "));
    let hint = match refusals.first() {
        Some(first) => format!("`replank explain {}` says why, and when it may be waived", first.code),
        None => "see `replank plan`".to_owned(),
    };
    Error::new(ErrorKind::Refused, message).hint(hint)
}
