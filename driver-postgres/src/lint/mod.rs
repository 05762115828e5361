//! PostgreSQL's own rules, one a file, each with the page that `replank explain` prints. The plan notes what it has seen, and
//! for which rule; a rule says what that means for the way that is taken.

mod attach_detach;
mod check_validating;
mod column_rewrites;
mod corrupting_release;
mod counting_column;
mod domain_constraint;
mod drop_not_concurrent;
mod drop_not_null;
mod enum_change;
mod exclusion;
mod facts;
mod foreign_key_validating;
mod index_not_concurrent;
mod invalid_left;
mod json_column;
mod key_without_index;
mod lock_waiters;
mod long_swap;
mod not_null_scan;
mod nullable_key;
mod old_transactions;
mod own;
mod own_repack;
mod padding;
mod partitioned_index;
mod partitioned_key;
mod partitioned_statements;
mod pooler;
mod primary_key_direct;
mod published_records;
mod refresh_blocks;
mod reindex_not_concurrent;
mod rewrite_by_option;
mod row_moved;
mod row_security;
mod same_name;
mod slot_settings;
mod stored_column;
mod type_looks;
mod type_rewrites;
mod type_style;
mod unique_direct;
mod unseen_writers;
mod vacuum_full;
mod validate_together;
mod within_transaction;
mod zone_unknown;

pub use facts::{Facts, Seen};

use replank_core::lint::Rule;

/// Every rule of this driver, in the order of their codes.
pub fn rules() -> Vec<&'static dyn Rule> {
    vec![
        &index_not_concurrent::RULE,
        &drop_not_concurrent::RULE,
        &within_transaction::RULE,
        &lock_waiters::RULE,
        &invalid_left::RULE,
        &corrupting_release::RULE,
        &primary_key_direct::RULE,
        &nullable_key::RULE,
        &unique_direct::RULE,
        &exclusion::RULE,
        &foreign_key_validating::RULE,
        &validate_together::RULE,
        &check_validating::RULE,
        &not_null_scan::RULE,
        &column_rewrites::RULE,
        &stored_column::RULE,
        &counting_column::RULE,
        &type_rewrites::RULE,
        &type_looks::RULE,
        &json_column::RULE,
        &type_style::RULE,
        &enum_change::RULE,
        &domain_constraint::RULE,
        &vacuum_full::RULE,
        &reindex_not_concurrent::RULE,
        &attach_detach::RULE,
        &partitioned_key::RULE,
        &partitioned_index::RULE,
        &rewrite_by_option::RULE,
        &refresh_blocks::RULE,
        &drop_not_null::RULE,
        &same_name::RULE,
        &padding::RULE,
        &row_security::RULE,
        &key_without_index::RULE,
        &own_repack::RULE,
        &partitioned_statements::RULE,
        &row_moved::RULE,
        &long_swap::RULE,
        &zone_unknown::RULE,
        &old_transactions::RULE,
        &unseen_writers::RULE,
        &slot_settings::RULE,
        &pooler::RULE,
        &published_records::RULE,
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use replank_core::driver::facts::{ServerFacts, TableFacts};
    use replank_core::ident::TableId;
    use replank_core::lint::{Severity, Subject};
    use replank_core::plan::{Candidate, Draft, Evidence, LockNote, Strategy};
    use rstest::rstest;

    use super::*;

    fn worst(code: &str, facts: serde_json::Value, strategy: Strategy) -> Option<Severity> {
        judged(code, &draft(facts), strategy)
    }

    fn draft(facts: serde_json::Value) -> Draft {
        Draft {
            statement: String::new(),
            changes: Vec::new(),
            server: ServerFacts {
                driver: "postgres".into(),
                product: "PostgreSQL".into(),
                version: "17".into(),
            },
            table: TableFacts {
                id: TableId::new("t"),
                rows: 1,
                rows_exact: true,
                bytes: None,
                key: Vec::new(),
                dependants: Vec::new(),
            },
            candidates: Vec::new(),
            evidence: Evidence::default(),
            driver_facts: facts,
        }
    }

    fn judged(code: &str, draft: &Draft, strategy: Strategy) -> Option<Severity> {
        let lock_budget = Duration::from_millis(200);
        let subject = Subject { draft, strategy, discards: &[], disk_bytes: None, lock_budget };
        let rule =
            rules().into_iter().find(|rule| rule.code() == code.trim_end_matches('!')).expect("a known rule");
        rule.check(&subject).into_iter().map(|verdict| verdict.severity).max()
    }

    #[rstest]
    #[case("P101", Strategy::NativeOnline, Severity::Info)]
    #[case("P102", Strategy::NativeOnline, Severity::Info)]
    #[case("P105", Strategy::NativeOnline, Severity::Info)]
    #[case("P106", Strategy::Instant, Severity::Error)]
    #[case("P107", Strategy::NativeOnline, Severity::Info)]
    #[case("P109", Strategy::NativeOnline, Severity::Info)]
    #[case("P110", Strategy::Shadow, Severity::Info)]
    #[case("P110", Strategy::Instant, Severity::Error)]
    #[case("P111", Strategy::NativeOnline, Severity::Info)]
    #[case("P113", Strategy::NativeOnline, Severity::Info)]
    #[case("P114", Strategy::NativeOnline, Severity::Info)]
    #[case("P115", Strategy::Shadow, Severity::Info)]
    #[case("P115", Strategy::Instant, Severity::Error)]
    #[case("P118", Strategy::Shadow, Severity::Info)]
    #[case("P118", Strategy::Instant, Severity::Error)]
    #[case("P119", Strategy::Shadow, Severity::Info)]
    #[case("P119", Strategy::Instant, Severity::Error)]
    #[case("P120", Strategy::Instant, Severity::Warning)]
    #[case("P122", Strategy::Instant, Severity::Warning)]
    #[case("P124", Strategy::Shadow, Severity::Info)]
    #[case("P124", Strategy::NativeOnline, Severity::Info)]
    #[case("P125", Strategy::NativeOnline, Severity::Info)]
    #[case("P126", Strategy::NativeOnline, Severity::Info)]
    #[case("P127", Strategy::Instant, Severity::Error)]
    #[case("P128", Strategy::NativeOnline, Severity::Info)]
    #[case("P129", Strategy::Instant, Severity::Error)]
    #[case("P129", Strategy::Shadow, Severity::Info)]
    #[case("P130", Strategy::NativeOnline, Severity::Info)]
    #[case("P131", Strategy::Instant, Severity::Warning)]
    #[case("P134", Strategy::Instant, Severity::Warning)]
    #[case("P135", Strategy::Instant, Severity::Warning)]
    #[case("P137", Strategy::Shadow, Severity::Warning)]
    #[case("P138", Strategy::Shadow, Severity::Warning)]
    #[case("P138!", Strategy::Shadow, Severity::Error)]
    #[case("P150", Strategy::Instant, Severity::Warning)]
    #[case("P103", Strategy::NativeOnline, Severity::Info)]
    #[case("P104", Strategy::NativeOnline, Severity::Error)]
    #[case("P108", Strategy::NativeOnline, Severity::Info)]
    #[case("P112", Strategy::NativeOnline, Severity::Info)]
    #[case("P116", Strategy::Shadow, Severity::Info)]
    #[case("P116", Strategy::Instant, Severity::Error)]
    #[case("P117", Strategy::Shadow, Severity::Info)]
    #[case("P117!", Strategy::Shadow, Severity::Error)]
    #[case("P121", Strategy::Instant, Severity::Info)]
    #[case("P123", Strategy::Instant, Severity::Warning)]
    #[case("P123!", Strategy::Instant, Severity::Error)]
    #[case("P132", Strategy::Instant, Severity::Info)]
    #[case("P133", Strategy::Shadow, Severity::Info)]
    #[case("P136", Strategy::NativeOnline, Severity::Error)]
    #[case("P140", Strategy::Instant, Severity::Warning)]
    #[case("P140!", Strategy::Instant, Severity::Error)]
    #[case("P151", Strategy::Shadow, Severity::Info)]
    #[case("P151!", Strategy::Shadow, Severity::Error)]
    #[case("P152", Strategy::Shadow, Severity::Warning)]
    #[case("P152!", Strategy::Shadow, Severity::Error)]
    #[case("P153", Strategy::Instant, Severity::Error)]
    #[case("P154", Strategy::Instant, Severity::Error)]
    #[case("P122!", Strategy::Instant, Severity::Error)]
    #[case("P130!", Strategy::NativeOnline, Severity::Error)]
    fn each_rule_judges_what_was_seen_and_has_nothing_against_the_rest(
        #[case] code: &str,
        #[case] strategy: Strategy,
        #[case] severity: Severity,
    ) {
        assert_eq!(worst(code, Facts::one(code, "something".to_owned()), strategy), Some(severity));
        assert_eq!(worst(code, serde_json::Value::Null, strategy), None);
        assert_eq!(worst(code, Facts::one("P999", "something".to_owned()), strategy), None);
    }

    #[rstest]
    #[case(200, Strategy::Shadow, None)]
    #[case(201, Strategy::Shadow, Some(Severity::Error))]
    #[case(201, Strategy::Instant, None)]
    fn a_swap_that_is_longer_than_the_budget_is_refused(
        #[case] hold_ms: u64,
        #[case] strategy: Strategy,
        #[case] severity: Option<Severity>,
    ) {
        let mut draft = draft(serde_json::Value::Null);
        draft.candidates.push(Candidate {
            strategy: Strategy::Shadow,
            impossible: None,
            unasked: None,
            reason: String::new(),
            steps: Vec::new(),
            locks: vec![LockNote { what: "the swap".to_owned(), hold_ms }],
            discards: Vec::new(),
            no_way_back: None,
            disk_bytes: None,
            undo: String::new(),
            spec: serde_json::Value::Null,
        });
        assert_eq!(judged("P139", &draft, strategy), severity);
    }

    /// A way that captures nothing has nothing to do with how changes are captured.
    #[rstest]
    #[case("P151!")]
    #[case("P152")]
    #[case("P152!")]
    fn rules_of_capture_are_silent_where_nothing_is_rebuilt(#[case] code: &str) {
        let facts = Facts::one(code, "something".to_owned());
        assert_eq!(worst(code, facts, Strategy::NativeOnline), None);
    }

    #[test]
    fn a_rule_of_the_servers_own_way_is_silent_where_the_table_is_rebuilt() {
        assert_eq!(worst("P136", Facts::one("P136", "something".to_owned()), Strategy::Shadow), None);
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
