//! A run as `history` and `status` show it.

use replank_core::event::{RunLine, RunnerLine};
use replank_core::run::Run;

use crate::live::Runner;

/// The line of a run that nobody was asked about.
pub fn plain(run: &Run) -> RunLine {
    RunLine {
        migration: run.migration.clone(),
        state: run.state,
        note: run.note.clone(),
        table: run.table.to_string(),
        statement: run.statement.clone(),
        started: run.started,
        ended: run.ended,
        runner: None,
        revertible: None,
    }
}

/// The line of a run, with who works on it and whether it can be taken back.
pub fn full(run: &Run, runner: Option<&Runner>, not_revertible: Option<Option<String>>) -> RunLine {
    let mut line = plain(run);
    line.runner = runner.map(|runner| RunnerLine {
        host: runner.holder.host.clone(),
        pid: runner.holder.pid,
        lease_ms: u64::try_from(runner.remaining.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(objection) = not_revertible {
        line.revertible = Some(objection.is_none());
        if let Some(reason) = objection {
            line.note = Some(format!("not revertible: {reason}"));
        }
    }
    line
}

#[cfg(test)]
pub mod example {
    //! A run for tests of this crate.

    use replank_core::driver::facts::{ServerFacts, TableFacts};
    use replank_core::ident::{Fence, RunId, TableId};
    use replank_core::plan::{Plan, Strategy};
    use replank_core::run::{Checkpoint, Direction, Run, RunOptions, RunState};

    /// A reversible run of a shadow rebuild.
    pub fn run(id: &str) -> Run {
        let table = TableId::new("orders");
        let plan = Plan {
            statement: "ALTER TABLE orders …".to_owned(),
            changes: vec!["amount: TEXT to INTEGER".to_owned()],
            server: ServerFacts { driver: "x".into(), product: "X".into(), version: "1".into() },
            table: TableFacts {
                id: table.clone(),
                rows: 1000,
                rows_exact: true,
                bytes: None,
                key: vec!["id".to_owned()],
                dependants: Vec::new(),
            },
            strategy: Strategy::Shadow,
            reason: "values are written differently".to_owned(),
            rejected: Vec::new(),
            steps: Vec::new(),
            locks: Vec::new(),
            disk_bytes: None,
            undo: "revert".to_owned(),
            findings: Vec::new(),
            spec: serde_json::Value::Null,
            hash: "h".to_owned(),
        };
        Run {
            id: RunId::parse(id).expect("valid"),
            table,
            statement: plan.statement.clone(),
            plan,
            options: RunOptions::default(),
            state: RunState::Reversible,
            resume_state: None,
            direction: Direction::Reverse,
            fence: Fence(1),
            checkpoint: Checkpoint::default(),
            steps_done: 0,
            ranges: None,
            reverse_position: None,
            format: Default::default(),
            is_swapped_back: false,
            cutover_requested: false,
            takes_back: None,
            migration: None,
            note: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }
}
