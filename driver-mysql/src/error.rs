//! MySQL's error codes, as kinds of error.

use mysql_async::DriverError;
use replank_core::{Error, ErrorKind};

/// The server's code, if the error is the server's own. See
/// <https://dev.mysql.com/doc/mysql-errors/9.7/en/server-error-reference.html>.
pub fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(server) => Some(server.code),
        _ => None,
    }
}

/// Whether a connection that was there broke, or its other end said nothing.
pub fn is_lost(error: &mysql_async::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    match error {
        mysql_async::Error::Io(mysql_async::IoError::Io(io)) => {
            matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
        }
        _ => false,
    }
}

/// Codes that callers tell apart.
pub mod codes {
    /// ER_TABLE_EXISTS_ERROR.
    pub const TABLE_EXISTS: u16 = 1050;
    /// ER_DUP_ENTRY.
    pub const DUPLICATE: u16 = 1062;
    /// ER_LOCK_WAIT_TIMEOUT.
    pub const LOCK_TIMEOUT: u16 = 1205;
    /// ER_QUERY_INTERRUPTED: by `KILL QUERY`.
    pub const INTERRUPTED: u16 = 1317;
    /// ER_SUBQUERY_NO_1_ROW.
    pub const SEVERAL_ROWS: u16 = 1242;
    /// ER_NO_SUCH_THREAD: the session to be killed has ended.
    pub const NO_SUCH_SESSION: u16 = 1094;
    /// ER_NO_SUCH_TABLE.
    pub const NO_SUCH_TABLE: u16 = 1146;
    /// ER_MASTER_FATAL_ERROR_READING_BINLOG.
    pub const BINLOG: u16 = 1236;
}

/// What the server's code means to the engine.
fn kind(code: u16) -> ErrorKind {
    match code {
        codes::LOCK_TIMEOUT | 3572 => ErrorKind::LockTimeout,
        // Deadlock; a row that changed since the snapshot; too many connections; a lock that the server broke to let
        // DDL through.
        1213 | 1020 | 1040 | 3132 => ErrorKind::Retry,
        codes::INTERRUPTED | 1969 | 3024 => ErrorKind::LockTimeout,
        codes::DUPLICATE | 1586 | 1859 => ErrorKind::Duplicate,
        1049 | 1051 | codes::NO_SUCH_SESSION | codes::NO_SUCH_TABLE => ErrorKind::NotFound,
        1021 | 1041 | 1114 => ErrorKind::DiskFull,
        // NULL, no default, range, truncation, wrong value, too long, CHECK, JSON, geometry, partition.
        1048 | 1138 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1411 | 1416 | 1526 | 1690 | 1748 | 3140
        | 3141 | 3156 | 3617 | 3819 | 3903 | 4025 => ErrorKind::Unfit,
        1064 | 1149 => ErrorKind::Usage,
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 3118 | 3955 => ErrorKind::Refused,
        // Going down; the connection was killed, timed out, or broke.
        // No writes for now, not even ours: whoever takes the server out of service sets it so.
        1290 | 1792 | 1836 | 1053 | 1077 | 1079 | 1080 | 1158..=1161 | 1927 | 2006 | 2013 | 4031 => {
            ErrorKind::ConnectionLost
        }
        codes::BINLOG => ErrorKind::FeedGap,
        // A column is gone that was there when the plan was made.
        1054 => ErrorKind::ForeignDdl,
        _ => ErrorKind::Server,
    }
}

/// The error's kind, with the server's own words.
pub fn from_mysql(error: mysql_async::Error) -> Error {
    let (kind, message) = match &error {
        mysql_async::Error::Server(server) => (kind(server.code), server.message.clone()),
        // What was sent may run, or run later.
        mysql_async::Error::Io(io) if io.to_string().contains("close_notify") => {
            (ErrorKind::ConnectionLost, "the server closed the connection".to_owned())
        }
        mysql_async::Error::Io(io) => (ErrorKind::ConnectionLost, io.to_string()),
        mysql_async::Error::Driver(DriverError::ConnectionClosed | DriverError::PoolDisconnected) => {
            (ErrorKind::ConnectionLost, error.to_string())
        }
        mysql_async::Error::Url(url) => (ErrorKind::Usage, url.to_string()),
        other => (ErrorKind::Server, other.to_string()),
    };
    let wrapped = match code(&error) {
        Some(code) => Error::new(kind, format!("mysql: {message}")).with("code", code),
        None => Error::new(kind, format!("mysql: {message}")),
    };
    let wrapped = match kind {
        ErrorKind::LockTimeout => wrapped.hint("another transaction holds the lock"),
        ErrorKind::Refused => wrapped.hint("`replank doctor` prints the GRANT that is missing"),
        _ => wrapped,
    };
    wrapped.caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_what_the_engine_does() {
        assert_eq!(kind(1213), ErrorKind::Retry);
        assert_eq!(kind(1205), ErrorKind::LockTimeout);
        assert_eq!(kind(2013), ErrorKind::ConnectionLost);
        for read_only in [1290, 1792, 1836] {
            assert_eq!(kind(read_only), ErrorKind::ConnectionLost, "waited for: {read_only}");
        }
        assert_eq!(kind(1062), ErrorKind::Duplicate);
        assert_eq!(kind(1406), ErrorKind::Unfit);
        assert_eq!(kind(1317), ErrorKind::LockTimeout, "the watchdog's KILL QUERY ends a wait");
        assert_eq!(kind(9999), ErrorKind::Server);
    }
}
