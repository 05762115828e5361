//! Runs rules over a draft and settles what a finding means for the plan.

use super::{Finding, Rule, Severity, Subject};
use crate::plan::{Candidate, Draft, PlanOptions};

/// Every finding of every rule, in the order of their codes, waivers applied.
#[must_use]
pub fn judge(draft: &Draft, chosen: &Candidate, rules: &[&dyn Rule], options: &PlanOptions) -> Vec<Finding> {
    let subject = Subject {
        draft,
        strategy: chosen.strategy,
        discards: &chosen.discards,
        disk_bytes: chosen.disk_bytes,
        lock_budget: options.lock_budget,
    };
    let mut findings: Vec<Finding> = rules
        .iter()
        .flat_map(|rule| {
            rule.check(&subject).into_iter().map(|verdict| Finding {
                code: rule.code().to_owned(),
                slug: rule.slug().to_owned(),
                severity: verdict.severity,
                message: verdict.message,
                advice: verdict.advice,
                handled_by: verdict.handled.then_some(chosen.strategy),
                waived: options
                    .waivers
                    .iter()
                    .find(|waiver| waiver.code == rule.code())
                    .map(|waiver| waiver.reason.clone()),
            })
        })
        .collect();
    findings.sort_by(|a, b| a.code.cmp(&b.code));
    findings
}

/// Those that forbid the change.
#[must_use]
pub fn refusals(findings: &[Finding]) -> Vec<Finding> {
    findings
        .iter()
        .filter(|finding| {
            finding.severity == Severity::Error && finding.handled_by.is_none() && finding.waived.is_none()
        })
        .cloned()
        .collect()
}
