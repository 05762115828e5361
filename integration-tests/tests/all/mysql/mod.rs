//! MySQL: the table as an application uses it, its writers, and what must hold on a real server.

mod abuse;
mod conformance;
mod kills;
mod oracle;
mod server_kills;
mod table;
mod writer;

pub use table::Table;
pub use writer::Application;
