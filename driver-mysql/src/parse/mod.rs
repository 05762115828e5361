//! Statements, as far as they have to be understood: which table, and which clauses. What a clause means the
//! server says itself, of an empty copy of the table.

mod statement;
mod token;

pub use statement::{Action, Clause, altering, parse, parse_shape};
pub use token::{Kind, Token, tokens};
