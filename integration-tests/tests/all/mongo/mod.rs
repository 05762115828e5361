//! MongoDB: the collection as an application uses it, its writers, and what the test server does by itself.

mod answers;
mod change;
mod checks;
mod collection;
mod commands;
mod conformance;
mod cuts;
mod failures;
mod fences;
mod jobs;
mod journal;
mod kept;
mod kills;
mod load;
mod oracle;
mod orders;
mod plan;
mod server_alone;
mod server_kills;
mod steps;
mod takeover;
mod values;
mod watchdog;
mod wire;
mod writer;

pub use load::{Load, Settings};
pub use orders::Orders;
