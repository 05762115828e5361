//! The half of replank that knows no database.
//!
//! A change is a statement that a person would have typed anyway. A [`driver`] says how it could be
//! done on its server, [`plan`] chooses the cheapest safe way or refuses with a rule of [`lint`],
//! [`engine`] carries it out, and [`journal`] keeps in the target all that is needed to go on from
//! anywhere. `ARCHITECTURE.md` states the invariants (R1 to R10) that the engine holds.

pub mod control;
pub mod driver;
pub mod engine;
pub mod error;
pub mod event;
pub mod ident;
pub mod journal;
pub mod lint;
pub mod plan;
pub mod run;
pub mod value;

pub mod throttle;

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use error::{Error, ErrorKind, Result};
