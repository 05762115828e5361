//! The server: state behind a mutex, and tasks that carry statements out whether or not a client waits.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalogue::{Identity, State};
use super::client::stuck;
use super::config::Config;
use super::row::Shape;
use crate::Result;

/// The name of the table that simulations and conformance cases change.
pub const TABLE: &str = "items";

/// Another table, whose changes are in the same log and concern nobody.
pub const OTHER: &str = "others";

/// A handle on the server. All handles are the same server.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    /// Something happened that somebody may be waiting for. Not a `watch`, which wakes in random order.
    changed: Notify,
    /// Shared by every use of replank's records; alone while a swap keeps others from them.
    records_lock: Arc<RwLock<()>>,
}

impl Server {
    /// A server with [`TABLE`] and [`OTHER`], both empty.
    #[must_use]
    pub fn start(config: Config) -> Self {
        let mut state = State::new(config);
        let is_unique = state.wants_unique(Shape::Old);
        state.create_table(TABLE, Shape::Old, is_unique);
        state.create_table(OTHER, Shape::Old, false);
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            tasks: Mutex::new(JoinSet::new()),
            changed: Notify::new(),
            records_lock: Arc::new(RwLock::new(())),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is reported by itself; the state is still worth looking at.
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One atomic look at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.lock())
    }

    /// One atomic step that somebody may be waiting for.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let result = step(&mut self.lock());
        self.0.changed.notify_waiters();
        result
    }

    /// Waits until `check` finds what it looks for; `None` when the deadline comes first.
    pub(super) async fn until<T>(
        &self,
        deadline: Option<Instant>,
        mut check: impl FnMut(&mut State) -> Option<T> + Send,
    ) -> Option<T> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed.
            changed.as_mut().enable();
            if let Some(found) = self.look(&mut check) {
                return Some(found);
            }
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, changed).await.ok()?,
                None => changed.await,
            }
        }
    }

    /// Carries something out on the server, whatever becomes of the client.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.reap(&mut tasks);
        tasks.spawn(task);
    }

    /// Forgets tasks that have ended, but not that one of them panicked.
    fn reap(&self, tasks: &mut JoinSet<()>) {
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                self.look(|state| state.blame(format!("a server task panicked: {error}")));
            }
        }
    }

    /// Waits until nothing runs on the server any more.
    pub async fn quiesce(&self) {
        loop {
            {
                let mut tasks = self.0.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                self.reap(&mut tasks);
                if tasks.is_empty() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The server dies and comes back: what was committed stays, everything else is gone, locks included.
    pub fn restart(&self) {
        self.0.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).abort_all();
        self.step(|state| {
            state.note("server restarts");
            for index in 0..state.log.len() {
                state.show(index);
            }
            state.row_locks.clear();
            state.open.clear();
        });
    }

    /// The time that a statement takes between two of its steps.
    pub(super) async fn pause(&self) {
        let pause = stuck().unwrap_or_else(|| self.look(State::draw_pause));
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }

    /// Shares the metadata lock of whatever `find` finds, which is asked again once the lock is there.
    pub(super) async fn share(
        &self,
        find: impl Fn(&State) -> Result<Identity> + Send,
    ) -> Result<(Identity, OwnedRwLockReadGuard<()>)> {
        loop {
            let (identity, lock) = self.look(|state| {
                let identity = find(state)?;
                Ok::<_, crate::Error>((identity, state.table(identity).lock.clone()))
            })?;
            let guard = lock.read_owned().await;
            if self.look(|state| find(state))? == identity {
                return Ok((identity, guard));
            }
        }
    }

    /// Has the metadata lock alone; `None` when the deadline came first. Whoever asks later queues behind.
    pub(super) async fn exclude(
        &self,
        identity: Identity,
        deadline: Instant,
    ) -> Option<OwnedRwLockWriteGuard<()>> {
        let lock = self.look(|state| state.tables.get(&identity).map(|table| table.lock.clone()))?;
        tokio::time::timeout_at(deadline, lock.write_owned()).await.ok()
    }

    /// Shares the lock on replank's records.
    pub(super) async fn share_records(&self, deadline: Instant) -> Option<OwnedRwLockReadGuard<()>> {
        tokio::time::timeout_at(deadline, self.0.records_lock.clone().read_owned()).await.ok()
    }

    /// Has replank's records alone, if nobody uses them now or until the deadline.
    pub(super) async fn exclude_records(&self, deadline: Instant) -> Option<OwnedRwLockWriteGuard<()>> {
        tokio::time::timeout_at(deadline, self.0.records_lock.clone().write_owned()).await.ok()
    }

    /// Every call and what became of it, in order.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.look(|state| state.trace.clone())
    }

    /// No more faults from now on: what was started can end.
    pub fn calm(&self) {
        self.look(|state| state.faults_left = 0);
    }
}
