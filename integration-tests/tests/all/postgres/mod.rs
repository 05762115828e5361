//! PostgreSQL: what the server changes while others write, step by step.

mod alter;
mod index;
mod store;
mod table;

pub use table::Table;
