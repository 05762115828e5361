//! SQLite's result codes, as kinds of error.

use replank_core::{Error, ErrorKind};

// The primary codes, see <https://www.sqlite.org/rescode.html>; the low byte of an extended one.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IO_ERROR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NOT_A_DATABASE: i32 = 26;

// Extended codes of CONSTRAINT.
const PRIMARY_KEY: i32 = 1555;
const UNIQUE: i32 = 2067;
const ROW_ID: i32 = 2579;

/// The extended result code, if the error is SQLite's own.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Two rows hold one unique value.
pub fn is_unique(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(PRIMARY_KEY | UNIQUE | ROW_ID))
}

/// A value that the table cannot hold: CHECK, NOT NULL, STRICT types, or an expression of the change that
/// fails on it.
pub fn is_unfit(error: &sqlx::Error) -> bool {
    // 1 is SQLITE_ERROR, which functions raise for a value that they cannot take (`malformed JSON`).
    let by_code = code(error).is_some_and(|code| matches!(code & 0xff, CONSTRAINT | MISMATCH | 1));
    // It is also what a statement gets whose table, column or function is not there.
    let names_nothing =
        error.as_database_error().is_some_and(|database| database.message().starts_with("no such"));
    by_code && !names_nothing && !is_unique(error)
}

/// Nothing is known about what became of a COMMIT that failed so.
pub fn leaves_commit_unknown(error: &sqlx::Error) -> bool {
    // A COMMIT that fails on the disk may have reached it.
    code(error).is_none_or(|code| code & 0xff == IO_ERROR)
}

/// The error's kind, with SQLite's own words.
pub fn from_sqlx(error: sqlx::Error) -> Error {
    let kind = match &error {
        sqlx::Error::Database(_) => match code(&error).map(|code| code & 0xff) {
            Some(BUSY | LOCKED | INTERRUPT) => ErrorKind::Retry,
            Some(FULL) => ErrorKind::DiskFull,
            _ if is_unique(&error) => ErrorKind::Duplicate,
            Some(CONSTRAINT | MISMATCH) => ErrorKind::Unfit,
            Some(CANNOT_OPEN) => ErrorKind::NotFound,
            Some(NOT_A_DATABASE) => ErrorKind::Usage,
            _ => ErrorKind::Server,
        },
        // The connection's thread is gone; what it was at may have been done.
        sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => ErrorKind::ConnectionLost,
        _ => ErrorKind::Internal,
    };
    let message = match &error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        other => other.to_string(),
    };
    let wrapped = Error::new(kind, format!("sqlite: {message}"));
    let wrapped = match code(&error).map(|code| code & 0xff) {
        Some(BUSY | LOCKED) => wrapped.hint("another connection is writing; SQLite has one writer at a time"),
        Some(FULL) => wrapped.hint("free some room on the disk, then resume"),
        Some(READ_ONLY) => wrapped.hint("the database file and its directory must be writable"),
        Some(CORRUPT) => wrapped.hint("run `PRAGMA integrity_check` before anything else"),
        Some(NOT_A_DATABASE) => wrapped.hint("the file is not a SQLite database, or it is encrypted"),
        _ => wrapped,
    };
    wrapped.caused_by(error)
}
