//! Steps, and what the driver notes in them so that each can be run, probed and taken back.

use replank_core::ident::RunId;
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// What a step's statement is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is part of a transaction, which also records that it was done: what is recorded is done, and nothing else.
    Recorded,
    /// The same, and it may take long: it looks at every row while others write.
    RecordedLong,
    /// An index that is built while others write. No transaction can hold it; the catalogue tells.
    IndexMade,
    /// An index that is dropped while others write.
    IndexDropped,
    /// The same of one that was not valid when the plan was made: it is not built again.
    RemainderDropped,
    /// A look whether the index of a partitioned table counts: it does once each partition has its own.
    IndexWhole,
    /// A partition that is detached while others write: in two transactions, and the catalogue tells of which is done.
    Detached {
        /// Of which table.
        parent: i64,
        /// The partition, as the statements name it.
        name: String,
        /// What does the second transaction's part after it was interrupted.
        rest: String,
    },
    /// A table that the server writes anew while others write: no transaction can hold it; the number of its file tells.
    Repacked {
        /// The file that is to be replaced.
        file: i64,
        /// The table, as the statement names it.
        name: String,
    },
    /// Indexes that are built anew while others write.
    IndexesRenewed {
        /// Those that are to be replaced.
        old: Vec<i64>,
    },
}

impl Kind {
    /// It waits for every snapshot that is older.
    pub fn waits_for_snapshots(&self) -> bool {
        match self {
            // A repack waits for who has written, which the plan cannot foresee, and not for snapshots.
            Self::Recorded | Self::RecordedLong | Self::IndexWhole | Self::Repacked { .. } => false,
            Self::IndexMade
            | Self::IndexDropped
            | Self::RemainderDropped
            | Self::Detached { .. }
            | Self::IndexesRenewed { .. } => true,
        }
    }
}

/// The driver's notes in [`Step::spec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Stands in each statement of the step as a comment, and in the record of those that were done.
    pub mark: String,
    /// The table.
    pub table: i64,
    /// The statement of the way there: what [`Step::statement`] is compared with.
    pub forward: String,
    /// What it is.
    pub kind: Kind,
    /// Other tables that it locks.
    #[serde(default)]
    pub others: Vec<i64>,
    /// Other tables that its inverse locks.
    #[serde(default)]
    pub others_back: Vec<i64>,
    /// The `search_path` that its statements were written for.
    #[serde(default = "own_path")]
    pub path: String,
    /// The index that it is about, as it is typed.
    #[serde(default)]
    pub index: String,
    /// What that index is, apart from its name: another one of that name is not ours.
    #[serde(default)]
    pub shape: String,
}

/// That of the login.
fn own_path() -> String {
    "DEFAULT".to_owned()
}

impl Notes {
    /// Those of a step.
    pub fn of(step: &Step) -> Result<Self> {
        Self::deserialize(&step.spec).map_err(|error| {
            Error::new(ErrorKind::Internal, "a step's notes cannot be read")
                .with("step", &step.title)
                .caused_by(error)
        })
    }

    /// Whether the step as it is given goes there, or back.
    pub fn is_forward(&self, step: &Step) -> bool {
        step.statement == self.forward
    }
}

/// A step.
pub fn step(
    title: String,
    table: i64,
    statement: String,
    inverse: String,
    kind: Kind,
    index: String,
) -> Step {
    let mark = RunId::random().as_str().to_owned();
    let notes = Notes {
        mark,
        table,
        forward: statement.clone(),
        kind,
        others: Vec::new(),
        others_back: Vec::new(),
        path: own_path(),
        index,
        shape: String::new(),
    };
    Step {
        title,
        statement,
        inverse,
        inverse_discards: Vec::new(),
        inverse_rebuilds: String::new(),
        finalize: String::new(),
        spec: serde_json::to_value(notes).unwrap_or_default(),
    }
}

/// The same step, with other tables that it locks.
pub fn locking(step: Step, others: &[i64]) -> Step {
    noted(step, |notes| notes.others.extend(others))
}

/// The same step, with other tables that its inverse locks.
pub fn locking_back(step: Step, others: &[i64]) -> Step {
    noted(step, |notes| notes.others_back.extend(others))
}

/// The same step, with what its names are looked up in.
pub fn along(step: Step, path: &str) -> Step {
    noted(step, |notes| path.clone_into(&mut notes.path))
}

/// The same step, about an index of such a shape.
pub fn shaped(step: Step, shape: String) -> Step {
    noted(step, |notes| notes.shape = shape)
}

/// The same step, whose inverse drops this index of this table, and none that is another.
pub fn noted_index(step: Step, table: i64, index: &str, shape: &str) -> Step {
    noted(step, |notes| {
        notes.table = table;
        notes.index = index.to_owned();
        notes.shape = shape.to_owned();
    })
}

fn noted(mut step: Step, note: impl FnOnce(&mut Notes)) -> Step {
    if let Ok(mut notes) = Notes::of(&step) {
        note(&mut notes);
        step.spec = serde_json::to_value(notes).unwrap_or_default();
    }
    step
}

/// A step within a transaction.
pub fn recorded(title: String, table: i64, statement: String, inverse: String) -> Step {
    step(title, table, statement, inverse, Kind::Recorded, String::new())
}

/// The same of one that may take long, beside those who write.
pub fn long(title: String, table: i64, statement: String, inverse: String) -> Step {
    step(title, table, statement, inverse, Kind::RecordedLong, String::new())
}

/// What stands in the place of a statement, or of an inverse, where there is nothing to do.
pub const NOTHING: &str = "-- there is nothing to do";
