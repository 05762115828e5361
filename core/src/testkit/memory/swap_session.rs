//! The session that holds the swap's lock, on the server: it goes on when its client is gone, until it
//! notices, and it gives the lock back by itself when a swap takes too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, mpsc, oneshot};
use tokio::time::Instant;

use super::catalogue::{Identity, State, written_name};
use super::config::Mutant;
use super::row::{Rows, Shape};
use super::server::Server;
use super::statement::{compared_keys, write_rows};
use super::{error, log};
use crate::driver::{Applied, Compared, RebuildJob, Revision};
use crate::run::{Direction, Run};
use crate::value::{Change, Key, Position};
use crate::{Error, ErrorKind, Result};

type Answer<T> = oneshot::Sender<Result<T>>;

/// What a client asks of the session.
pub(super) enum Ask {
    Head(Answer<Position>),
    Apply(Vec<Change>, Answer<Applied>),
    CompareKeys(Vec<Key>, Answer<Compared>),
    InstallReverse(Answer<Position>),
    Save(Box<Run>, Revision, Answer<Revision>),
    Commit(Answer<()>),
    Release(Answer<()>),
}

/// The server gives the lock back after this many budgets. Chosen: the engine keeps one; what goes on for
/// longer has lost its client.
const WATCHDOG_BUDGETS: u32 = 5;

struct SwapSession {
    server: Server,
    job: RebuildJob,
    source: Identity,
    written: Identity,
    /// The written table's rows, where nothing is written before the commit.
    own_rows: Rows,
    /// Likewise: each with the revision that it expects.
    own_saves: Vec<(Box<Run>, Revision)>,
    is_transaction: bool,
    /// Where the reverse feed begins, once it is asked for.
    reverse_start: Option<usize>,
    is_committed: bool,
    locks: Option<Locks>,
}

struct Locks {
    _live: OwnedRwLockWriteGuard<()>,
    _written: OwnedRwLockWriteGuard<()>,
    _records: Option<OwnedRwLockWriteGuard<()>>,
}

/// Takes the lock, or fails having changed nothing. The session ends when all senders are gone.
pub(super) async fn lock(server: Server, job: RebuildJob, budget: Duration) -> Result<mpsc::Sender<Ask>> {
    let deadline = Instant::now() + budget;
    let (source, written) =
        server.look(|state| Ok::<_, Error>((state.source(&job)?, state.written(&job)?)))?;
    let live_lock = server.exclude(source, deadline).await.ok_or_else(|| error::locked(&job.table.name))?;
    let written_lock =
        server.exclude(written, deadline).await.ok_or_else(|| error::locked("written table"))?;
    let records_lock = if server.look(|state| state.config.swap_locks_state) {
        Some(server.exclude_records(deadline).await.ok_or_else(|| error::locked("records"))?)
    } else {
        None
    };
    // Everything may be different from what it was before the wait.
    let (own_rows, is_transaction) = server.look(|state| {
        state.records.check_token(&job.table, job.fence)?;
        if (state.source(&job)?, state.written(&job)?) != (source, written) {
            return Err(Error::new(ErrorKind::NotFound, "the tables are others by now"));
        }
        state.check_source(&job)?;
        Ok((state.table(written).rows.clone(), state.config.swap_is_transaction))
    })?;
    let (sender, receiver) = mpsc::channel(1);
    let session = SwapSession {
        server: server.clone(),
        job,
        source,
        written,
        own_rows,
        own_saves: Vec::new(),
        is_transaction,
        reverse_start: None,
        is_committed: false,
        locks: Some(Locks { _live: live_lock, _written: written_lock, _records: records_lock }),
    };
    server.spawn(session.serve(receiver, Instant::now() + budget * WATCHDOG_BUDGETS));
    Ok(sender)
}

impl SwapSession {
    async fn serve(mut self, mut asks: mpsc::Receiver<Ask>, watchdog: Instant) {
        loop {
            match tokio::time::timeout_at(watchdog, asks.recv()).await {
                Ok(Some(Ask::Release(answer))) => {
                    self.end();
                    drop(answer.send(Ok(())));
                    return;
                }
                Ok(Some(ask)) => {
                    // Short steps: while they last, writers wait.
                    tokio::task::yield_now().await;
                    self.answer(ask);
                }
                Ok(None) => {
                    // How long a server needs to notice that a client is gone. Chosen.
                    let notices = self.server.look(|state| state.chance.between(0, 50));
                    tokio::time::sleep(Duration::from_millis(notices)).await;
                    self.end();
                    return;
                }
                Err(_) => {
                    self.server.look(|state| state.note("the swap's lock is given back by the server"));
                    asks.close();
                    self.end();
                    while let Ok(ask) = asks.try_recv() {
                        if let Ask::Commit(answer) = ask {
                            drop(answer.send(Err(super::cut_over::too_late())));
                        }
                    }
                    return;
                }
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        // An answer that nobody waits for is dropped: the client is gone, the step is done.
        match ask {
            Ask::Head(answer) => {
                drop(answer.send(Ok(self.server.look(|state| log::position(state.log.len())))));
            }
            Ask::Apply(changes, answer) => drop(answer.send(self.apply(&changes))),
            Ask::CompareKeys(keys, answer) => drop(answer.send(Ok(self.compare(&keys)))),
            Ask::InstallReverse(answer) => drop(answer.send(Ok(self.install_reverse()))),
            Ask::Save(run, expected, answer) => drop(answer.send(self.save(run, expected))),
            Ask::Commit(answer) => drop(answer.send(self.commit())),
            Ask::Release(answer) => drop(answer.send(Ok(()))),
        }
    }

    fn shapes(&self, state: &State) -> (Shape, Shape) {
        (state.table(self.source).shape, state.table(self.written).shape)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Applied> {
        if self.is_committed {
            return Err(Error::new(ErrorKind::Internal, "nothing is applied after the swap"));
        }
        let (source, written, is_transaction) = (self.source, self.written, self.is_transaction);
        let rows = &mut self.own_rows;
        let applied = self.server.step(|state| {
            let (from, to) = (state.table(source).shape, state.table(written).shape);
            let is_unique = state.table(written).is_unique;
            let snapshot = state.table(source).rows.clone();
            let applied = write_rows(state, rows, to, is_unique, &snapshot, from, changes);
            if !is_transaction {
                state.table_mut(written).rows = Arc::clone(rows);
            }
            applied
        });
        Ok(applied)
    }

    fn compare(&self, keys: &[Key]) -> Compared {
        self.server.look(|state| {
            let (from, to) = self.shapes(state);
            let source = &state.table(self.source).rows;
            compared_keys((source, from), (&self.own_rows, to), state.config.pace.lanes, keys)
        })
    }

    /// The lock is held: what is captured from the release on is the same as what is captured from now on.
    fn install_reverse(&mut self) -> Position {
        let start = self.server.look(|state| state.log.len());
        self.reverse_start = Some(start);
        let is_late = self.server.look(|state| state.config.mutant) == Some(Mutant::ReverseInstalledLate);
        if is_late {
            self.capture_reverse(usize::MAX);
        } else if !self.is_transaction {
            self.capture_reverse(start);
        }
        log::position(start)
    }

    fn capture_reverse(&self, start: usize) {
        let direction = opposite(self.job.direction);
        self.server.step(|state| state.install_capture(&self.job.run, direction, self.written, start));
    }

    fn save(&mut self, run: Box<Run>, expected: Revision) -> Result<Revision> {
        if !self.is_transaction || self.is_committed {
            return self.server.step(|state| {
                let revision = state.records.save(&run, expected, self.job.fence)?;
                // Not looked at: it says what will be true at the release.
                Ok(revision)
            });
        }
        // Saves of one transaction build on one another.
        let known = match self.own_saves.last() {
            Some((_, before)) => Some(Revision(before.0 + 1)),
            None => self.server.look(|state| state.records.load(&run.id).map(|(_, revision)| revision)),
        };
        if known != Some(expected) {
            return Err(Error::new(ErrorKind::Fenced, "another runner saved the run"));
        }
        self.own_saves.push((run, expected));
        Ok(Revision(expected.0 + 1))
    }

    fn commit(&mut self) -> Result<()> {
        if self.is_committed {
            return Err(Error::new(ErrorKind::Internal, "a swap is committed once"));
        }
        if self.is_transaction {
            self.server.step(|state| {
                for (run, expected) in &self.own_saves {
                    state.records.save(run, *expected, self.job.fence)?;
                }
                state.table_mut(self.written).rows = self.own_rows.clone();
                Ok::<_, Error>(())
            })?;
        }
        self.server.step(|state| {
            state.note("the tables are swapped");
            let live = self.job.table.name.clone();
            let retired = written_name(&self.job.run, opposite(self.job.direction), self.job.fence);
            // The capture of this direction has done its work.
            let (run, done) = (&self.job.run, self.job.direction);
            state.captures.retain(|capture| capture.run != *run || capture.direction != done);
            state.rename(self.source, retired);
            state.rename(self.written, live);
        });
        self.is_committed = true;
        if self.is_transaction {
            self.end();
        }
        Ok(())
    }

    /// Gives the lock back. Called once more after a commit that gave it back, it changes nothing.
    fn end(&mut self) {
        let Some(locks) = self.locks.take() else { return };
        let is_late = self.server.look(|state| state.config.mutant) == Some(Mutant::ReverseInstalledLate);
        match self.reverse_start.filter(|_| self.is_committed) {
            Some(_) if is_late => {
                let late = self.clone_for_capture();
                self.server.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    late.capture_reverse(late.server.look(|state| state.log.len()));
                });
            }
            Some(start) if self.is_transaction => self.capture_reverse(start),
            _ => {}
        }
        drop(locks);
    }

    fn clone_for_capture(&self) -> Self {
        Self {
            server: self.server.clone(),
            job: self.job.clone(),
            own_rows: Rows::default(),
            own_saves: Vec::new(),
            locks: None,
            ..*self
        }
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Forward => Direction::Reverse,
        Direction::Reverse => Direction::Forward,
    }
}
