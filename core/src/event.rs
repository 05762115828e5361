//! What a command says while it works: one JSON object a line with `--json`, text otherwise.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ident::RunId;
use crate::lint::Finding;
use crate::plan::Plan;
use crate::run::RunState;

/// The version of the shape, in every line.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The version of the shape.
    pub v: u32,
    /// When.
    #[schemars(with = "String")]
    pub ts: Timestamp,
    /// The run, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// The plan.
    Plan {
        /// All of it.
        plan: Box<Plan>,
    },
    /// A run entered a state.
    Phase {
        /// The state.
        state: RunState,
        /// What it means, in a few words.
        message: String,
    },
    /// How far it is.
    Progress(Progress),
    /// The copy waits, or goes on again.
    Throttle {
        /// Why it waits; absent when it goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A person must decide.
    Gate {
        /// What it waits for.
        message: String,
        /// What to type.
        hint: String,
    },
    /// Something to know that does not stop the run.
    Warning {
        /// What.
        message: String,
    },
    /// A point of the protocol was reached.
    Boundary {
        /// Its name, as in `docs/boundaries.md`.
        name: String,
    },
    /// A rule has something to say.
    Finding(Finding),
    /// A run, for `history` and `status`.
    Run(RunLine),
    /// A kind of database, for `drivers`.
    Driver(DriverLine),
    /// A rule, for `explain`.
    Rule(RuleLine),
    /// The last line.
    Result {
        /// The state of the run, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<RunState>,
        /// The exit code.
        exit: u8,
        /// What came out.
        message: String,
        /// What to type next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The state that it is in.
    pub state: RunState,
    /// Rows copied, or compared while verifying.
    pub rows_done: u64,
    /// Rows in all, as far as is known.
    pub rows_total: u64,
    /// Rows a second, lately.
    pub rows_per_second: u64,
    /// How old the newest applied change is.
    pub lag_ms: u64,
    /// Changes that are known and not yet applied.
    pub backlog: u64,
    /// Seconds to the end of the phase, when that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
    /// Why the copy waits, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<String>,
    /// The part of the time that the copy takes for the sake of those who write, in percent, where it is less than all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_percent: Option<u32>,
}

/// A run in a list; which one is said by [`Event::run`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunLine {
    /// The file that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    /// Where it stands.
    pub state: RunState,
    /// What was said of the state: why it failed, or is not revertible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The table.
    pub table: String,
    /// The statement.
    pub statement: String,
    /// When it was accepted.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ended: Option<Timestamp>,
    /// Who works on it now; absent when nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerLine>,
    /// Whether `revert` would be taken up, for a run that has swapped. `note` says why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revertible: Option<bool>,
}

/// Who works on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunnerLine {
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Milliseconds until its lease ends, unless it is renewed.
    pub lease_ms: u64,
}

/// A kind of database in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverLine {
    /// Its name.
    pub name: String,
    /// URL schemes that mean it.
    pub schemes: Vec<String>,
    /// What it can do.
    pub summary: String,
}

/// A rule in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleLine {
    /// Its code.
    pub code: String,
    /// Its name.
    pub slug: String,
    /// The severity that it starts with.
    pub severity: crate::lint::Severity,
    /// Its page, in Markdown; absent in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

/// Takes what a run says. Called from the engine's loop: must not block.
pub trait Reporter: Send + Sync {
    /// One thing said.
    fn report(&self, run: Option<&RunId>, body: Body);
}

/// Says nothing to anybody.
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _run: Option<&RunId>, _body: Body) {}
}
