//! PostgreSQL's error codes, as kinds of error.

use replank_core::{Error, ErrorKind};

/// The server's SQLSTATE, if the error is the server's own. See
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Codes that callers tell apart.
pub mod codes {
    /// lock_not_available: `lock_timeout` or NOWAIT.
    pub const LOCK_TIMEOUT: &str = "55P03";
    /// query_canceled: by `pg_cancel_backend` or `statement_timeout`.
    pub const CANCELED: &str = "57014";
    /// unique_violation.
    pub const DUPLICATE: &str = "23505";
}

/// What the server's code means to the engine.
fn kind(code: &str) -> ErrorKind {
    match code {
        codes::LOCK_TIMEOUT | codes::CANCELED => ErrorKind::LockTimeout,
        // Serialization, deadlock, too many connections, an object that is in use just now.
        "40001" | "40P01" | "53300" | "55006" => ErrorKind::Retry,
        // Unique, and exclusion.
        codes::DUPLICATE | "23P01" => ErrorKind::Duplicate,
        // Table, schema, database, object, function.
        "42P01" | "3F000" | "3D000" | "42704" | "42883" => ErrorKind::NotFound,
        "53100" => ErrorKind::DiskFull,
        // NOT NULL, foreign key, CHECK, and every value that cannot be what it should be.
        "23502" | "23503" | "23514" => ErrorKind::Unfit,
        code if code.starts_with("22") => ErrorKind::Unfit,
        "42601" => ErrorKind::Usage,
        "42501" | "28000" | "28P01" => ErrorKind::Refused,
        // Going down or coming up, ended by an administrator or for idling; or a standby, or made read-only: whoever
        // takes the server out of service sets it so.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006" => ErrorKind::ConnectionLost,
        code if code.starts_with("08") => ErrorKind::ConnectionLost,
        // A column is gone that was there when the plan was made.
        "42703" => ErrorKind::ForeignDdl,
        _ => ErrorKind::Server,
    }
}

/// Whether somebody ended the statement.
pub fn is_canceled(error: &Error) -> bool {
    error.context().iter().any(|(name, value)| *name == "code" && value == codes::CANCELED)
}

/// The error's kind, with the server's own words.
pub fn from_sqlx(error: sqlx::Error) -> Error {
    let code = code(&error);
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => {
            (code.as_deref().map_or(ErrorKind::Server, kind), database.message().to_owned())
        }
        // What was sent may run, or run later.
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
            (ErrorKind::ConnectionLost, error.to_string())
        }
        sqlx::Error::Configuration(why) => (ErrorKind::Usage, why.to_string()),
        other => (ErrorKind::Internal, other.to_string()),
    };
    let wrapped = Error::new(kind, format!("postgres: {message}"));
    let wrapped = match code {
        Some(code) => wrapped.with("code", code),
        None => wrapped,
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
        assert_eq!(kind("40P01"), ErrorKind::Retry);
        assert_eq!(kind("55P03"), ErrorKind::LockTimeout);
        assert_eq!(kind("57014"), ErrorKind::LockTimeout, "the watchdog's cancel ends a wait");
        assert_eq!(kind("57P01"), ErrorKind::ConnectionLost);
        assert_eq!(kind("25006"), ErrorKind::ConnectionLost, "a standby is waited for");
        assert_eq!(kind("23505"), ErrorKind::Duplicate);
        assert_eq!(kind("22003"), ErrorKind::Unfit);
        assert_eq!(kind("XX000"), ErrorKind::Server);
    }
}
