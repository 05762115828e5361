//! PostgreSQL: what the server changes while others write, step by step.

mod alter;
mod application;
mod carried;
mod catalogue;
mod cells;
mod conformance;
mod index;
mod oracle;
mod rebuild_kills;
mod reshape;
mod subscriber;

mod table;

pub use table::Table;
