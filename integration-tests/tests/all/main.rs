//! The binary on real databases, under live writers whose every acknowledged write is journalled.

mod abuse;
mod binary;
mod command_line;
mod dependencies;
mod documents;
mod kills;
mod mongo;
mod mysql;
mod oracle;
mod postgres;
mod proxy;
mod random;
mod round_trips;
mod server;
mod sqlite;
mod stopped;
mod workload;
