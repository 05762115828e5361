//! The hash chain over a run's records: a record that was changed, removed or put in later is found.

use jiff::Timestamp;

use crate::driver::EventRecord;
use crate::ident::RunId;
use crate::{Error, ErrorKind, Result};

/// The hash before the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The hash of a record that follows `previous`. Every part is preceded by its length, so that no two
/// different records have the same text.
#[must_use]
pub fn hash(
    previous: &str,
    seq: u64,
    at: Timestamp,
    run: &RunId,
    kind: &str,
    body: &serde_json::Value,
) -> String {
    let mut hasher = blake3::Hasher::new();
    // serde_json's map is ordered by key, so equal bodies have equal text.
    for part in [previous, &seq.to_string(), &at.to_string(), run.as_str(), kind, &body.to_string()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The body as it will be read again: a fraction may lose its last bit on the way through text, and the hash is
/// over what is read.
///
/// # Errors
/// [`ErrorKind::Internal`] for a body that is not read back from its own text.
pub fn settled(body: &serde_json::Value) -> Result<serde_json::Value> {
    let mut body = body.clone();
    for _ in 0..4 {
        let again: serde_json::Value = serde_json::from_str(&body.to_string()).map_err(|error| {
            Error::new(ErrorKind::Internal, "an event's body cannot be written as JSON").caused_by(error)
        })?;
        if again == body {
            break;
        }
        body = again;
    }
    Ok(body)
}

/// The time of a record that keeps it in milliseconds since 1970.
///
/// # Errors
/// [`ErrorKind::Server`] for a number that is no time.
pub fn moment(ms: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(ms).map_err(|error| {
        Error::new(ErrorKind::Server, "an event's time cannot be read").with("ms", ms).caused_by(error)
    })
}

/// The first record of a store, oldest first, that does not follow from the one before it.
#[must_use]
pub fn first_break(records: &[EventRecord]) -> Option<u64> {
    let mut previous = GENESIS;
    for record in records {
        let expected = hash(previous, record.seq, record.at, &record.run, &record.kind, &record.body);
        if record.previous != previous || record.hash != expected {
            return Some(record.seq);
        }
        previous = &record.hash;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<EventRecord> {
        let run = RunId::parse("0123456789abcdef").expect("valid");
        let mut previous = GENESIS.to_owned();
        (1..=4)
            .map(|seq| {
                let at = Timestamp::from_second(i64::try_from(seq).expect("small")).expect("valid");
                let body = serde_json::json!({ "n": seq });
                let record = EventRecord {
                    seq,
                    at,
                    run: run.clone(),
                    kind: "phase".to_owned(),
                    hash: hash(&previous, seq, at, &run, "phase", &body),
                    previous: previous.clone(),
                    body,
                };
                previous.clone_from(&record.hash);
                record
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_holds() {
        assert_eq!(first_break(&records()), None);
    }

    #[test]
    fn a_changed_a_removed_and_a_swapped_record_are_found() {
        let mut changed = records();
        changed[1].body = serde_json::json!({ "n": 99 });
        assert_eq!(first_break(&changed), Some(2));
        let mut removed = records();
        removed.remove(1);
        assert_eq!(first_break(&removed), Some(3));
        let mut swapped = records();
        swapped.swap(1, 2);
        assert_eq!(first_break(&swapped), Some(3));
    }
}
