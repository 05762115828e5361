//! replank's driver for MySQL and MariaDB.
//!
//! Changes that the server can make itself are tried by `ALGORITHM=INSTANT` and `INPLACE, LOCK=NONE`; all
//! others are a shadow rebuild: rows are copied by `INSERT … SELECT`, changes are read from the binary log,
//! and `RENAME TABLE` under `LOCK TABLES` swaps the names. See [`driver()`] for the way in; the modules bear
//! the same names as those of other drivers.

mod added_keys;
mod attached;
mod connect;
mod definition;
mod error;
mod feed;
mod foreign_key;
mod histograms;
mod holders;
mod inspect;
mod key;
mod leftovers;
mod lines;
mod lint;
mod load;
mod lookout;
mod native;
mod parse;
mod peers;
mod plan;
mod preflight;
mod rebuild;
mod replica_lag;
mod replicas;
mod scratch;
mod session;
mod sessions;
mod spec;
mod sql;
mod stand_ins;
mod state;

pub use session::driver;
