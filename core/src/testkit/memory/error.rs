//! What this server's failures are to the engine.

use crate::{Error, ErrorKind};

pub(super) fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "the connection was lost")
}

pub(super) fn rolled_back() -> Error {
    Error::new(ErrorKind::Retry, "the server rolled the statement back")
}

pub(super) fn locked(table: &str) -> Error {
    Error::new(ErrorKind::LockTimeout, format!("table `{table}` stayed locked"))
}
