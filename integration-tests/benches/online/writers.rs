//! Applications that write all the time, and how long each write took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{Instant as Clock, sleep, sleep_until};

use super::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Each of four writes again as soon as it has its answer: what the server can bear.
    Closed,
    /// Each of four writes again after a moment of its own, as an application does: the server has time left.
    Paced,
    /// 300 a second whatever the answers do, each counted from the moment in which it was meant to begin.
    Open,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Wrote {
    /// A second.
    pub rate: f64,
    pub longest: Duration,
    pub failed: usize,
}

/// The moment of an application.
const PAUSE: Duration = Duration::from_millis(1);
/// Open-loop writes a second.
const RATE: u32 = 300;
/// Enough that a stall does not leave the next ones without a session for longer than it lasts.
const SESSIONS: u32 = 16;

impl Load {
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "4 writers, each as fast as it can",
            Self::Paced => "4 writers, each a millisecond after its answer",
            Self::Open => "300 writes a second",
        }
    }

    /// Writes until `until` is done; what that returns comes back as well.
    pub async fn beside<T>(self, server: &Server, rows: u64, until: impl Future<Output = T>) -> (Wrote, T) {
        let is_over = Arc::new(AtomicBool::new(false));
        let sessions = if self == Self::Open { SESSIONS } else { 4 };
        let mut opened = Vec::new();
        for _ in 0..sessions {
            opened.push(server.connect().await);
        }
        let began = Clock::now();
        let mut writers = JoinSet::new();
        for (number, mut session) in (0_u32..).zip(opened) {
            let is_over = Arc::clone(&is_over);
            writers.spawn(async move {
                let mut chance = Chance(u64::from(number) + 1);
                let (mut longest, mut wrote, mut failed) = (Duration::ZERO, 0, 0);
                for turn in 0.. {
                    let meant = match self {
                        // A timer, even one that is over, may wait for the next millisecond.
                        Self::Closed => Clock::now(),
                        Self::Paced => {
                            sleep(PAUSE).await;
                            Clock::now()
                        }
                        Self::Open => {
                            let meant = began + Duration::from_secs(1) * (turn * sessions + number) / RATE;
                            sleep_until(meant).await;
                            meant
                        }
                    };
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    failed += usize::from(session.run(&chance.write(rows)).await.is_err());
                    wrote += 1;
                    longest = longest.max(meant.elapsed());
                }
                (wrote, longest, failed)
            });
        }
        let started = Instant::now();
        let done = until.await;
        is_over.store(true, Ordering::Relaxed);
        let took = started.elapsed();
        let (mut all, mut longest, mut failed) = (0, Duration::ZERO, 0);
        for (wrote, its_longest, its_failed) in writers.join_all().await {
            all += wrote;
            longest = longest.max(its_longest);
            failed += its_failed;
        }
        (Wrote { rate: f64::from(all) / took.as_secs_f64(), longest, failed }, done)
    }
}

/// The same writes in every run.
struct Chance(u64);

impl Chance {
    /// Of <https://en.wikipedia.org/wiki/Xorshift>.
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }

    /// Seven updates, two inserts, one delete.
    fn write(&mut self, rows: u64) -> String {
        let (kind, id) = (self.next(10), 1 + self.next(rows));
        match kind {
            0 => format!("DELETE FROM bench.orders WHERE id = {id}"),
            1 | 2 => format!(
                "INSERT INTO bench.orders (customer_id, amount, note, code)
                 VALUES ({id}, {id} / 8, RPAD('new', 350, 'x'), 'new {id}')"
            ),
            _ => format!(
                "UPDATE bench.orders SET amount = amount + 1, customer_id = {id} % 977 WHERE id = {id}"
            ),
        }
    }
}
