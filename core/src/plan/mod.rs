//! From a draft, which a driver made against the live target, to a plan or a refusal.

mod choose;
mod draft;
mod render;

pub use choose::{Choice, PlanOptions, choose};
pub use draft::{
    Candidate, Collision, Draft, Evidence, LockNote, NullColumn, Step, Strategy, UNDO_KEEPING,
    UNDO_REBUILDING, Unfit, tell_without_rebuild, undo_dropping,
};
pub use render::text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::driver::facts::{ServerFacts, TableFacts};
use crate::lint::Finding;

/// What will be done, and how it is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The statement as the person typed it.
    pub statement: String,
    /// What changes, one line each.
    pub changes: Vec<String>,
    /// Where.
    pub server: ServerFacts,
    /// On which table.
    pub table: TableFacts,
    /// How.
    pub strategy: Strategy,
    /// Why this strategy.
    pub reason: String,
    /// Cheaper strategies that were not taken, with the reason.
    pub rejected: Vec<(Strategy, String)>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Every exclusive lock.
    pub locks: Vec<LockNote>,
    /// Room that is needed meanwhile.
    pub disk_bytes: Option<u64>,
    /// How it is undone, and until when.
    pub undo: String,
    /// What the rules say about it.
    pub findings: Vec<Finding>,
    /// The driver's own part.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub spec: serde_json::Value,
    /// Identifies the change for a resume: blake3 over statement, table, strategy and spec.
    pub hash: String,
}

impl Plan {
    /// Whether rows are copied by the engine.
    #[must_use]
    pub fn is_rebuild(&self) -> bool {
        self.strategy == Strategy::Shadow
    }
}
