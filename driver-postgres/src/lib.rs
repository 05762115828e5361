//! replank's driver for PostgreSQL.
//!
//! What the server can change while others write is run step by step; changes that write every row anew are refused: there
//! is no rebuild yet. See [`driver()`] for the way in; the modules bear the same names as those of other drivers.

mod attached;
mod capture;
mod capture_parts;
mod connect;
mod definition;
mod empty_copy;
mod error;
mod given_shape;
mod health;
mod holders;
mod inspect;
mod lint;
mod load;
mod lookout;
mod misfits;
mod native;
mod object;
mod parse;
mod partitions;
mod pgoutput;
mod plan;
mod preflight;
mod rebuild;
mod repack;
mod service;
mod session;
mod shape;
mod slot;
mod spec;
mod sql;
mod state;
mod trial;
mod words;
mod zones;

pub use session::driver;
