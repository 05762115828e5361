//! A runner that stands still: what SIGSTOP does to a process.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep_until};

use super::memory::Client;

/// Polls a runner's future only while its client is not frozen. Timers of the runner that fire meanwhile
/// are noticed afterwards, all at once.
pub struct Frozen<F> {
    runner: Pin<Box<F>>,
    client: Client,
    thaw: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Frozen<F> {
    /// `runner` does all its work through `client`.
    pub fn new(client: Client, runner: F) -> Self {
        Self { runner: Box::pin(runner), client, thaw: None }
    }
}

impl<F: Future> Future for Frozen<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(until) = self.client.frozen_until() {
            let thaw = self.thaw.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if thaw.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.thaw = None;
        self.runner.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::driver::Session;
    use crate::testkit::memory::{Config, Doom, Moment, Server};
    use crate::throttle::Limits;

    #[tokio::test(start_paused = true)]
    async fn a_frozen_runner_is_not_polled_and_goes_on_afterwards() {
        let server = Server::start(Config::default());
        let session = server.connect();
        let client = session.client().clone();
        let lasts = Duration::from_secs(40);
        client.doom(Doom::Freeze { call: 2, moment: Moment::AfterReply, lasts });
        let started = Instant::now();
        let runner = async move {
            session.load(&Limits::default()).await.expect("the first call passes");
            sleep(Duration::from_secs(1)).await;
            let before = started.elapsed();
            session.load(&Limits::default()).await.expect("the second call returns late");
            (before, started.elapsed())
        };
        let (before, after) = Frozen::new(client, runner).await;
        assert!(before < Duration::from_secs(2), "{before:?}");
        assert!(after >= Duration::from_secs(41), "{after:?}");
    }
}
