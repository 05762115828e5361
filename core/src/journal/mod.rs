//! The journal: what a run leaves in the target so that it can go on from anywhere.

pub mod chain;
pub mod host;
pub mod lease;
pub mod patience;
