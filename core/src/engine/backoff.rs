//! Waiting before a call is tried again: growing, and not for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::Kind;
use crate::Error;

// Doubling from 20 ms reaches 5 s in eight steps: quick over a deadlock, mild on a server in trouble. Chosen.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);

/// How long one kind of call may fail without a success before the run stops. A server restart and a
/// failover take less; a person should know of anything longer. Chosen.
pub const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Streak {
    since: Duration,
    failures: u32,
    until: Duration,
}

/// The streaks of failures by kind of call.
#[derive(Debug, Default)]
pub struct Backoff {
    streaks: BTreeMap<Kind, Streak>,
}

impl Backoff {
    /// Whether this kind of call may be made at `now`.
    #[must_use]
    pub fn is_over(&self, kind: Kind, now: Duration) -> bool {
        self.streaks.get(&kind).is_none_or(|streak| streak.until <= now)
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self, kind: Kind) -> u32 {
        self.streaks.get(&kind).map_or(0, |streak| streak.failures)
    }

    /// A call went well.
    pub fn succeeded(&mut self, kind: Kind) {
        self.streaks.remove(&kind);
    }

    /// A call failed and may be repeated; gives the error back when patience has run out.
    pub fn failed(&mut self, kind: Kind, now: Duration, error: Error) -> Option<Error> {
        let streak = self.streaks.entry(kind).or_insert(Streak { since: now, failures: 0, until: now });
        streak.until = now + FIRST.saturating_mul(1 << streak.failures.min(16)).min(LONGEST);
        streak.failures += 1;
        (now.saturating_sub(streak.since) > PATIENCE)
            .then(|| error.with("tries", streak.failures).with("for", format!("{} s", PATIENCE.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn error() -> Error {
        Error::new(ErrorKind::Retry, "deadlock")
    }

    #[test]
    fn it_grows_and_a_success_forgets_it() {
        let mut backoff = Backoff::default();
        let mut now = Duration::from_secs(1);
        for expected in [20, 40, 80] {
            assert!(backoff.failed(Kind::Apply, now, error()).is_none());
            assert!(!backoff.is_over(Kind::Apply, now));
            assert!(backoff.is_over(Kind::Copy, now), "kinds are separate");
            now += Duration::from_millis(expected);
            assert!(backoff.is_over(Kind::Apply, now));
        }
        backoff.succeeded(Kind::Apply);
        assert!(backoff.failed(Kind::Apply, now, error()).is_none());
        assert!(backoff.is_over(Kind::Apply, now + FIRST));
    }

    #[test]
    fn patience_ends() {
        let mut backoff = Backoff::default();
        assert!(backoff.failed(Kind::Apply, Duration::ZERO, error()).is_none());
        assert!(backoff.failed(Kind::Apply, PATIENCE, error()).is_none());
        assert!(backoff.failed(Kind::Apply, PATIENCE + FIRST, error()).is_some());
    }
}
