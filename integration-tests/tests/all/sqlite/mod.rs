//! SQLite as an application uses it: the table, its writers, and what it must hold.

mod table;
mod writer;

pub use table::Table;
pub use writer::Application;
