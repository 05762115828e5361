//! The driver's own part of a plan for a shadow rebuild: all that is needed to carry it out, and nothing
//! that another day's catalogue would say differently.

use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::inspect::{Named, Unique};

/// What a rebuild does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The table as it was when the plan was made.
    pub old: Side,
    /// The table as it will be.
    pub new: Side,
    /// How rows of the old shape become rows of the new one.
    pub forward: Flow,
    /// The way back, if there is one.
    pub backward: Option<Flow>,
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The statement that makes it, under the name that applications use.
    pub sql: String,
    /// Its explicit indexes.
    pub indexes: Vec<Named>,
    /// Its triggers, in the order in which they were made.
    pub triggers: Vec<Named>,
    /// Its unique keys.
    pub unique: Vec<Unique>,
    /// Its columns, one line each, as the catalogue describes them.
    pub columns: Vec<String>,
    /// The ids of new rows never repeat those of deleted ones.
    pub autoincrement: bool,
}

/// How rows get from the table that applications write into the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The columns that tell rows apart, the same values on both sides.
    pub key: Vec<KeyColumn>,
    /// The written table has no index that finds rows by the key.
    pub needs_key_index: bool,
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
}

/// A column that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Its name.
    pub column: String,
    /// Its value, over the source's columns, not qualified.
    pub expression: String,
    /// The column stores a value as it comes, so that 1 and 1.0 differ there.
    pub is_verbatim: bool,
    /// On the way back: what the written table holds may stay, if the forward expression makes of it just
    /// what the source holds now. `'007'` became 7, and is `'007'` again unless somebody changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
}

/// How a value went forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The column that it went into: one of the source of the way back.
    pub source: String,
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
}

/// The other direction.
pub fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Forward => Direction::Reverse,
        Direction::Reverse => Direction::Forward,
    }
}

impl Flow {
    /// The key's columns where applications write.
    pub fn source_key(&self) -> Vec<&str> {
        self.key.iter().map(|column| column.source.as_str()).collect()
    }

    /// The key's columns in the other table.
    pub fn written_key(&self) -> Vec<&str> {
        self.key.iter().map(|column| column.written.as_str()).collect()
    }

    /// Whether rows can be written without looking at what the written table held.
    pub fn is_plain(&self) -> bool {
        self.kept.is_empty() && self.columns.iter().all(|column| column.original.is_none())
    }
}
