//! MySQL: the table as an application uses it, its writers, and what must hold on a real server.

mod abuse;
mod conformance;
mod cuts;
mod following;
mod kills;
mod mariadb;
mod oracle;
mod rebuild;
mod rules;
mod server_kills;
mod settings;
mod shapes;
mod table;
mod trouble;
mod writer;

pub use table::Table;
pub use writer::Application;
