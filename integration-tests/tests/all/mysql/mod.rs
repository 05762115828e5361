//! MySQL: the table as an application uses it, its writers, and what must hold on a real server.

mod abuse;
mod conformance;
mod cuts;
mod following;
mod kills;
mod known_failures;
mod mariadb;
mod oracle;
mod privileges;
mod rebuild;
mod replicas;
mod round_trips;
mod rules;
mod server_kills;
mod settings;
mod shapes;
mod stalls;
mod table;
mod throttle;
mod trouble;
mod writer;

pub use table::Table;
pub use writer::Application;
