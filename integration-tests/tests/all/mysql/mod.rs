//! MySQL: the table as an application uses it, its writers, and what must hold on a real server.

mod abuse;
mod added;
mod backwards;
mod cells;
mod conformance;
mod cuts;
mod definitions;
mod following;
mod histories;
mod kills;
mod known_failures;
mod mariadb;
mod oracle;
mod primary_keys;
mod privileges;
mod rebuild;
mod repeats;
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
