//! MongoDB's own rules, one a file, each with the page that `replank explain` prints.

mod no_change_stream;
mod transactions_pass;

use replank_core::lint::{Rule, Subject};
use serde::{Deserialize, Serialize};

/// Every rule of this driver, in the order of their codes.
pub fn rules() -> Vec<&'static dyn Rule> {
    vec![&no_change_stream::NoChangeStream, &transactions_pass::TransactionsPass]
}

/// What only this driver knows of a draft.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    /// What a rebuild needs and the server does not do, in words.
    pub missing: Vec<String>,
    /// A fence does not wait for open transactions.
    pub transactions_pass: bool,
}

impl Facts {
    fn of(subject: &Subject<'_>) -> Self {
        // A draft of this driver's holds nothing else.
        Self::deserialize(&subject.draft.driver_facts).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use replank_core::driver::facts::{ServerFacts, TableFacts};
    use replank_core::ident::TableId;
    use replank_core::plan::{Draft, Evidence, Strategy};

    use super::*;

    fn found(facts: &Facts, strategy: Strategy) -> Vec<&'static str> {
        let draft = Draft {
            statement: "REBUILD t".to_owned(),
            changes: vec!["it is written anew".to_owned()],
            server: ServerFacts {
                driver: "mongodb".into(),
                product: "MongoDB".into(),
                version: "8.0".into(),
            },
            table: TableFacts {
                id: TableId::new("t"),
                rows: 1,
                rows_exact: false,
                bytes: None,
                key: vec!["_id".to_owned()],
                dependants: Vec::new(),
            },
            candidates: Vec::new(),
            evidence: Evidence::default(),
            driver_facts: serde_json::to_value(facts).expect("plain"),
        };
        let subject = Subject {
            draft: &draft,
            strategy,
            discards: &[],
            disk_bytes: None,
            lock_budget: Duration::from_millis(200),
        };
        rules().into_iter().filter(|rule| !rule.check(&subject).is_empty()).map(Rule::code).collect()
    }

    #[test]
    fn each_rule_finds_what_it_is_for_and_nothing_else() {
        let good = Facts::default();
        let streamless = Facts { missing: vec!["no change stream".into()], ..Facts::default() };
        let passing = Facts { transactions_pass: true, ..Facts::default() };
        assert!(found(&good, Strategy::Shadow).is_empty());
        assert_eq!(found(&streamless, Strategy::Shadow), ["D317"]);
        assert_eq!(found(&passing, Strategy::Shadow), ["D323"]);
        assert!(found(&passing, Strategy::Instant).is_empty());
    }
}
