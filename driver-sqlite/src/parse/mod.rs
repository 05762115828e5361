//! Reading statements and definitions: SQLite's own, and the customary spelling of what it lacks.

mod clause;
mod column;
mod cursor;
mod index;
mod statement;
mod table;
mod token;

pub use clause::Clause;
pub use column::{Column, PartKind};
pub use cursor::Cursor;
pub use index::IndexText;
pub use statement::{Statement, parse};
pub use table::{Constraint, ConstraintKind, TableText, unqualified};
pub use token::{Kind, Token, tokens};
