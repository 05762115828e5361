//! The look at the load: what the server and what is outside say, held against the run's limits.

use std::time::Duration;

use tokio::time::timeout;

use super::record::Record;
use crate::event::Body;
use crate::throttle::{self, Decision, Outside};
use crate::{Error, ErrorKind, Result};

/// A server that takes longer to say how it is says nothing. Chosen.
const DEADLINE: Duration = Duration::from_secs(10);

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Load {
    outside: Outside,
    /// Signals that were read at some time in this run.
    seen: Vec<String>,
    /// The signal that was told to be bad.
    told: Option<String>,
}

impl Load {
    /// Why nothing may be begun now, in words; that is told when it is another signal than before.
    ///
    /// # Errors
    /// [`ErrorKind::Gate`] where a critical limit is passed.
    pub async fn look(&mut self, record: &Record, lag: Duration) -> Result<Option<String>> {
        let limits = &record.run.options.limits;
        let mut readings = match timeout(DEADLINE, record.session.load(limits)).await {
            Ok(Ok(readings)) => readings,
            // Every signal that was read before is missing now, and counts as bad.
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        readings.extend(self.outside.readings(limits).await);
        for reading in readings.iter().filter(|reading| reading.value.is_some()) {
            if !self.seen.contains(&reading.signal) {
                self.seen.push(reading.signal.clone());
            }
        }
        let waiting = match throttle::decide(limits, lag, &readings, &self.seen) {
            Decision::Go => None,
            Decision::Wait(waiting) => Some(waiting),
            Decision::Stop(reason) => {
                return Err(Error::new(ErrorKind::Gate, format!("stopped: {reason}"))
                    .hint(format!("when the load is gone, `replank resume {}`", record.run.id)));
            }
        };
        let (signal, reason) = waiting.map(|it| (it.signal, it.reason)).unzip();
        // A value that changes every second is no news.
        if signal != self.told {
            record.say(Body::Throttle { reason: reason.clone() });
            self.told = signal;
        }
        Ok(reason)
    }
}
