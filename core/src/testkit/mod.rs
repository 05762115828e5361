//! What tests need: conformance cases for drivers, an in-memory database, a simulator.
//!
//! [`conformance`] holds a driver to the contract's sentences. [`memory`] is a database that breaks a wrong
//! engine, [`simulator`] runs the engine on it with writers and every kind of trouble, and [`oracle`] says
//! whether the promises were kept.

pub mod chance;
pub mod conformance;
pub mod frozen;
pub mod memory;
pub mod oracle;
pub mod simulator;
pub mod workload;

#[cfg(test)]
mod tests;
