//! `replank explain`: why a rule exists, and what to do about it.

use replank_core::event::{Body, RuleLine};
use replank_core::lint::{Rule, Severity, rules};
use replank_core::{Error, ErrorKind, Result};

use crate::args::Explain;
use crate::exit::Outcome;
use crate::output::markdown;
use crate::shell::Shell;

/// Prints a rule's page, or the list of rules.
pub fn run(shell: &Shell, args: Explain) -> Result<Outcome> {
    let rules = all(shell);
    match args.code {
        Some(code) => page(shell, &rules, &code),
        None => Ok(list(shell, &rules)),
    }
}

/// The rules of core and of every driver, by code.
fn all(shell: &Shell) -> Vec<&'static dyn Rule> {
    let mut rules = rules::all();
    rules.extend(shell.registry.drivers().iter().flat_map(|driver| driver.rules()));
    rules.sort_by_key(|rule| rule.code());
    rules.dedup_by_key(|rule| rule.code());
    rules
}

fn page(shell: &Shell, rules: &[&'static dyn Rule], code: &str) -> Result<Outcome> {
    let rule = rules
        .iter()
        .find(|rule| rule.code().eq_ignore_ascii_case(code) || rule.slug() == code)
        .ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no rule is called `{code}`"))
                .hint("`replank explain --list` lists the rules")
        })?;
    shell.output.line(&markdown::text(rule.page(), shell.output.paint()));
    shell.output.object(None, Body::Rule(line(*rule, true)));
    Ok(Outcome::said(format!("{} {}", rule.code(), rule.slug())))
}

fn list(shell: &Shell, rules: &[&'static dyn Rule]) -> Outcome {
    let width = rules.iter().map(|rule| rule.slug().len()).max().unwrap_or(0);
    for rule in rules {
        let severity = word(rule.severity());
        shell.output.line(&format!("{}  {:<width$}  {severity}", rule.code(), rule.slug()));
        shell.output.object(None, Body::Rule(line(*rule, false)));
    }
    let message = format!("{} rules", rules.len());
    if rules.is_empty() { Outcome::done(message) } else { Outcome::said(message) }
}

fn line(rule: &dyn Rule, with_page: bool) -> RuleLine {
    RuleLine {
        code: rule.code().to_owned(),
        slug: rule.slug().to_owned(),
        severity: rule.severity(),
        page: with_page.then(|| rule.page().to_owned()),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
