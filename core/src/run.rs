//! A run: one statement on its way through the engine, as the journal keeps it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ident::{Fence, RunId, TableId};
use crate::plan::Plan;
use crate::throttle::Limits;
use crate::value::{Key, Lane, Position};

/// Where a run stands. The names are part of the command line's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Accepted, nothing created yet.
    Planned,
    /// Chunks are being copied.
    Copying,
    /// Deferred indexes are being built.
    BuildingIndexes,
    /// The feed is being brought up to date.
    CatchingUp,
    /// Both tables are being compared.
    Verifying,
    /// Ready; waiting for the gate, for lock holders, or for the lag.
    WaitingCutover,
    /// A swap may have been sent. Who owns the name is asked of the catalogue.
    CuttingOver,
    /// The additive half is done (expand-contract).
    Expanded,
    /// Swapped; the retired table keeps receiving every write.
    Reversible,
    /// Swapped, and made final.
    Finalized,
    /// Swapped back, or undone.
    Reverted,
    /// Given up before the swap; nothing is left but the records.
    Aborted,
    /// Stopped by an error; the record says which. Can be resumed or aborted.
    Failed,
    /// Stopped by a person; the feed was kept applied while the runner lived.
    Paused,
}

impl RunState {
    /// Nothing will ever happen to this run again.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finalized | Self::Reverted | Self::Aborted)
    }

    /// The run has swapped its table and can still be taken back.
    #[must_use]
    pub fn is_reversible(self) -> bool {
        matches!(self, Self::Reversible | Self::Expanded)
    }

    /// The word in output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Copying => "copying",
            Self::BuildingIndexes => "building_indexes",
            Self::CatchingUp => "catching_up",
            Self::Verifying => "verifying",
            Self::WaitingCutover => "waiting_cutover",
            Self::CuttingOver => "cutting_over",
            Self::Expanded => "expanded",
            Self::Reversible => "reversible",
            Self::Finalized => "finalized",
            Self::Reverted => "reverted",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Paused => "paused",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which way rows flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the live table into the shadow.
    Forward,
    /// From the live table, which was the shadow, back into the retired one.
    Reverse,
}

/// When the swap may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutoverGate {
    /// As soon as it is safe.
    Auto,
    /// When a person says so.
    Manual,
    /// Not before this moment, unless a person says so earlier.
    At(#[schemars(with = "String")] Timestamp),
}

/// What the person asked for besides the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOptions {
    /// The gate before the swap.
    pub cutover: CutoverGate,
    /// Whether the old table is kept after the swap until `finalize`.
    pub revertible: bool,
    /// The longest that one attempt may wait for, or hold, an exclusive lock.
    pub lock_budget_ms: u64,
    /// The longest that one attempt may refuse writes, where a swap refuses them instead of letting them wait.
    #[serde(default = "fence_budget_ms")]
    pub fence_budget_ms: u64,
    /// Live limits: also what `throttle` changes.
    pub limits: Limits,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cutover: CutoverGate::Auto,
            revertible: true,
            // Writers notice a stall of a quarter of a second; a swap needs tens of milliseconds.
            lock_budget_ms: 200,
            fence_budget_ms: fence_budget_ms(),
            limits: Limits::default(),
        }
    }
}

/// An application that tries a refused write again within a second does not notice half of one.
fn fence_budget_ms() -> u64 {
    500
}

/// How far a run has come. Saved behind the data (R4): it may claim less than is done, never more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The written table and its capture exist.
    pub prepared: bool,
    /// Every change at or before this position is applied, and, once rows are being verified,
    /// compared. `None` until the feed was opened; from then on the feed starts here.
    pub position: Option<Position>,
    /// How far the copy is.
    pub copied: Progress,
    /// How far the comparison is.
    pub verified: Progress,
    /// Rows that verify had to apply again, in all passes. Never expected: each is a bug to report.
    pub repaired: u64,
    /// The same in this pass. A pass with repairs is not a clean pass.
    pub pass_repaired: u64,
    /// Full comparisons begun. The second that needs a repair fails the run.
    pub passes: u32,
    /// On the way back: rows whose value the old shape cannot hold, with the reason. `revert` is refused
    /// while there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conflicts: BTreeMap<Key, Conflict>,
}

/// A row whose value the old shape cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// What the server said.
    pub reason: String,
    /// Where the row queues when it is tried again.
    pub lane: Lane,
}

/// A sweep over the table in key order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Every chunk up to and including this key is done.
    pub watermark: Option<Key>,
    /// Every chunk is done.
    pub done: bool,
    /// Rows seen in finished chunks.
    pub rows: u64,
}

/// How far a step is that writes rows by ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Its statement: forwards and back are two.
    pub statement: String,
    /// Everything up to the watermark is written.
    pub progress: Progress,
}

/// Where a run comes from, if not from a statement alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The name of the person's file.
    pub migration: Option<String>,
    /// The run that it takes back.
    pub takes_back: Option<RunId>,
}

/// How a run's record is written. A newer one may say what this replank would pass over, so it is not read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Format;

impl Format {
    /// Grows with every change of the record that an older replank must not pass over.
    const PRESENT: u32 = 1;
}

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        Format::PRESENT
    }
}

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(format: u32) -> Result<Self, Self::Error> {
        match format {
            Self::PRESENT => Ok(Self),
            other => Err(format!("it has format {other}, and this replank reads format {}", Self::PRESENT)),
        }
    }
}

/// Everything that is kept about a run, in the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Records from before there was a format have the first.
    #[serde(default)]
    pub format: Format,
    /// Its name.
    pub id: RunId,
    /// The table that it changes.
    pub table: TableId,
    /// What the person typed.
    pub statement: String,
    /// What will be done, fixed at the start.
    pub plan: Plan,
    /// What was asked for besides.
    pub options: RunOptions,
    /// Where it stands.
    pub state: RunState,
    /// Where to go on from `paused` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_state: Option<RunState>,
    /// Which way rows flow now.
    pub direction: Direction,
    /// The token under which the helper objects are named.
    pub fence: Fence,
    /// How far it has come in this direction.
    pub checkpoint: Checkpoint,
    /// Steps that the server does itself, already done.
    #[serde(default)]
    pub steps_done: usize,
    /// How far the step is that [writes rows by ranges](crate::driver::ByRanges), while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// Where the reverse feed of the swap that may have been sent starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_position: Option<Position>,
    /// The swap back took place; what is left is to remove the other table. Saved before the first removal,
    /// since the catalogue cannot tell any more afterwards.
    #[serde(default)]
    pub is_swapped_back: bool,
    /// `apply --cutover manual` was told to go.
    #[serde(default)]
    pub cutover_requested: bool,
    /// The run that this one takes back, and keeps what was written since: it is over once this one has swapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<RunId>,
    /// The name of the person's file, for runs that came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    /// Why it failed, or is not revertible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was accepted.
    pub started: Timestamp,
    /// When it reached a final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Run {
    /// C032: why another change of the table waits for this one, with what to type. `None` once it was applied,
    /// or has ended.
    #[must_use]
    pub fn unfinished(&self) -> Option<String> {
        if self.state.is_final() || self.state.is_reversible() {
            return None;
        }
        let advice = match self.state {
            RunState::Failed | RunState::Paused => {
                format!("`replank resume {0}` or `replank abort {0}`", self.id)
            }
            _ => format!("wait for it, or `replank abort {}`", self.id),
        };
        Some(format!("run {} on `{}` is {}: {advice}", self.id, self.table.name, self.state))
    }

    /// C032: why another rebuild of the table waits for this one, which was applied and can be taken back.
    #[must_use]
    pub fn keeps_retired_table(&self) -> Option<String> {
        (self.state.is_reversible() && self.plan.is_rebuild()).then(|| {
            format!(
                "run {0} still keeps a retired table of `{1}`: `replank finalize {0}` or `replank revert {0}` first",
                self.id, self.table.name
            )
        })
    }

    /// Where it stands beneath a pause or a failure: where it goes on from.
    #[must_use]
    pub fn stands(&self) -> RunState {
        match self.state {
            RunState::Failed | RunState::Paused => self.resume_state.unwrap_or(self.state),
            state => state,
        }
    }
}
