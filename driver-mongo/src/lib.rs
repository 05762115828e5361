//! replank's MongoDB driver.
//!
//! The server has no transaction that swaps collections, and no trigger. Changes are followed by the database's change stream, copied by
//! the server itself with `$merge`, and swapped by one rename behind a validator that refuses every write for a moment. See
//! [`driver`] for the way in; the modules bear the same names as those of other drivers.

mod capability;
mod collation;
mod connect;
mod ejson;
mod error;
mod feed;
mod holders;
mod inspect;
mod key;
mod lint;
mod load;
mod native;
mod parse;
mod plan;
mod privileges;
mod ranges;
mod rebuild;
mod session;
mod spec;
mod state;
mod transform;
mod unique;

pub use session::driver;
