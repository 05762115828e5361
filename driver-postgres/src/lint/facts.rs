//! What the plan has seen for PostgreSQL's own rules to judge.

use replank_core::lint::Subject;
use serde::{Deserialize, Serialize};

/// Read by the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// In the order of the statement.
    pub seen: Vec<Seen>,
}

/// One thing that a rule has to say something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The rule's code; with `!` where nothing makes it safe.
    pub rule: String,
    /// As a sentence.
    pub what: String,
}

impl Facts {
    /// Those of a draft of this driver; none of another's.
    pub fn of(subject: &Subject<'_>) -> Self {
        Self::deserialize(&subject.draft.driver_facts).unwrap_or_default()
    }

    /// As they travel in a draft.
    pub fn written(seen: Vec<Seen>) -> serde_json::Value {
        serde_json::to_value(Self { seen }).unwrap_or_default()
    }

    /// What is said in such a form, and this as well.
    pub fn and(written: &serde_json::Value, more: Vec<Seen>) -> serde_json::Value {
        if more.is_empty() {
            return written.clone();
        }
        let mut facts = Self::deserialize(written).unwrap_or_default();
        facts.seen.extend(more);
        Self::written(facts.seen)
    }

    /// The same of one thing.
    pub fn one(rule: &str, what: String) -> serde_json::Value {
        Self::written(vec![Seen { rule: rule.to_owned(), what }])
    }
}
