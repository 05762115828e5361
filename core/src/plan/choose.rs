//! The choice: the cheapest way that is safe, or a refusal. A pure function.

use std::time::Duration;

use super::{Candidate, Draft, LockNote, Plan, Step, Strategy};
use crate::lint::{self, Finding, Rule, Waiver};
use crate::{Error, ErrorKind, Result};

/// What bounds the choice.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The strategy that the person asked for.
    pub strategy: Option<Strategy>,
    /// Whether the change must stay revertible.
    pub revertible: bool,
    /// The lock budget.
    pub lock_budget: Duration,
    /// Rules that the person waived.
    pub waivers: Vec<Waiver>,
}

/// A plan, and whether it may be carried out.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The plan.
    pub plan: Plan,
    /// Findings that forbid it.
    pub refusals: Vec<Finding>,
}

/// Chooses.
///
/// # Errors
/// [`ErrorKind::Refused`] when no strategy can be taken at all, with the reason of each, and no rule explains it.
pub fn choose(draft: &Draft, rules: &[&dyn Rule], options: &PlanOptions) -> Result<Choice> {
    let mut candidates: Vec<&Candidate> = draft.candidates.iter().collect();
    candidates.sort_by_key(|candidate| candidate.strategy);
    let mut rejected = Vec::new();
    let chosen = candidates.into_iter().find(|candidate| match objection(candidate, options) {
        Some(reason) => {
            rejected.push((candidate.strategy, reason));
            false
        }
        None => true,
    });
    let Some(chosen) = chosen else {
        if let Some(choice) = refused_by_rules(draft, &rejected, rules, options) {
            return Ok(choice);
        }
        let reasons: Vec<String> =
            rejected.iter().map(|(strategy, reason)| format!("{strategy}: {reason}")).collect();
        return Err(Error::new(
            ErrorKind::Refused,
            format!("no strategy can run this on `{}`", draft.table.id),
        )
        .with("why", reasons.join("; "))
        .hint("change the statement, or see `replank plan` for what each strategy needs"));
    };
    let findings = lint::judge(draft, chosen, rules, options);
    let refusals = lint::refusals(&findings);
    Ok(Choice { plan: plan(draft, chosen, rejected, findings), refusals })
}

/// Where nothing can be taken, what rules say of the last resort says it better, each with its page. A rule that
/// was waived says nothing: what is impossible stays so.
fn refused_by_rules(
    draft: &Draft,
    rejected: &[(Strategy, String)],
    rules: &[&dyn Rule],
    options: &PlanOptions,
) -> Option<Choice> {
    let last = draft.candidates.iter().max_by_key(|candidate| candidate.strategy)?;
    // What it would discard is no matter where it is impossible, and among the reasons where a way back is wanted.
    let nothing_goes = Candidate { discards: Vec::new(), ..last.clone() };
    let judged = if last.impossible.is_some() || options.revertible { &nothing_goes } else { last };
    let findings = lint::judge(draft, judged, rules, options);
    let refusals = lint::refusals(&findings);
    (!refusals.is_empty()).then(|| Choice { plan: plan(draft, last, rejected.to_vec(), findings), refusals })
}

/// Why a candidate is not taken.
fn objection(candidate: &Candidate, options: &PlanOptions) -> Option<String> {
    if let Some(reason) = &candidate.impossible {
        return Some(reason.clone());
    }
    if let Some(wanted) = options.strategy
        && wanted != candidate.strategy
    {
        return Some(format!("`strategy={wanted}` was asked for"));
    }
    if let (Some(reason), None) = (&candidate.unasked, options.strategy) {
        return Some(format!("{reason}; `-D strategy={}` takes it all the same", candidate.strategy));
    }
    if options.revertible && !candidate.discards.is_empty() {
        return Some(format!("it discards {}, which only --no-revert allows", candidate.discards.join(", ")));
    }
    if let (true, Some(why)) = (options.revertible, &candidate.no_way_back) {
        return Some(format!("there is no way back ({why}), which only --no-revert allows"));
    }
    let longest: &LockNote = candidate.locks.iter().max_by_key(|lock| lock.hold_ms)?;
    // The swap of a rebuild keeps the budget by itself: it releases and tries again.
    let over = Duration::from_millis(longest.hold_ms) > options.lock_budget
        && candidate.strategy != Strategy::Shadow;
    over.then(|| {
        format!(
            "{} for about {} ms, over the lock budget of {} ms",
            longest.what,
            longest.hold_ms,
            options.lock_budget.as_millis()
        )
    })
}

fn plan(
    draft: &Draft,
    chosen: &Candidate,
    rejected: Vec<(Strategy, String)>,
    findings: Vec<Finding>,
) -> Plan {
    Plan {
        statement: draft.statement.clone(),
        changes: draft.changes.clone(),
        server: draft.server.clone(),
        table: draft.table.clone(),
        strategy: chosen.strategy,
        reason: chosen.reason.clone(),
        rejected,
        steps: chosen.steps.clone(),
        locks: chosen.locks.clone(),
        disk_bytes: chosen.disk_bytes,
        undo: match &chosen.no_way_back {
            Some(why) => format!("cannot be taken back: {why}"),
            None => chosen.undo.clone(),
        },
        findings,
        spec: chosen.spec.clone(),
        hash: hash(draft, chosen),
    }
}

/// Only what decides what will be done: sizes and estimates may differ from one day to the next.
fn hash(draft: &Draft, chosen: &Candidate) -> String {
    let steps: Vec<(&str, &str)> = chosen
        .steps
        .iter()
        .map(|Step { statement, inverse, .. }| (statement.as_str(), inverse.as_str()))
        .collect();
    let text = serde_json::json!({
        "statement": draft.statement,
        "table": draft.table.id,
        "strategy": chosen.strategy,
        "steps": steps,
        "spec": chosen.spec,
    });
    blake3::hash(text.to_string().as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::facts::{ServerFacts, TableFacts};
    use crate::ident::TableId;
    use crate::plan::Evidence;

    fn candidate(strategy: Strategy) -> Candidate {
        Candidate {
            strategy,
            impossible: None,
            unasked: None,
            reason: "it works".to_owned(),
            steps: Vec::new(),
            locks: Vec::new(),
            discards: Vec::new(),
            no_way_back: None,
            disk_bytes: None,
            undo: "revert".to_owned(),
            spec: serde_json::Value::Null,
        }
    }

    fn draft(candidates: Vec<Candidate>) -> Draft {
        Draft {
            statement: "ALTER".to_owned(),
            changes: vec!["something".to_owned()],
            server: ServerFacts { driver: "x".into(), product: "X".into(), version: "1".into() },
            table: TableFacts {
                id: TableId::new("t"),
                rows: 1,
                rows_exact: true,
                bytes: None,
                key: vec!["id".to_owned()],
                dependants: Vec::new(),
            },
            candidates,
            evidence: Evidence::default(),
            driver_facts: serde_json::Value::Null,
        }
    }

    fn options() -> PlanOptions {
        PlanOptions { revertible: true, lock_budget: Duration::from_millis(200), ..PlanOptions::default() }
    }

    fn chosen(candidates: Vec<Candidate>, options: &PlanOptions) -> Strategy {
        choose(&draft(candidates), &[], options).expect("a strategy").plan.strategy
    }

    #[test]
    fn the_cheapest_possible_one_is_taken() {
        let both = vec![candidate(Strategy::Shadow), candidate(Strategy::Instant)];
        assert_eq!(chosen(both, &options()), Strategy::Instant);
    }

    #[test]
    fn one_that_discards_data_is_only_taken_without_a_way_back() {
        let drop = Candidate { discards: vec!["column c".into()], ..candidate(Strategy::Instant) };
        let both = vec![drop, candidate(Strategy::Shadow)];
        assert_eq!(chosen(both.clone(), &options()), Strategy::Shadow);
        assert_eq!(chosen(both, &PlanOptions { revertible: false, ..options() }), Strategy::Instant);
    }

    #[test]
    fn one_without_a_way_back_is_only_taken_without_one_and_no_rule_calls_it_a_loss() {
        let one_way = Candidate { no_way_back: Some("why".into()), ..candidate(Strategy::Instant) };
        let draft = draft(vec![one_way]);
        let error = choose(&draft, &lint::rules::all(), &options()).expect_err("refused");
        let says = "there is no way back (why), which only --no-revert allows";
        assert!(error.to_string().contains(says), "{error}");
        let options = PlanOptions { revertible: false, ..options() };
        let choice = choose(&draft, &lint::rules::all(), &options).expect("a choice");
        assert_eq!((choice.refusals, choice.plan.undo.as_str()), (Vec::new(), "cannot be taken back: why"));
    }

    /// What would be lost is no matter where nothing can be done.
    #[test]
    fn what_is_impossible_is_told_before_what_it_would_discard() {
        let impossible = Candidate {
            impossible: Some("a view uses it".into()),
            discards: vec!["column c".into()],
            no_way_back: Some("it is gone".into()),
            ..candidate(Strategy::Instant)
        };
        let draft = draft(vec![impossible]);
        for revertible in [true, false] {
            let options = PlanOptions { revertible, ..options() };
            let error = choose(&draft, &lint::rules::all(), &options).expect_err("refused").to_string();
            assert!(error.contains("a view uses it") && !error.contains("revert"), "{error}");
        }
    }

    #[test]
    fn one_that_holds_a_lock_over_the_budget_is_not_taken() {
        let slow = Candidate {
            locks: vec![LockNote { what: "writers wait".into(), hold_ms: 900 }],
            ..candidate(Strategy::NativeOnline)
        };
        assert_eq!(chosen(vec![slow, candidate(Strategy::Shadow)], &options()), Strategy::Shadow);
    }

    #[test]
    fn what_is_impossible_is_explained_by_a_rule_and_no_waiver_makes_it_possible() {
        let impossible = Candidate { impossible: Some("no key".into()), ..candidate(Strategy::Shadow) };
        let mut draft = draft(vec![impossible]);
        draft.evidence.no_key = Some("nothing is unique".into());
        let rules = lint::rules::all();
        let choice = choose(&draft, &rules, &options()).expect("a choice");
        assert_eq!(choice.refusals[0].code, "C016");
        let waiver = Waiver { code: "C016".into(), reason: "I know".into() };
        let waived = PlanOptions { waivers: vec![waiver], ..options() };
        let error = choose(&draft, &rules, &waived).expect_err("refused");
        assert!(error.to_string().contains("no key"), "{error}");
    }

    #[test]
    fn nothing_possible_is_a_refusal_with_every_reason() {
        let impossible = Candidate { impossible: Some("no key".into()), ..candidate(Strategy::Shadow) };
        let error = choose(&draft(vec![impossible]), &[], &options()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("no key"), "{error}");
    }
}
