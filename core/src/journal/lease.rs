//! One runner a table: a lease with a fencing token that grows with every holder.

use std::time::Duration;

use super::host;
use super::patience::repeatedly;
use crate::driver::{Lease, LeaseHolder, StateStore};
use crate::ident::{Fence, TableId};
use crate::{Error, ErrorKind, Result};

/// How long a lease holds without being renewed.
pub const TTL: Duration = Duration::from_secs(30);

/// How often it is renewed: two renewals may fail before it expires.
pub const RENEW: Duration = Duration::from_secs(10);

/// Answers that may be lost in a row. Chosen.
const LOST_MAX: u32 = 3;

/// What to do about a lease as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Take it, if its token is still this one.
    Take(Option<Fence>),
    /// Somebody else holds it for this long.
    Wait(Duration),
}

/// Judges a lease. `is_dead` says whether a holder was a process of this host that is gone.
#[must_use]
pub fn judge(lease: Option<&Lease>, is_dead: impl Fn(&LeaseHolder) -> bool) -> Claim {
    match lease {
        None => Claim::Take(None),
        Some(Lease { token, holder: None, .. }) => Claim::Take(Some(*token)),
        Some(Lease { token, holder: Some(holder), remaining }) => {
            if remaining.is_zero() || is_dead(holder) {
                Claim::Take(Some(*token))
            } else {
                Claim::Wait(*remaining)
            }
        }
    }
}

/// Takes the lease of `table`: at once when it is free or its holder is a dead process of this host;
/// otherwise after it has expired. `waiting` hears once whom it waits for.
///
/// # Errors
/// [`ErrorKind::LeaseHeld`] when the holder renewed it meanwhile, so it lives.
pub async fn take(
    store: &dyn StateStore,
    table: &TableId,
    me: &LeaseHolder,
    waiting: impl Fn(&LeaseHolder, Duration) + Send,
) -> Result<Fence> {
    let mut held: Option<(Fence, Duration)> = None;
    let mut lost = 0;
    loop {
        let lease = repeatedly(|| store.lease(table)).await?;
        let is_mine = |lease: &&Lease| lost > 0 && lease.holder.as_ref() == Some(me);
        if let Some(lease) = lease.as_ref().filter(is_mine) {
            return Ok(lease.token);
        }
        match judge(lease.as_ref(), |holder| host::is_dead_here(holder, me)) {
            Claim::Take(seen) => {
                match store.take_lease(table, seen, me, TTL).await {
                    Ok(Some(token)) => return Ok(token),
                    // Another was faster; its lease is looked at in the next round.
                    Ok(None) => {}
                    // It may be ours all the same, or become so before the next try.
                    Err(error) if error.kind() == ErrorKind::ConnectionLost && lost < LOST_MAX => lost += 1,
                    Err(error) => return Err(error),
                }
            }
            Claim::Wait(remaining) => {
                let (token, holder) = lease
                    .as_ref()
                    .and_then(|lease| lease.holder.as_ref().map(|holder| (lease.token, holder)))
                    .ok_or_else(|| {
                        Error::new(ErrorKind::Internal, "a lease without a holder cannot be held")
                    })?;
                match held {
                    None => waiting(holder, remaining),
                    // Time left that grew, or another token, is a sign of life. The slack covers rounding.
                    Some((first, before)) => {
                        if token != first || remaining > before + Duration::from_secs(1) {
                            return Err(held_by(table, holder));
                        }
                    }
                }
                held = Some((token, remaining));
                tokio::time::sleep(remaining.min(Duration::from_secs(2)) + Duration::from_millis(50)).await;
            }
        }
    }
}

/// The error of a lease that another live runner holds.
#[must_use]
pub fn held_by(table: &TableId, holder: &LeaseHolder) -> Error {
    Error::new(ErrorKind::LeaseHeld, format!("another runner works on `{table}`"))
        .with("host", &holder.host)
        .with("pid", holder.pid)
        .with("run", &holder.run)
        .hint(format!(
            "watch it with `replank status {}`, or end it with `replank abort {}`",
            holder.run, holder.run
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::RunId;

    fn lease(remaining: u64, held: bool) -> Lease {
        let run = RunId::parse("0123456789abcdef").expect("valid");
        Lease {
            token: Fence(3),
            holder: held.then(|| LeaseHolder { host: "h".into(), boot: "b".into(), pid: 1, started: 1, run }),
            remaining: Duration::from_secs(remaining),
        }
    }

    #[test]
    fn claims() {
        assert_eq!(judge(None, |_| false), Claim::Take(None));
        assert_eq!(judge(Some(&lease(9, false)), |_| false), Claim::Take(Some(Fence(3))));
        assert_eq!(judge(Some(&lease(9, true)), |_| false), Claim::Wait(Duration::from_secs(9)));
        assert_eq!(judge(Some(&lease(9, true)), |_| true), Claim::Take(Some(Fence(3))));
        assert_eq!(judge(Some(&lease(0, true)), |_| false), Claim::Take(Some(Fence(3))));
    }
}
