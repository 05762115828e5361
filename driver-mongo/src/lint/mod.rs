//! MongoDB's own rules, one a file, each with the page that `replank explain` prints.

mod drop_collection;
mod drop_index_not_hidden;
mod drop_target;
mod index_build_quorum;
mod moved_field;
mod no_change_stream;
mod pipeline_fails;
mod strict_validator;
mod transactions_pass;
mod ttl_on_old_data;
mod unbounded_update;

use replank_core::lint::{Rule, Subject};
use replank_core::plan::Unfit;
use serde::{Deserialize, Serialize};

/// Every rule of this driver, in the order of their codes.
pub fn rules() -> Vec<&'static dyn Rule> {
    vec![
        &index_build_quorum::IndexBuildQuorum,
        &drop_index_not_hidden::DropIndexNotHidden,
        &ttl_on_old_data::TtlOnOldData,
        &unbounded_update::UnboundedUpdate,
        &moved_field::MovedField,
        &pipeline_fails::PipelineFails,
        &strict_validator::StrictValidator,
        &no_change_stream::NoChangeStream,
        &drop_target::DropTarget,
        &drop_collection::DropCollection,
        &transactions_pass::TransactionsPass,
    ]
}

/// What only this driver knows of a draft.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    /// What a rebuild needs and the server does not do, in words.
    pub missing: Vec<String>,
    /// A fence does not wait for open transactions.
    pub transactions_pass: bool,
    /// Members that the build of an index would wait for, with what is the matter with them.
    pub members_down: Vec<String>,
    /// Indexes that are hidden before they go.
    pub hidden_indexes: Vec<String>,
    /// Indexes that go at once, since the server hides none.
    pub bare_indexes: Vec<String>,
    /// How often those of them were used that were.
    pub used_indexes: Vec<String>,
    /// Documents that a TTL index would delete at once.
    pub expiring: u64,
    /// Documents that an update is about.
    pub updates_many: u64,
    /// Documents that a delete is about.
    pub deletes_many: u64,
    /// Fields that an update takes away, renames or gives another type.
    pub moved_fields: Vec<String>,
    /// What the server says of a pipeline that fails for a document.
    pub pipeline_fails: Option<String>,
    /// Documents that break a validator which would be strict.
    pub breaking_strict: Option<Unfit>,
    /// Documents that break a validator which lets them be.
    pub breaking: Option<Unfit>,
    /// A collection that a rename would replace.
    pub drops_target: Option<String>,
    /// A collection that goes.
    pub dropped: Option<String>,
}

impl Facts {
    fn of(subject: &Subject<'_>) -> Self {
        // A draft of this driver's holds nothing else.
        Self::deserialize(&subject.draft.driver_facts).unwrap_or_default()
    }
}

/// A number of documents, and what they do: `1 document breaks`, `2 documents break`.
fn documents(number: u64, does: &str, they_do: &str) -> String {
    match number {
        1 => format!("1 document {does}"),
        _ => format!("{number} documents {they_do}"),
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
        let unfit = Unfit { what: "it".into(), rows: 1, samples: vec!["1".into()] };
        let cases = [
            ("D302", Facts { members_down: vec!["b is DOWN".into()], ..Facts::default() }),
            ("D304", Facts { hidden_indexes: vec!["i".into()], ..Facts::default() }),
            ("D304", Facts { bare_indexes: vec!["i".into()], ..Facts::default() }),
            ("D304", Facts { used_indexes: vec!["i was used".into()], ..Facts::default() }),
            ("D305", Facts { expiring: 1, ..Facts::default() }),
            ("D306", Facts { updates_many: 1, ..Facts::default() }),
            ("D306", Facts { deletes_many: 1, ..Facts::default() }),
            ("D307", Facts { moved_fields: vec!["a goes".into()], ..Facts::default() }),
            ("D308", Facts { pipeline_fails: Some("no".into()), ..Facts::default() }),
            ("D309", Facts { breaking_strict: Some(unfit.clone()), ..Facts::default() }),
            ("D309", Facts { breaking: Some(unfit), ..Facts::default() }),
            ("D319", Facts { drops_target: Some("c".into()), ..Facts::default() }),
            ("D322", Facts { dropped: Some("c".into()), ..Facts::default() }),
        ];
        for (code, facts) in cases {
            assert_eq!(found(&facts, Strategy::Instant), [code]);
        }
    }
}
