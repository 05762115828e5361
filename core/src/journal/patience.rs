//! Repeats a call of the journal that the server rolled back.

use std::time::Duration;

use tokio::time::sleep;

use crate::error::Retry;
use crate::{Error, Result};

// A busy journal is free again within seconds; 30 s is the life of a lease. Chosen.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(500);

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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::ErrorKind;

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
}
