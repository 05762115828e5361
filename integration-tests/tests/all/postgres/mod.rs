//! PostgreSQL: what the server changes while others write, step by step, and rebuilds; what may happen to both.

mod alter;
mod application;
mod carried;
mod catalogue;
mod cells;
mod collisions;
mod conformance;
mod crashed_positions;
mod cuts;
mod doctor;
mod ended;
mod foreseen;
mod holders;
mod index;
mod keeping;
mod known_failures;
mod matviews;
mod movers;
mod oracle;
mod partition;
mod partition_own;
mod partitioned;
mod partitioned_refused;
mod partitioned_swap;
mod pooler;
mod rebuild_kills;
mod repack;
mod reshape;
mod round_trips;
mod rules;
mod server_kills;
mod share;
mod slot;
mod standby;
mod statements;
mod subscriber;
mod zones;

mod table;

pub use table::Table;
