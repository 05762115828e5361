//! What a driver found out about a statement on a live target.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::driver::facts::{ServerFacts, TableFacts};

/// A way to carry out a change. Ordered from the cheapest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Metadata only.
    Instant,
    /// The server's own online way, driven and watched.
    NativeOnline,
    /// A new column kept in step with the old one.
    ColumnSwap,
    /// Copy, feed, verify, swap.
    Shadow,
}

impl Strategy {
    /// The word in output and directives.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::NativeOnline => "native-online",
            Self::ColumnSwap => "column-swap",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A lock that a plan takes on something that applications use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockNote {
    /// What is locked and what that keeps out, in the server's words.
    pub what: String,
    /// How long, as an estimate in milliseconds.
    pub hold_ms: u64,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What it does, for the reader.
    pub title: String,
    /// The statement that the server runs; empty for steps of the engine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub statement: String,
    /// The statement or command that takes it back.
    pub inverse: String,
    /// Values that the inverse drops, as `column …`: what was written since. `revert` does not run it for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inverse_discards: Vec<String>,
    /// Set where the inverse would write every row anew while nobody can write: what it gives back, as `the type of column …`. It is
    /// never run as it is; `revert` comes there by a rebuild. Such a step is the only one of its plan, so that nothing that
    /// fails after it would want it taken back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inverse_rebuilds: String,
    /// The statement that makes it final, where something was kept for the way back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub finalize: String,
    /// The driver's own notes for running and probing it.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub spec: serde_json::Value,
}

impl Step {
    /// A step that the engine takes by itself.
    #[must_use]
    pub fn of_engine(title: &str, inverse: &str) -> Self {
        Self {
            title: title.to_owned(),
            statement: String::new(),
            inverse: inverse.to_owned(),
            inverse_discards: Vec::new(),
            inverse_rebuilds: String::new(),
            finalize: String::new(),
            spec: serde_json::Value::Null,
        }
    }

    /// Whether it is taken back by a run of its own, which rebuilds the table.
    #[must_use]
    pub fn is_taken_back_by_rebuild(&self) -> bool {
        !self.inverse_discards.is_empty() || !self.inverse_rebuilds.is_empty()
    }
}

/// How a way is undone whose inverse would drop what was written since.
pub const UNDO_KEEPING: &str = "`revert` takes the column off by a rebuild, whose old table keeps what was written there \
     since until it is made final; `revert --no-revert` drops that at once";

/// How a way is undone that takes a moment, and whose inverse would take a lock for as long as every row is written.
pub const UNDO_REBUILDING: &str = "`revert` gives it its old shape by a rebuild, which names the rows that do not fit into \
     it by then";

/// The same where no rebuild can take the column off.
#[must_use]
pub fn undo_dropping(why: &str) -> String {
    format!(
        "only `revert --no-revert`, which drops what was written there since: no rebuild can take the column off ({why})"
    )
}

/// Says of ways that only a rebuild takes back how they are undone where the rebuild among them cannot be made.
pub fn tell_without_rebuild(candidates: &mut [Candidate]) {
    let shadow = candidates.iter().find(|candidate| candidate.strategy == Strategy::Shadow);
    let Some(why) = shadow.and_then(|shadow| shadow.impossible.clone()) else { return };
    for candidate in candidates {
        if candidate.steps.iter().any(|step| !step.inverse_discards.is_empty()) {
            candidate.undo = undo_dropping(&why);
        }
        if candidate.steps.iter().any(|step| !step.inverse_rebuilds.is_empty()) {
            candidate.no_way_back = Some(format!("it would be a rebuild, and none can be made: {why}"));
        }
    }
}

/// One possible way, with what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub strategy: Strategy,
    /// Set when it cannot be taken here, with the reason.
    pub impossible: Option<String>,
    /// Set when it is taken only if the person asks for it by name, with the reason.
    pub unasked: Option<String>,
    /// Why it would be taken.
    pub reason: String,
    /// What it does.
    pub steps: Vec<Step>,
    /// What it locks. A candidate whose longest hold is over the budget is not taken.
    pub locks: Vec<LockNote>,
    /// Data that is gone for good once it ran, as `table …` or `column …`. Such a candidate is only
    /// taken when the person gave up the way back.
    pub discards: Vec<String>,
    /// Set when it cannot be taken back although nothing is lost, with the reason. Likewise.
    pub no_way_back: Option<String>,
    /// Room that is needed meanwhile.
    pub disk_bytes: Option<u64>,
    /// How it is undone, if it can be.
    pub undo: String,
    /// The driver's own part.
    pub spec: serde_json::Value,
}

/// Rows that would collide under a unique key of the new shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collision {
    /// The key's columns or name.
    pub unique: String,
    /// Groups of colliding rows.
    pub groups: u64,
    /// The first few, as `value: keys`.
    pub samples: Vec<String>,
}

/// Rows that hold NULL in a column that becomes NOT NULL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NullColumn {
    /// The column.
    pub column: String,
    /// How many.
    pub rows: u64,
    /// The first few keys.
    pub samples: Vec<String>,
}

/// Rows whose value the new shape cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// The column or constraint.
    pub what: String,
    /// How many.
    pub rows: u64,
    /// The first few keys.
    pub samples: Vec<String>,
}

/// What was read from the live target for the rules to judge. Absent means "does not apply"; a fact that
/// applies and could not be read is listed in `unread`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// C010 and M207: collisions under new unique keys, counted under the new types and collations.
    pub collisions: Vec<Collision>,
    /// NULLs under a new NOT NULL.
    pub nulls: Vec<NullColumn>,
    /// Values that do not fit.
    pub unfit: Vec<Unfit>,
    /// C016: why the table has no usable key, when it has none and the change needs one.
    pub no_key: Option<String>,
    /// C022: names over the server's limit.
    pub long_names: Vec<String>,
    /// C032: runs that still work on the table, or keep a retired table of it, with what to type.
    pub busy: Vec<String>,
    /// C043: bytes free where the copy would go, when they can be read.
    pub disk_free: Option<u64>,
    /// C044: how the log's retention falls short, if it does.
    pub retention: Option<String>,
    /// C003 and C004: renames that would break a running application, as `("table a", "b")` or
    /// `("column a", "b")`.
    pub renames: Vec<(String, String)>,
    /// Facts that apply and could not be read, with the reason.
    pub unread: Vec<String>,
}

/// A statement, read against the live target.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The statement as typed.
    pub statement: String,
    /// What changes, one line each; empty when nothing would.
    pub changes: Vec<String>,
    /// The server.
    pub server: ServerFacts,
    /// The table.
    pub table: TableFacts,
    /// Possible ways, in any order.
    pub candidates: Vec<Candidate>,
    /// For the rules of core.
    pub evidence: Evidence,
    /// For the rules of the driver.
    pub driver_facts: serde_json::Value,
}
