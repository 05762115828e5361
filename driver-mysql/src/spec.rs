//! The driver's own part of a plan for a shadow rebuild: all that is needed to carry it out, and nothing
//! that another day's catalogue would say differently.

use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::rebuild::identity::FileName;
use crate::sql::ident;

/// What a rebuild does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The database of the table, as the server spells it.
    pub schema: String,
    /// The live table's name as InnoDB spells it.
    pub file: FileName,
    /// The table as it was when the plan was made.
    pub old: Side,
    /// The table as it will be.
    pub new: Side,
    /// How rows of the old shape become rows of the new one.
    pub forward: Flow,
    /// The way back, if there is one.
    pub backward: Option<Flow>,
    /// Where the statement sets the counter of AUTO_INCREMENT itself: to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// Where the two tables are while they are not live; in the table's own database if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homes: Option<Homes>,
}

/// Databases for tables that are not live. Names of constraints are unique in a database, and the two shapes
/// have one in common: so both tables are never in one, and no table comes to where the other was a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Homes {
    /// Of the new shape.
    pub shadow: String,
    /// Of the old shape.
    pub retired: String,
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What `SHOW CREATE TABLE` says, under the name that applications use, without the counter of
    /// AUTO_INCREMENT: the shadow is made from it, and foreign DDL is noticed by it.
    pub sql: String,
    /// Its columns in order, generated and invisible ones too, one line each as the catalogue has them.
    pub columns: Vec<String>,
    /// Its keys and indexes, without the primary key.
    pub indexes: Vec<Index>,
    /// Its unique keys, the primary key too.
    pub unique: Vec<Unique>,
    /// It has a column with AUTO_INCREMENT: the counter must not go back.
    pub auto_increment: Option<String>,
}

/// An index of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its line of the definition, such as ``UNIQUE KEY `u` (`a`)``: what follows ADD in an ALTER TABLE.
    pub clause: String,
    /// It is unique.
    pub is_unique: bool,
    /// It is left out of the empty shadow and built after the copy, in bulk.
    pub is_deferred: bool,
}

/// A unique key, as an expression list that tells rows apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// Its name; `PRIMARY` for the primary key.
    pub name: String,
    /// Its parts over the columns of its own table, not qualified: a quoted column, ``LEFT(`c`, 10)`` for a
    /// prefix, or the expression of a functional part.
    pub parts: Vec<String>,
}

/// How rows get from the table that applications write into the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The columns that tell rows apart, the same values on both sides.
    pub key: Vec<KeyColumn>,
    /// How many of them, from the first, tell the source's rows apart and order them; all if `None`. The others
    /// are needed on the other side only: `id` here, and `id` with a date there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_by: Option<usize>,
    /// Columns that are written; never generated ones.
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
    /// Its place among the columns of the source's row, from 0, generated and invisible ones counted:
    /// where it stands in a row event.
    pub ordinal: usize,
    /// How its values travel.
    pub kind: KeyKind,
}

/// How the values of a key column are read, written and queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum KeyKind {
    /// TINYINT to BIGINT.
    Integer {
        /// The row event does not say.
        unsigned: bool,
    },
    /// DECIMAL.
    Decimal,
    /// CHAR, VARCHAR, TEXT: bytes in the column's character set, ordered and equated by its collation.
    Text {
        /// The column's character set.
        charset: String,
    },
    /// BINARY, VARBINARY, BLOB. BINARY has a length, up to which the log drops trailing zeros.
    Binary {
        /// Of BINARY only.
        length: Option<usize>,
    },
    /// DATE.
    Date,
    /// DATETIME with its digits of a second.
    DateTime {
        /// 0 to 6.
        digits: u8,
    },
    /// TIMESTAMP, always in UTC here.
    Timestamp {
        /// 0 to 6.
        digits: u8,
    },
    /// TIME.
    Time {
        /// 0 to 6.
        digits: u8,
    },
    /// YEAR.
    Year,
}

/// A column that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Its name.
    pub column: String,
    /// Its value, over the source's columns, not qualified. A quoted column where the server converts.
    pub expression: String,
    /// What the written table must hold, in a form that tells apart all that the column can tell apart: over
    /// the source's columns, not qualified.
    pub expected: String,
    /// What it holds, in the same form: over its own columns.
    pub stored: String,
    /// On the way back: what the written table holds may stay, if going forward it becomes just what the
    /// source holds now. `'007'` became 7, and is `'007'` again unless somebody changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
}

/// How a value went forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// What it became, in a comparable form: over the columns of the table that is written on the way back.
    pub expected: String,
    /// What the source of the way back holds, in the same form: over its columns.
    pub stored: String,
}

impl Side {
    /// It has, while rows are copied, a unique key under which two rows may meet that the flow's key tells apart.
    pub fn is_crowded(&self, key: &[KeyColumn]) -> bool {
        let names: Vec<String> = key.iter().map(|column| ident(&column.written)).collect();
        let is_other = |unique: &&Unique| {
            names.len() != unique.parts.len() || names.iter().any(|name| !unique.parts.contains(name))
        };
        let is_there = |unique: &Unique| {
            !self.indexes.iter().any(|index| index.name == unique.name && index.is_deferred)
        };
        self.unique.iter().filter(is_other).any(is_there)
    }
}

impl Flow {
    /// The columns by which the source has its rows in order, through an index.
    pub fn order(&self) -> &[KeyColumn] {
        &self.key[..self.ordered_by.unwrap_or(self.key.len())]
    }

    /// Rows of the written table know something that the source does not: they are updated and not replaced.
    pub fn keeps_something(&self) -> bool {
        !self.kept.is_empty() || self.columns.iter().any(|column| column.original.is_some())
    }
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

    /// The shape of the table that applications write in a direction.
    pub fn source(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Forward => &self.old,
            Direction::Reverse => &self.new,
        }
    }
}
