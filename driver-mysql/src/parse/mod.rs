//! Statements, as far as they have to be understood: which table, and which clauses. What a clause means the
//! server says itself, of an empty copy of the table.

mod clause;
mod cursor;
mod statement;
mod token;

pub use clause::{Clause, altering};
pub use statement::{Action, parse, parse_shape};
pub use token::{Kind, Token, tokens};
