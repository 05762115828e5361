//! The rules of core, one a file, each with the page that `replank explain` prints.

mod disk_headroom;
mod drop_column;
mod drop_table;
mod identifier_too_long;
mod log_retention;
mod lossy_type;
mod no_usable_key;
mod not_null;
mod rename_column;
mod rename_table;
mod table_busy;
mod unique_on_existing;

use super::{Rule, Subject};

/// Every rule that any driver's facts can be judged by, in the order of their codes.
#[must_use]
pub fn all() -> Vec<&'static dyn Rule> {
    vec![
        &drop_table::DropTable,
        &drop_column::DropColumn,
        &rename_table::RenameTable,
        &rename_column::RenameColumn,
        &lossy_type::LossyType,
        &not_null::NotNullOnExisting,
        &unique_on_existing::UniqueOnExisting,
        &no_usable_key::NoUsableKey,
        &identifier_too_long::IdentifierTooLong,
        &table_busy::TableBusy,
        &disk_headroom::DiskHeadroom,
        &log_retention::LogRetention,
    ]
}

/// `1 row does`, `2 rows do`.
fn counted(rows: u64, one: &str, more: &str) -> String {
    if rows == 1 { format!("1 row {one}") } else { format!("{rows} rows {more}") }
}

/// The keys of some of the rows, where they are known.
fn first_keys(samples: &[String]) -> String {
    if samples.is_empty() { String::new() } else { format!(" (first keys: {})", samples.join(", ")) }
}

/// Renames of a kind of object, as `a to b`.
fn renames<'a>(subject: &'a Subject<'_>, kind: &str) -> impl Iterator<Item = String> + use<'a> {
    let prefix = format!("{kind} ");
    subject.draft.evidence.renames.iter().filter_map(move |(from, to)| {
        from.strip_prefix(&prefix).map(|from| format!("`{from}` becomes `{to}`"))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::driver::facts::{ServerFacts, TableFacts};
    use crate::ident::TableId;
    use crate::lint::Severity;
    use crate::plan::{Collision, Draft, Evidence, NullColumn, Strategy, Unfit};

    struct Case {
        evidence: Evidence,
        discards: Vec<String>,
        strategy: Strategy,
        disk_bytes: Option<u64>,
    }

    fn good() -> Case {
        Case {
            evidence: Evidence { disk_free: Some(1 << 30), ..Evidence::default() },
            discards: Vec::new(),
            strategy: Strategy::Shadow,
            disk_bytes: Some(1 << 20),
        }
    }

    fn with(change: impl FnOnce(&mut Case)) -> Case {
        let mut case = good();
        change(&mut case);
        case
    }

    fn samples() -> Vec<String> {
        vec!["1".to_owned()]
    }

    fn worst(code: &str, case: &Case) -> Option<Severity> {
        let draft = Draft {
            statement: String::new(),
            changes: Vec::new(),
            server: ServerFacts { driver: "x".into(), product: "X".into(), version: "1".into() },
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
            driver_facts: serde_json::Value::Null,
        };
        let subject = Subject {
            draft: &draft,
            strategy: case.strategy,
            discards: &case.discards,
            disk_bytes: case.disk_bytes,
            lock_budget: Duration::from_millis(200),
        };
        let rule = all().into_iter().find(|rule| rule.code() == code).expect("a known rule");
        rule.check(&subject).into_iter().map(|verdict| verdict.severity).max()
    }

    #[rstest]
    #[case("C001", with(|c| c.discards = vec!["table `t`".into()]))]
    #[case("C002", with(|c| c.discards = vec!["column `c`".into()]))]
    #[case("C003", with(|c| c.evidence.renames = vec![("table t".into(), "u".into())]))]
    #[case("C004", with(|c| c.evidence.renames = vec![("column c".into(), "d".into())]))]
    #[case("C007", with(|c| c.evidence.unfit = vec![Unfit { what: "c".into(), rows: 1, samples: samples() }]))]
    #[case("C009", with(|c| c.evidence.nulls = vec![NullColumn { column: "c".into(), rows: 1, samples: samples() }]))]
    #[case("C010", with(|c| c.evidence.collisions = vec![Collision { unique: "u".into(), groups: 1, samples: samples() }]))]
    #[case("C016", with(|c| c.evidence.no_key = Some("no key".into())))]
    #[case("C022", with(|c| c.evidence.long_names = vec!["x".repeat(99)]))]
    #[case("C032", with(|c| c.evidence.busy = vec!["run 1 is copying".into()]))]
    #[case("C043", with(|c| c.evidence.disk_free = Some(1)))]
    #[case("C044", with(|c| c.evidence.retention = Some("an hour".into())))]
    fn each_rule_refuses_its_bad_case_and_has_nothing_against_the_good_one(
        #[case] code: &str,
        #[case] bad: Case,
    ) {
        assert_eq!(worst(code, &bad), Some(Severity::Error));
        assert_eq!(worst(code, &good()), None);
    }

    #[test]
    fn a_table_without_a_key_may_still_be_changed_by_the_server_itself() {
        let case = with(|case| {
            case.evidence.no_key = Some("no key".into());
            case.strategy = Strategy::Instant;
        });
        assert_eq!(worst("C016", &case), Some(Severity::Info));
    }

    #[test]
    fn disk_that_cannot_be_read_is_a_warning() {
        assert_eq!(worst("C043", &with(|case| case.evidence.disk_free = None)), Some(Severity::Warning));
    }

    #[test]
    fn codes_are_unique_ordered_and_every_page_names_its_rule_with_a_bad_and_a_good_example() {
        let rules = all();
        assert!(rules.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        for rule in rules {
            let title = format!("# {} {}", rule.code(), rule.slug());
            assert!(rule.page().starts_with(&title), "{title}");
            assert!(rule.page().contains("\nBad: ") && rule.page().contains("\nGood: "), "{title}");
        }
    }
}
