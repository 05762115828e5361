//! A client's side of a call: sent, carried out by the server, answered; and all that can go wrong on
//! the way. A client that dies leaves the statement behind, and the server goes on with it.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::catalogue::State;
use super::error;
use super::server::Server;
use crate::Result;

/// What a process that uses the driver looks like to the server.
#[derive(Clone)]
pub struct Client {
    pub(super) server: Server,
    pub(super) number: usize,
    died: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct ClientState {
    calls: u64,
    doom: Option<Doom>,
    is_dead: bool,
    /// Its host can tell that it is dead.
    is_known_dead: bool,
    frozen_until: Option<Instant>,
}

/// What will happen to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// It is killed at its `call`th call.
    Crash {
        /// Counted from 1.
        call: u64,
        /// Before the call is sent, after it, or after the reply.
        moment: Moment,
        /// Another process of the host can see that it is dead.
        is_known: bool,
    },
    /// It stands still, as under SIGSTOP, from its `call`th call on.
    Freeze {
        /// Counted from 1.
        call: u64,
        /// Before the call is sent, after it, or after the reply.
        moment: Moment,
        /// For how long.
        lasts: Duration,
    },
}

/// When in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing was sent.
    BeforeSending,
    /// The server has it; nobody hears the answer.
    AfterSending,
    /// The answer has arrived, and nothing was done about it.
    AfterReply,
}

/// What kind of call it is: which faults make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Records,
    Feed,
    Swap,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Plain,
    RolledBack,
    LostBefore,
    /// Carried out this much later; the client hears at once that the connection is gone.
    LostAfter(Duration),
    /// The same, but it stands still for so long in the middle: what it read is old when it writes.
    Stuck(Duration),
    /// Carried out and answered this much later.
    Slow(Duration),
}

tokio::task_local! {
    /// How long this statement will stand still at its next pause.
    static STUCK: Cell<Option<Duration>>;
}

/// The time that a statement stands still here, if that is its fate.
pub(super) fn stuck() -> Option<Duration> {
    // Only statements have a fate; applications do without.
    STUCK.try_with(Cell::take).ok().flatten()
}

impl Client {
    pub(super) fn new(server: Server) -> Self {
        let number = server.look(|state| {
            state.clients.push(ClientState::default());
            state.clients.len() - 1
        });
        Self { server, number, died: Arc::new(Notify::new()) }
    }

    /// Decides what will happen to this client.
    pub fn doom(&self, doom: Doom) {
        self.server.look(|state| state.clients[self.number].doom = Some(doom));
    }

    /// Ends when the client has died: its future is then to be dropped, in the middle of its call.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// Dies now.
    pub fn kill(&self, is_known: bool) {
        self.server.look(|state| state.kill(self.number, is_known));
        self.died.notify_one();
    }

    /// Until when the client stands still, if it does.
    #[must_use]
    pub fn frozen_until(&self) -> Option<Instant> {
        self.server
            .look(|state| state.clients[self.number].frozen_until)
            .filter(|until| *until > Instant::now())
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.server.look(|state| state.clients[self.number].calls)
    }

    /// Lets nothing pass while the client stands still, and never again once it is dead.
    async fn gate(&self) {
        loop {
            if self.server.look(|state| state.clients[self.number].is_dead) {
                return std::future::pending().await;
            }
            match self.frozen_until() {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Has `work` carried out by the server. `what` goes into the trace: no run ids, which differ from one
    /// simulation to the next.
    pub(super) async fn call<T, Work>(
        &self,
        kind: Kind,
        what: String,
        work: impl FnOnce(Server) -> Work,
    ) -> Result<T>
    where
        T: Send + 'static,
        Work: Future<Output = Result<T>> + Send + 'static,
    {
        self.gate().await;
        let (call, fate, rest) = self.server.look(|state| state.begin_call(self.number, kind, &what));
        self.meet(call, Moment::BeforeSending).await;
        match fate {
            Fate::RolledBack => {
                tokio::time::sleep(rest).await;
                return Err(error::rolled_back());
            }
            Fate::LostBefore => {
                tokio::time::sleep(rest).await;
                return Err(error::lost());
            }
            Fate::Plain | Fate::LostAfter(_) | Fate::Stuck(_) | Fate::Slow(_) => {}
        }
        let (answer, answered) = oneshot::channel();
        let work = work(self.server.clone());
        let server = self.server.clone();
        let number = self.number;
        self.server.spawn(async move {
            match fate {
                Fate::LostAfter(late) | Fate::Slow(late) => tokio::time::sleep(late).await,
                _ => server.pause().await,
            }
            let stuck = if let Fate::Stuck(for_long) = fate { Some(for_long) } else { None };
            let result = STUCK.scope(Cell::new(stuck), work).await;
            server.look(|state| {
                let outcome =
                    result.as_ref().map_or_else(|error| format!("{:?}", error.kind()), |_| "ok".into());
                state.note(&format!("client {number} call {call} -> {outcome}"));
            });
            // Nobody waits for the answer of a statement that was left behind.
            drop(answer.send(result));
        });
        self.meet(call, Moment::AfterSending).await;
        let result = if let Fate::LostAfter(_) | Fate::Stuck(_) = fate {
            tokio::time::sleep(rest).await;
            Err(error::lost())
        } else {
            // The task is gone without an answer when the server died.
            answered.await.unwrap_or_else(|_| Err(error::lost()))
        };
        self.meet(call, Moment::AfterReply).await;
        self.gate().await;
        result
    }

    /// The doom of this client, if its moment has come.
    async fn meet(&self, call: u64, now: Moment) {
        let doom = self.server.look(|state| state.clients[self.number].doom);
        match doom {
            Some(Doom::Crash { call: at, moment, is_known }) if at == call && moment == now => {
                self.kill(is_known);
                self.gate().await;
            }
            Some(Doom::Freeze { call: at, moment, lasts }) if at == call && moment == now => {
                self.server.look(|state| {
                    state.clients[self.number].doom = None;
                    state.clients[self.number].frozen_until = Some(Instant::now() + lasts);
                    state.note(&format!("client {} stands still for {lasts:?}", self.number));
                });
                self.gate().await;
            }
            _ => {}
        }
    }
}

// A simulation with so many calls does not get anywhere any more. Chosen; ordinary ones have some hundred.
const CALLS_MAX: u64 = 300_000;

impl State {
    fn kill(&mut self, client: usize, is_known: bool) {
        self.note(&format!("client {client} dies"));
        self.clients[client].is_dead = true;
        self.clients[client].is_known_dead = is_known;
    }

    pub(super) fn is_known_dead(&self, client: usize) -> bool {
        self.clients[client].is_known_dead
    }

    fn begin_call(&mut self, client: usize, kind: Kind, what: &str) -> (u64, Fate, Duration) {
        self.clients[client].calls += 1;
        let call = self.clients[client].calls;
        if call == CALLS_MAX {
            self.violations.push(format!("client {client} called {CALLS_MAX} times and goes on"));
            self.kill(client, false);
        }
        if kind != Kind::Records {
            self.last_call = Instant::now();
        }
        let fate = self.draw_last_fate(client, call).unwrap_or_else(|| self.draw_fate(kind));
        let rest = Duration::from_millis(self.chance.between(1, 40));
        let shown = if fate == Fate::Plain { String::new() } else { format!(" [{fate:?}]") };
        self.note(&format!("client {client} call {call}: {what}{shown}"));
        (call, fate, rest)
    }

    /// The statement that a client has just sent when it dies may stand still for as long as it takes another
    /// one to take over, and longer.
    fn draw_last_fate(&mut self, client: usize, call: u64) -> Option<Fate> {
        let is_last = matches!(
            self.clients[client].doom,
            Some(Doom::Crash { call: at, moment: Moment::AfterSending, .. }) if at == call
        );
        let for_long = Duration::from_millis(self.chance.between(100, 60_000));
        (is_last && self.config.faults.one_in > 0).then_some(Fate::Stuck(for_long))
    }

    fn draw_fate(&mut self, kind: Kind) -> Fate {
        if self.faults_left == 0 || !self.chance.one_in(self.config.faults.one_in) {
            return Fate::Plain;
        }
        self.faults_left -= 1;
        // Up to four times the life of a lease: late enough to meet the runner after the next.
        let late = Duration::from_millis(match self.chance.below(4) {
            0 => self.chance.between(1, 100),
            1 => self.chance.between(100, 5_000),
            2 => self.chance.between(5_000, 31_000),
            _ => self.chance.between(31_000, 120_000),
        });
        match (kind, self.chance.below(10)) {
            (Kind::Feed, 0 | 1) => Fate::Slow(late.min(Duration::from_secs(5))),
            (Kind::Feed, _) => Fate::LostBefore,
            // Under the swap's lock every delay is felt by writers; the budget must bear short ones.
            (Kind::Swap, 0) => Fate::Slow(late),
            (Kind::Swap, 1) => Fate::RolledBack,
            (_, 0 | 1) => Fate::RolledBack,
            (_, 2) => Fate::LostBefore,
            (_, 3 | 4) => Fate::Slow(late),
            (Kind::Write, 5..8) => Fate::Stuck(late.min(Duration::from_secs(60))),
            (_, _) => Fate::LostAfter(late),
        }
    }

    /// How long a statement takes between two steps: mostly no time at all, only a place in the queue.
    pub(super) fn draw_pause(&mut self) -> Duration {
        if !self.config.has_delays {
            return Duration::ZERO;
        }
        Duration::from_millis(match self.chance.below(40) {
            0..24 => 0,
            24..36 => self.chance.between(1, 3),
            36..39 => self.chance.between(4, 25),
            _ => self.chance.between(25, 200),
        })
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: &str) {
        let ms = self.started.elapsed().as_millis();
        let line = format!("{ms:>7} {line}");
        if self.config.is_loud {
            eprintln!("{line}");
        }
        self.trace.push(line);
    }

    /// Notes that a promise was broken.
    pub(super) fn blame(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(&format!("VIOLATION: {what}"));
        self.violations.push(what);
    }
}
