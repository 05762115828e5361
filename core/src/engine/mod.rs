//! The engine: carries a plan out, and can take it back.

pub mod backoff;
pub mod boundary;
pub mod chunker;
mod cut_over;
pub mod epoch;
mod flight;
mod load;
pub mod machine;
mod native;
mod pump;
pub mod queue;
mod ranges;
mod record;
mod runner;
pub mod share;
pub mod suspects;
pub mod sweep;
mod way_out;

pub use runner::{Runner, Verified};
