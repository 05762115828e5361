//! The server's codes, as kinds of error.
//!
//! Source: `src/mongo/base/error_codes.yml` of the server, and <https://www.mongodb.com/docs/manual/reference/error-codes/>.

use mongodb::error::{Error as MongoError, ErrorKind as MongoKind, WriteFailure};
use replank_core::{Error, ErrorKind};

/// The time that a command was given is over.
pub const MAX_TIME_EXPIRED: i32 = 50;
/// The document breaks the collection's validator.
pub const DOCUMENT_INVALID: i32 = 121;
/// There is no collection of that name.
pub const NAMESPACE_NOT_FOUND: i32 = 26;
/// There is a collection of that name.
pub const NAMESPACE_EXISTS: i32 = 48;
const COMMAND_NOT_FOUND: i32 = 59;

/// What the server answered with, if it answered.
pub fn code(error: &MongoError) -> Option<i32> {
    match error.kind.as_ref() {
        MongoKind::Command(command) => Some(command.code),
        MongoKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        MongoKind::Write(WriteFailure::WriteConcernError(write)) => Some(write.code),
        MongoKind::InsertMany(many) => many.write_errors.iter().flatten().next().map(|write| write.code),
        _ => None,
    }
}

/// Two documents hold one unique value.
pub fn is_duplicate(error: &MongoError) -> bool {
    code(error).is_some_and(|code| kind(code) == ErrorKind::Duplicate)
}

/// Which of the documents that were sent together collides with another one; `None` where it is another error.
pub fn duplicate_at(error: &MongoError) -> Option<usize> {
    let MongoKind::InsertMany(many) = error.kind.as_ref() else { return None };
    let first = many.write_errors.iter().flatten().next()?;
    (kind(first.code) == ErrorKind::Duplicate).then_some(first.index)
}

/// A transaction is more than the server takes, or its cache: a smaller one may pass, the same one never.
pub fn is_too_large(error: &MongoError) -> bool {
    // TransactionTooLarge, TransactionTooLargeForCache.
    matches!(code(error), Some(257 | 388))
}

/// The kind of a code of the server's.
pub fn kind(code: i32) -> ErrorKind {
    match code {
        // LockTimeout, LockBusy, MaxTimeMSExpired, WriteConflict, SnapshotUnavailable, NoSuchTransaction, TransactionTooOld,
        // TransactionAborted (StaleChunk…), PreparedTransactionInProgress, BackgroundOperationInProgressForNamespace.
        24 | 46 | MAX_TIME_EXPIRED | 112 | 134 | 202 | 234 | 262 | 365 | 246 | 251 | 225 | 244 | 267
        | 12587 => ErrorKind::Retry,
        // HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress, PrimarySteppedDown, SocketException,
        // NotWritablePrimary, InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
        // NotPrimaryOrSecondary: what the command did is not known.
        6 | 7 | 89 | 91 | 189 | 9001 | 10107 | 11600 | 11602 | 13435 | 13436 => ErrorKind::ConnectionLost,
        // WriteConcernFailed and its like: it is done here, and may be undone by an election.
        64 | 79 | 100 => ErrorKind::ConnectionLost,
        // Interrupted, CursorKilled, CursorNotFound, ClientDisconnect.
        11601 | 237 | 43 | 279 => ErrorKind::Retry,
        // ChangeStreamFatalError, ChangeStreamHistoryLost, InvalidResumeToken, CappedPositionLost.
        280 | 286 | 260 | 136 => ErrorKind::FeedGap,
        // NamespaceNotFound, IndexNotFound.
        NAMESPACE_NOT_FOUND | 27 => ErrorKind::NotFound,
        // Unauthorized, AuthenticationFailed, and what a server does not offer.
        13 | 18 | COMMAND_NOT_FOUND | 115 => ErrorKind::Refused,
        // DuplicateKey and its older numbers, CannotConvertIndexToUnique.
        11000 | 11001 | 12582 | 359 => ErrorKind::Duplicate,
        // DocumentValidationFailure, ConversionFailure, BSONObjectTooLarge and its older numbers.
        DOCUMENT_INVALID | 241 | 10334 | 17419 | 17420 => ErrorKind::Unfit,
        14031 => ErrorKind::DiskFull,
        _ => ErrorKind::Server,
    }
}

/// The error's kind, with the server's own words.
pub fn from_mongo(error: MongoError) -> Error {
    let code = code(&error);
    let kind = match (error.kind.as_ref(), code) {
        // The server undid the whole transaction: it may be tried from its beginning.
        _ if error.contains_label("TransientTransactionError") && code.is_some() => ErrorKind::Retry,
        (_, Some(code)) => kind(code),
        (
            MongoKind::Io(_)
            | MongoKind::ConnectionPoolCleared { .. }
            | MongoKind::ServerSelection { .. }
            | MongoKind::InvalidResponse { .. },
            None,
        ) => ErrorKind::ConnectionLost,
        (
            MongoKind::InvalidArgument { .. }
            | MongoKind::DnsResolve { .. }
            | MongoKind::InvalidTlsConfig { .. },
            None,
        ) => ErrorKind::Usage,
        (
            MongoKind::Authentication { .. }
            | MongoKind::IncompatibleServer { .. }
            | MongoKind::SessionsNotSupported,
            None,
        ) => ErrorKind::Refused,
        _ => ErrorKind::Internal,
    };
    let message = match error.kind.as_ref() {
        MongoKind::Command(command) => format!("{} ({})", brief(&command.message), command.code_name),
        MongoKind::Write(WriteFailure::WriteError(write)) => brief(&write.message),
        MongoKind::Write(WriteFailure::WriteConcernError(write)) => brief(&write.message),
        // What it says besides is the client's own picture of the set, on a long line.
        MongoKind::ServerSelection { .. } => {
            "no server of the target answers, or none of them is the primary".to_owned()
        }
        other => brief(&other.to_string()),
    };
    tracing::debug!(%error, "the client's own words");
    let wrapped = Error::new(kind, format!("mongodb: {message}"));
    // The client's error is no source of it: it prints the server's whole answer, and values of documents with that.
    match code {
        Some(13) => wrapped.hint(format!("the login needs {}", privilege(&error.to_string()))),
        Some(18) => wrapped.hint("look at the user, the password and `authSource` in the target's URL"),
        Some(14031) => wrapped.hint("free some room on the server's disk, then resume"),
        Some(280 | 286 | 260 | 136) => {
            wrapped.hint("the oplog no longer reaches back to where this run stood: abort it and begin again")
        }
        _ if kind == ErrorKind::ConnectionLost => {
            wrapped.hint("is the replica set's primary up, and reachable from here?")
        }
        _ => wrapped,
    }
}

/// What a login lacks, by the command that it may not send, which the server quotes.
fn privilege(says: &str) -> &'static str {
    const NEEDED: [(&str, &str); 5] = [
        ("$currentOp", "`inprog` on the cluster: without knowing who has a transaction open no swap is made"),
        ("killOp", "`killop` on the cluster"),
        ("$changeStream", "`changeStream` and `find` on the database"),
        ("collMod", "`dbAdmin` on the database"),
        ("renameCollection", "`readWrite` and `dbAdmin` on the database"),
    ];
    let known = NEEDED.into_iter().find(|(command, _)| says.contains(command));
    known.map_or(
        "`readWrite`, `dbAdmin` and `changeStream` on the database, `readWrite` and `dbAdmin` on that of the records, and \
         `inprog` and `killop` on the cluster",
        |(_, privilege)| privilege,
    )
}

/// Some servers put whole values into what they say.
fn brief(message: &str) -> String {
    const LONGEST: usize = 300;
    match message.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_is_told_by_the_command_that_lacks_it() {
        let says = |command: &str| privilege(&format!("not authorized on shop to execute command {command}"));
        assert!(says("{ collMod: \"orders\", validator: {} }").starts_with("`dbAdmin`"));
        assert!(says("{ aggregate: 1, pipeline: [ { $currentOp: {} } ] }").starts_with("`inprog`"));
        assert!(says("{ find: \"orders\" }").contains("`changeStream`"), "all of them");
    }

    /// What a server that steps down says leaves the outcome open, and what it undid may be tried again.
    #[test]
    fn codes_have_the_kinds_that_the_engine_acts_on() {
        let cases = [
            (50, ErrorKind::Retry),
            (112, ErrorKind::Retry),
            (91, ErrorKind::ConnectionLost),
            (10107, ErrorKind::ConnectionLost),
            (11602, ErrorKind::ConnectionLost),
            (286, ErrorKind::FeedGap),
            (121, ErrorKind::Unfit),
            (13, ErrorKind::Refused),
            (11000, ErrorKind::Duplicate),
        ];
        for (code, expected) in cases {
            assert_eq!(kind(code), expected, "{code}");
        }
    }
}
