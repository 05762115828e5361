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
    /// Indexes that are built anew while others write.
    IndexesRenewed {
        /// Those that are to be replaced.
        old: Vec<i64>,
    },
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
    /// The index that it is about, as it is typed.
    #[serde(default)]
    pub index: String,
    /// What that index is, apart from its name: another one of that name is not ours.
    #[serde(default)]
    pub shape: String,
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
        index,
        shape: String::new(),
    };
    Step {
        title,
        statement,
        inverse,
        inverse_discards: Vec::new(),
        finalize: String::new(),
        spec: serde_json::to_value(notes).unwrap_or_default(),
    }
}

/// The same step, with other tables that it locks.
pub fn locking(mut step: Step, others: Vec<i64>) -> Step {
    if let Some(notes) = step.spec.as_object_mut() {
        notes.insert("others".to_owned(), others.into());
    }
    step
}

/// The same step, about an index of such a shape.
pub fn shaped(mut step: Step, shape: String) -> Step {
    if let Some(notes) = step.spec.as_object_mut() {
        notes.insert("shape".to_owned(), shape.into());
    }
    step
}
