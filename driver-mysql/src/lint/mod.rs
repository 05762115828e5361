//! MySQL's own rules, one a file, each with the page that `replank explain` prints.

mod case_twin;
mod charset;
mod computed_key;
mod drop_and_add;
mod enum_change;
mod facts;
mod foreign_keys;
mod grants;
mod histograms;
mod log_settings;
mod not_strict;
mod nullable_key;
mod old_holders;
mod partition_drop;
mod peer_leftovers;
mod primary_key;
mod rename_in_copy;
mod shortened_index;
mod topology;
mod triggers;
mod varchar_length;
mod zero_date;

pub use facts::{Facts, Following, PrimaryKey, ZeroDefault};

use replank_core::driver::Check;
use replank_core::lint::{Rule, Verdict};

/// Every rule of this driver, in the order of their codes.
pub fn rules() -> Vec<&'static dyn Rule> {
    vec![
        &enum_change::EnumChange,
        &varchar_length::VarcharLength,
        &charset::Charset,
        &foreign_keys::ForeignKeys,
        &triggers::Triggers,
        &not_strict::NotStrict,
        &zero_date::ZeroDate,
        &drop_and_add::DropAndAdd,
        &primary_key::PrimaryKeyChange,
        &rename_in_copy::RenameInCopy,
        &partition_drop::PartitionDrop,
        &case_twin::CaseTwin,
        &nullable_key::NullableKey,
        &computed_key::ComputedKey,
        &log_settings::LogSettings,
        &grants::Grants,
        &topology::Topology,
        &old_holders::OldHolders,
        &peer_leftovers::PeerLeftovers,
        &histograms::Histograms,
        &shortened_index::ShortenedIndex,
    ]
}

/// Checks that came out badly, each with what mends it.
fn refusals(checks: &[Check]) -> Vec<Verdict> {
    checks
        .iter()
        .map(|check| {
            Verdict::error(format!("{}: {}", check.name, check.found), check.mend.clone().unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use replank_core::driver::facts::{Check, CheckState, ServerFacts, TableFacts};
    use replank_core::ident::TableId;
    use replank_core::lint::{Severity, Subject};
    use replank_core::plan::{Draft, Evidence, NullColumn, Strategy};
    use rstest::rstest;

    use super::*;
    use crate::peers::Leftover;

    struct Case {
        facts: Facts,
        evidence: Evidence,
        discards: Vec<String>,
        strategy: Strategy,
    }

    fn with(change: impl FnOnce(&mut Case)) -> Case {
        let mut case = Case {
            facts: Facts::default(),
            evidence: Evidence::default(),
            discards: Vec::new(),
            strategy: Strategy::Shadow,
        };
        change(&mut case);
        case
    }

    fn natively(change: impl FnOnce(&mut Case)) -> Case {
        let mut case = with(change);
        case.strategy = Strategy::Instant;
        case
    }

    fn bad() -> Vec<Check> {
        vec![Check { name: "a".into(), state: CheckState::Bad, found: "b".into(), mend: Some("c".into()) }]
    }

    fn key(why_not: Option<&str>) -> Option<PrimaryKey> {
        Some(PrimaryKey { what: "from a to b".into(), why_not: why_not.map(Into::into) })
    }

    fn following(why_not: Option<&str>) -> Vec<Following> {
        vec![Following { what: "f".into(), why_not: why_not.map(Into::into) }]
    }

    fn left() -> Vec<Leftover> {
        vec![Leftover { what: "table `_t_gho` of gh-ost".into(), mend: "DROP TABLE `_t_gho`".into() }]
    }

    fn zero(is_new: bool) -> Vec<ZeroDefault> {
        vec![ZeroDefault { column: "c".into(), is_new }]
    }

    fn worst(code: &str, case: &Case) -> Option<Severity> {
        let draft = Draft {
            statement: String::new(),
            changes: Vec::new(),
            server: ServerFacts { driver: "mysql".into(), product: "MySQL".into(), version: "9".into() },
            table: TableFacts {
                id: TableId::new("t"),
                rows: 1,
                rows_exact: true,
                bytes: None,
                key: Vec::new(),
                dependants: Vec::new(),
            },
            candidates: Vec::new(),
            evidence: case.evidence.clone(),
            driver_facts: case.facts.write().expect("JSON"),
        };
        let subject = Subject {
            draft: &draft,
            strategy: case.strategy,
            discards: &case.discards,
            disk_bytes: None,
            lock_budget: Duration::from_millis(200),
        };
        let rule = rules().into_iter().find(|rule| rule.code() == code).expect("a known rule");
        rule.check(&subject).into_iter().map(|verdict| verdict.severity).max()
    }

    fn one(what: &str) -> Vec<String> {
        vec![what.to_owned()]
    }

    const HANDLED: Severity = Severity::Info;

    #[rstest]
    #[case("M205", natively(|c| c.facts.members = one("c")), Severity::Error)]
    #[case("M205", with(|c| c.facts.members = one("c")), HANDLED)]
    #[case("M206", natively(|c| c.facts.lengths = one("c")), Severity::Warning)]
    #[case("M206", with(|c| c.facts.lengths = one("c")), HANDLED)]
    #[case("M207", natively(|c| c.facts.recoded = one("c")), Severity::Warning)]
    #[case("M207", with(|c| c.facts.recoded = one("c")), HANDLED)]
    #[case("M208", with(|c| c.facts.keys = following(Some("why"))), Severity::Error)]
    #[case("M208", with(|c| c.facts.keys = following(None)), HANDLED)]
    #[case("M209", with(|c| c.facts.triggers = following(Some("why"))), Severity::Error)]
    #[case("M209", with(|c| c.facts.triggers = following(None)), HANDLED)]
    #[case("M214", with(|c| c.facts.not_strict = one("c")), Severity::Warning)]
    #[case("M214", with(|c| {
        c.facts.not_strict = one("c");
        c.evidence.nulls = vec![NullColumn { column: "c".into(), rows: 1, samples: one("1") }];
    }), Severity::Error)]
    #[case("M215", with(|c| c.facts.zero_dates = zero(true)), Severity::Warning)]
    #[case("M215", with(|c| c.facts.zero_dates = zero(false)), HANDLED)]
    #[case("M221", natively(|c| c.facts.replaced = one("c")), Severity::Error)]
    #[case("M222", with(|c| c.facts.primary_key = key(Some("no key"))), Severity::Error)]
    #[case("M222", with(|c| c.facts.primary_key = key(None)), HANDLED)]
    #[case("M223", with(|c| c.evidence.renames = vec![("column a".into(), "b".into())]), HANDLED)]
    #[case("M225", natively(|c| c.discards = one("partition p with its rows")), Severity::Error)]
    #[case("M229", natively(|c| c.facts.twins = one("T")), Severity::Error)]
    #[case("M230", with(|c| c.facts.nullable_key = Some("k".into())), Severity::Error)]
    #[case("M231", with(|c| c.facts.computed_key = Some("k".into())), Severity::Error)]
    #[case("M250", with(|c| c.facts.log = bad()), Severity::Error)]
    #[case("M251", natively(|c| c.facts.grants = bad()), Severity::Error)]
    #[case("M252", with(|c| c.facts.topology = bad()), Severity::Error)]
    #[case("M253", natively(|c| c.facts.holders = one("connection 7")), Severity::Error)]
    #[case("M253", natively(|c| c.facts.has_unseen_holders = true), Severity::Warning)]
    #[case("M254", natively(|c| c.facts.peers = left()), Severity::Warning)]
    #[case("M255", with(|c| c.facts.histograms = one("ANALYZE")), Severity::Warning)]
    #[case("M256", with(|c| c.facts.shortened = one("k")), Severity::Error)]
    #[case("M256", natively(|c| c.facts.shortened = one("k")), Severity::Error)]
    fn each_rule_judges_its_bad_case_and_has_nothing_against_the_good_one(
        #[case] code: &str,
        #[case] bad: Case,
        #[case] severity: Severity,
    ) {
        assert_eq!(worst(code, &bad), Some(severity));
        assert_eq!(worst(code, &with(|_| {})), None);
        assert_eq!(worst(code, &natively(|_| {})), None);
    }

    #[rstest]
    #[case("M208", natively(|c| c.facts.keys = following(Some("why"))))]
    #[case("M209", natively(|c| c.facts.triggers = following(Some("why"))))]
    #[case("M223", natively(|c| c.evidence.renames = vec![("column a".into(), "b".into())]))]
    #[case("M223", with(|c| c.evidence.renames = vec![("table a".into(), "b".into())]))]
    #[case("M225", with(|c| c.discards = one("column c")))]
    #[case("M230", natively(|c| c.facts.nullable_key = Some("k".into())))]
    #[case("M231", natively(|c| c.facts.computed_key = Some("k".into())))]
    #[case("M250", natively(|c| c.facts.log = bad()))]
    #[case("M252", natively(|c| c.facts.topology = bad()))]
    #[case("M255", natively(|c| c.facts.histograms = one("ANALYZE")))]
    fn what_only_a_rebuild_needs_is_not_asked_of_the_servers_own_ways(
        #[case] code: &str,
        #[case] case: Case,
    ) {
        assert_eq!(worst(code, &case), None);
    }

    #[test]
    fn codes_are_ordered_and_every_page_names_its_rule_with_a_bad_and_a_good_example() {
        let rules = rules();
        assert!(rules.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        for rule in rules {
            let title = format!("# {} {}", rule.code(), rule.slug());
            assert!(rule.page().starts_with(&title), "{title}");
            assert!(rule.page().contains("\nBad: ") && rule.page().contains("\nGood: "), "{title}");
        }
    }
}
