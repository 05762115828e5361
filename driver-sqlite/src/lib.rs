//! replank's SQLite driver: the embedded default, and the worked example for new drivers.
//!
//! The database is a file, SQLite runs inside this process, and there is one writer at a time. So every
//! hold of the write lock is short, every statement of ours is in a transaction that checks the fencing
//! token, and a crash leaves either all of it or nothing. See [`driver`] for the way in; the modules bear
//! the same names as those of other drivers.

mod capture;
mod connect;
mod definition;
pub mod demo;
mod emptying;
mod error;
mod inspect;
mod key;
mod load;
mod native;
mod parse;
mod plan;
mod rebuild;
mod scratch;
mod session;
mod spec;
mod sql;
mod state;

pub use session::driver;

use session::server_facts;
