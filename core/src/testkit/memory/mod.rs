//! A database in memory, with a driver for it, hostile enough to break a wrong engine.
//!
//! Everything that a real server may do is done here at random, from one seed: the log runs ahead of what
//! reads see, commits become visible out of the log's order, statements go on after their client is dead
//! and take effect later, replies get lost, calls hang for longer than a lease, locks are contended, keys
//! are ordered as core would not think, rows of different moments collide under a unique index.

mod application;
mod catalogue;
mod client;
mod config;
mod cut_over;
mod driver;
mod error;
mod feed;
mod fixture;
mod inspect;
mod log;
mod native;
mod rebuild;
mod records;
mod row;
mod server;
mod statement;
mod store;
mod swap_session;
mod transaction;

pub use application::Transaction;
pub use client::{Client, Doom, Moment};
pub use config::{Config, Faults, Mutant, Unique};
pub use driver::{MemoryDriver, MemorySession};
pub use fixture::MemoryFixture;
pub use inspect::Logged;
pub use row::{Place, Row, RowMap, Rows, Shape, change, convert};
pub use server::{OTHER, Server, TABLE};
pub use transaction::Op;
