//! An application: writers on shared and own keys, and a journal of what they were told.
//!
//! Every transaction writes, besides its rows, what each row is afterwards into an `audit` table that
//! replank does not touch. A row's audit records are written while its lock is held, so their order is the
//! order of its changes. So the last record of each key is what the table must hold, and the journal on the
//! client's side says which transactions must be in the audit table: those that were acknowledged.

mod journal;
mod plan;
mod writers;

pub use journal::{Journal, Outcome, Summary};
pub use plan::{Operation, Transaction, draw};
pub use writers::{Client, Writers};
