//! A command as a person types it, read into what is asked for.

mod command;
mod fields;
mod index;
mod write;

pub use command::{Asked, Command, parse};
pub use index::{IndexChange, Which};
pub use write::{Delete, Update};
