//! Repeats a call of the journal that the server rolled back.

use std::time::Duration;

use tokio::time::sleep;

use crate::error::Retry;
use crate::{Error, ErrorKind, Result};

// A busy journal is free again within seconds; 30 s is the life of a lease. Chosen.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A connection that was idle may be gone long since, and the next one as well. Chosen.
const LOSSES_MAX: u32 = 3;

/// Makes the call until it answers with anything but "rolled back, try again".
///
/// # Errors
/// The call's own error, also after half a minute of trying. A lost reply is not repeated here: whether
/// that is harmless is for the caller to know.
pub async fn patiently<T, F>(call: impl Fn() -> F + Send) -> Result<T, Error>
where
    F: Future<Output = Result<T>> + Send,
{
    let mut tries = 0;
    loop {
        match call().await {
            Err(error) if error.kind().retry() == Retry::Again && tries < TRIES => {
                tries += 1;
                sleep((PAUSE * tries).min(PAUSE_MAX)).await;
            }
            answer => return answer,
        }
    }
}

/// The same, for a call that may be repeated after a lost reply as well: it only reads, or gives the same twice.
///
/// # Errors
/// The call's own error, also when replies were lost several times in a row.
pub async fn repeatedly<T, F>(call: impl Fn() -> F + Send + Sync) -> Result<T, Error>
where
    F: Future<Output = Result<T>> + Send,
{
    for _ in 0..LOSSES_MAX {
        match patiently(&call).await {
            Err(error) if error.kind() == ErrorKind::ConnectionLost => sleep(PAUSE).await,
            answer => return answer,
        }
    }
    patiently(&call).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn fails(kind: ErrorKind, times: u32) -> (Result<()>, u32) {
        let calls = AtomicU32::new(0);
        let result = patiently(|| async {
            if calls.fetch_add(1, Ordering::SeqCst) < times { Err(Error::new(kind, "no")) } else { Ok(()) }
        })
        .await;
        (result, calls.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rolled_back_call_is_repeated_and_a_lost_one_is_not() {
        let (result, calls) = fails(ErrorKind::Retry, 5).await;
        assert!(result.is_ok());
        assert_eq!(calls, 6);
        let (result, calls) = fails(ErrorKind::ConnectionLost, 5).await;
        assert!(result.is_err());
        assert_eq!(calls, 1);
        let (result, calls) = fails(ErrorKind::Retry, u32::MAX).await;
        assert!(result.is_err());
        assert_eq!(calls, TRIES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_repeated_is_repeated_a_few_times_after_lost_replies() {
        let calls = AtomicU32::new(0);
        let lost = |times: u32| {
            let calls = &calls;
            move || {
                let is_lost = calls.fetch_add(1, Ordering::SeqCst) < times;
                let answer = if is_lost { Err(Error::new(ErrorKind::ConnectionLost, "no")) } else { Ok(()) };
                std::future::ready(answer)
            }
        };
        assert!(repeatedly(lost(LOSSES_MAX)).await.is_ok());
        calls.store(0, Ordering::SeqCst);
        assert!(repeatedly(lost(u32::MAX)).await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), LOSSES_MAX + 1);
    }
}
