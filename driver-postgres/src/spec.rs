//! The driver's own part of a plan for a shadow rebuild: all that is needed to carry it out, and nothing that another
//! day's catalogue would say differently.

use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::partitions::Partition;
use crate::sql::ident;

/// What a rebuild does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The table's schema.
    pub schema: String,
    /// The number by which the server knows the original table.
    pub original: i64,
    /// What stands behind the name in the CREATE TABLE of another shape; without it the new table begins as an empty copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// What is done to the empty copy, in order: the parts of the statement.
    pub actions: Vec<String>,
    /// The table as it was when the plan was made.
    pub old: Side,
    /// The table as it will be.
    pub new: Side,
    /// How rows of the old shape become rows of the new one.
    pub forward: Flow,
    /// The way back, if there is one.
    pub backward: Option<Flow>,
    /// How the way forward learns of what is written.
    #[serde(default)]
    pub capture: CaptureBy,
}

/// How it is known what applications write while rows are copied. On the way back always by triggers: nobody reads a slot
/// for as long as nobody decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureBy {
    /// Triggers fill the log.
    #[default]
    Trigger,
    /// A logical slot keeps what is written, and the runner fills the log from it.
    Slot,
}

impl CaptureBy {
    /// The words of `-D capture=…`; the first is meant where nothing is said.
    pub const WORDS: [&str; 2] = ["trigger", "slot"];

    /// That of a word.
    pub fn of(word: &str) -> Self {
        match word {
            "slot" => Self::Slot,
            _ => Self::Trigger,
        }
    }
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What it is.
    pub definition: Definition,
    /// The index through which its rows are found: it is built after the copy, before anything is applied.
    pub key_index: String,
    /// Its unique indexes.
    pub unique: Vec<Unique>,
    /// Columns whose NOT NULL is a constraint with a name, and the name: from PostgreSQL 18 on.
    pub not_nulls: Vec<(String, String)>,
    /// Its partitions, each behind the one that it is a part of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
}

impl Side {
    /// Its rows are in partitions.
    pub fn is_partitioned(&self) -> bool {
        self.definition.is_partitioned()
    }

    /// A table of this name, quoted, as rows are read from it. Without ONLY a table that somebody made inherit from it would
    /// be read as well.
    pub fn rows_of(&self, table: &str) -> String {
        if self.is_partitioned() { table.to_owned() } else { format!("ONLY {table}") }
    }

    /// The index through which rows are found has no more columns than these, and tells apart fewer.
    pub fn tells_apart_fewer(&self, key: &[KeyColumn]) -> bool {
        let index = self.unique.iter().find(|unique| unique.name == self.key_index);
        index.is_some_and(|index| index.parts.len() < key.len())
    }
}

/// A unique index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// Its name.
    pub name: String,
    /// Its columns and expressions, over the table's columns.
    pub parts: Vec<String>,
    /// Which rows are in it.
    pub condition: Option<String>,
    /// NULL is a value like others.
    pub nulls_equal: bool,
}

/// How rows get from the table that applications write into the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The columns that tell rows apart, the same values on both sides.
    pub key: Vec<KeyColumn>,
    /// Columns that are written.
    pub columns: Vec<Mapped>,
    /// Columns of the written table that nothing is known about: they keep what they hold.
    pub kept: Vec<String>,
}

/// A column of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name where applications write.
    pub source: String,
    /// Its name in the other table.
    pub written: String,
    /// The type of the column that applications write, as it is typed.
    pub kind: String,
    /// Equal values have one text.
    pub is_exact: bool,
}

/// A column that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Its name.
    pub column: String,
    /// Its type, as it is typed.
    pub kind: String,
    /// The same without a length or precision: a cast to it cuts nothing off.
    pub base: String,
    /// Its value, over the source's columns, not qualified.
    pub expression: String,
    /// On the way back: what the written table holds may stay, if going forward it becomes just what the source holds
    /// now. `'007'` became 7, and is `'007'` again unless somebody changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
}

/// How a value went forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The column that it went into: one of the source of the way back.
    pub source: String,
    /// That column's type.
    pub kind: String,
    /// The expression, over the columns of the table that is written on the way back.
    pub expression: String,
}

impl Spec {
    /// Reads what [`Spec::write`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for another driver's, or another version's.
    pub fn read(json: &serde_json::Value) -> Result<Self> {
        Self::deserialize(json).map_err(|error| {
            Error::new(ErrorKind::Internal, "the run's plan cannot be read")
                .hint("was it made by another version of replank?")
                .caused_by(error)
        })
    }

    /// The spec as JSON.
    pub fn write(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "a plan cannot be written as JSON").caused_by(error)
        })
    }

    /// The way rows flow in a direction.
    pub fn flow(&self, direction: Direction) -> Result<&Flow> {
        match direction {
            Direction::Forward => Ok(&self.forward),
            Direction::Reverse => self.backward.as_ref().ok_or_else(|| {
                Error::new(ErrorKind::Refused, "this change has no way back").hint("its plan says why")
            }),
        }
    }

    /// The shape of the table that is written in a direction.
    pub fn written(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Forward => &self.new,
            Direction::Reverse => &self.old,
        }
    }

    /// A crash of the server empties one of both tables, and not the other.
    pub fn changes_lasting(&self) -> bool {
        self.old.definition.is_unlogged() != self.new.definition.is_unlogged()
    }

    /// The shape of the table that applications write in a direction.
    pub fn source(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Forward => &self.old,
            Direction::Reverse => &self.new,
        }
    }
}

impl Flow {
    /// What is selected of the source for the columns that are written: each under its name there, as its type.
    pub fn written(&self) -> Vec<String> {
        self.written_as(|_, column| format!("({})", column.expression))
    }

    /// The same, of values that are had otherwise.
    pub fn written_as(&self, value: impl Fn(usize, &Mapped) -> String) -> Vec<String> {
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(at, column)| {
                format!("{}::{} AS {}", value(at, column), column.kind, ident(&column.column))
            })
            .collect()
    }

    /// Rows of the written table know something that the source does not.
    pub fn keeps_something(&self) -> bool {
        !self.kept.is_empty() || self.columns.iter().any(|column| column.original.is_some())
    }
}

/// The other direction.
pub fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Forward => Direction::Reverse,
        Direction::Reverse => Direction::Forward,
    }
}
