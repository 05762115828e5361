//! A rebuild, set up as the engine would do it, for a case to work on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::fixture::{Fixture, Write};
use crate::driver::{
    ChangeFeed, Effort, FeedBatch, LeaseHolder, Rebuild, RebuildJob, Revision, Session, SwapGuard,
    SwapOutcome,
};
use crate::ident::{Fence, RunId};
use crate::plan::{PlanOptions, Strategy, choose};
use crate::run::{Checkpoint, Direction, Run, RunOptions, RunState};
use crate::value::{Bounds, Change, Position};

/// Long enough for a slow test machine; what it guards never needs it.
pub(super) const LOCK_BUDGET: Duration = Duration::from_secs(2);

/// As long as a lease of the engine's.
pub(super) const TTL: Duration = Duration::from_secs(30);

/// A rebuild in the middle of its work.
pub struct Rig<'a> {
    pub(super) fixture: &'a dyn Fixture,
    pub(super) session: Arc<dyn Session>,
    pub(super) run: Run,
    pub(super) revision: Revision,
    pub(super) job: RebuildJob,
    pub(super) rebuild: Arc<dyn Rebuild>,
}

pub(super) fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn holder(run: &RunId) -> LeaseHolder {
    LeaseHolder { host: "a host".into(), boot: "a boot".into(), pid: 7, started: 7, run: run.clone() }
}

/// A run of the fixture's change that nobody has begun.
pub(super) async fn run_of(fixture: &dyn Fixture, session: &dyn Session) -> Run {
    let draft = session.draft(&fixture.change()).await.expect("the change is understood");
    let options =
        PlanOptions { strategy: Some(Strategy::Shadow), revertible: true, ..PlanOptions::default() };
    let plan = choose(&draft, &[], &PlanOptions { lock_budget: LOCK_BUDGET, ..options })
        .expect("the change can be made by a rebuild")
        .plan;
    Run {
        id: RunId::random(),
        table: plan.table.id.clone(),
        statement: plan.statement.clone(),
        plan,
        options: RunOptions::default(),
        state: RunState::Planned,
        resume_state: None,
        direction: Direction::Forward,
        fence: Fence(0),
        checkpoint: Checkpoint::default(),
        steps_done: 0,
        ranges: None,
        reverse_position: None,
        format: Default::default(),
        is_swapped_back: false,
        cutover_requested: false,
        takes_back: None,
        migration: None,
        note: None,
        started: Timestamp::UNIX_EPOCH,
        ended: None,
    }
}

impl<'a> Rig<'a> {
    /// The table has these rows, and the run has the lease; nothing else is there.
    pub(super) async fn new(fixture: &'a dyn Fixture, rows: &[(&'static str, &'static str)]) -> Self {
        let inserts: Vec<Write> = rows.iter().map(|(key, value)| Write::Insert(key, value)).collect();
        if !inserts.is_empty() {
            fixture.write(&fixture.table(), &inserts).await;
        }
        let session = fixture.session().await;
        let mut run = run_of(fixture, session.as_ref()).await;
        let state = session.state();
        state.ensure().await.expect("the records can be made");
        let token =
            state.take_lease(&run.table, None, &holder(&run.id), TTL).await.expect("the lease is read");
        run.fence = token.expect("nobody had the lease");
        let revision = state.create(&run).await.expect("the run is new");
        let job = RebuildJob {
            run: run.id.clone(),
            table: run.table.clone(),
            direction: Direction::Forward,
            fence: run.fence,
            revertible: true,
            // No sentence is about how fast a machine is.
            fence_budget: Duration::from_secs(5),
            spec: run.plan.spec.clone(),
        };
        let rebuild = open(session.as_ref(), &job).await;
        Self { fixture, session, run, revision, job, rebuild }
    }

    /// The table has these rows, and the shadow is made.
    ///
    /// # Panics
    /// When the driver refuses.
    pub async fn prepared(fixture: &'a dyn Fixture, rows: &[(&'static str, &'static str)]) -> Self {
        let rig = Self::new(fixture, rows).await;
        rig.rebuild.prepare().await.expect("the shadow is made");
        rig
    }

    /// The same, with every row copied and every index built.
    pub(super) async fn copied(fixture: &'a dyn Fixture, rows: &[(&'static str, &'static str)]) -> Self {
        let rig = Self::prepared(fixture, rows).await;
        rig.rebuild.copy(&Bounds::all()).await.expect("the rows are copied");
        for index in rig.rebuild.deferred_indexes().await.expect("the indexes are listed") {
            rig.rebuild.build_index(&index, Effort::Gentle).await.expect("the index is built");
        }
        rig
    }

    pub(super) async fn write(&self, writes: &[Write]) {
        self.fixture.write(&self.fixture.table(), writes).await;
    }

    pub(super) async fn live(&self) -> Vec<(String, String)> {
        self.fixture.rows(&self.fixture.table()).await
    }

    pub(super) async fn written(&self) -> Vec<(String, String)> {
        self.fixture.rows(&self.fixture.written(&self.job)).await
    }

    /// Does something to the written table that the rebuild does not know of.
    pub(super) async fn damage(&self, writes: &[Write]) {
        self.fixture.write(&self.fixture.written(&self.job), writes).await;
    }

    /// Where the server's log is now.
    ///
    /// # Panics
    /// When the driver refuses.
    pub async fn head(&self) -> Position {
        self.rebuild.head().await.expect("the head is read")
    }

    /// The changes from a position on.
    ///
    /// # Panics
    /// When the driver refuses.
    pub async fn feed(&self, from: &Position) -> Box<dyn ChangeFeed> {
        self.rebuild.open_feed(from).await.expect("the feed opens")
    }

    /// Everything from the feed's place up to the head as it is now, and the last position.
    ///
    /// # Panics
    /// When the feed does not get there.
    pub async fn drain(&self, feed: &mut dyn ChangeFeed) -> (Vec<Change>, Position) {
        let goal = self.head().await;
        drain(self.rebuild.as_ref(), feed, &goal).await
    }

    /// Does `writes` and gives back the changes that the feed hands out for them.
    pub(super) async fn changes_of(&self, writes: &[Write]) -> Vec<Change> {
        let from = self.head().await;
        self.write(writes).await;
        self.drain(self.feed(&from).await.as_mut()).await.0
    }

    /// Hands the lease to another holder, as a takeover does.
    pub(super) async fn next_token(&self) -> Fence {
        let state = self.session.state();
        let lease = state.lease(&self.job.table).await.expect("the lease is read").expect("it was taken");
        state
            .take_lease(&self.job.table, Some(lease.token), &holder(&self.job.run), TTL)
            .await
            .expect("the lease is written")
            .expect("nobody was faster")
    }

    /// The lock of the swap.
    ///
    /// # Panics
    /// When the driver refuses.
    pub async fn lock(&self) -> Box<dyn SwapGuard> {
        self.rebuild.cut_over().lock(LOCK_BUDGET).await.expect("the lock is free")
    }

    /// Swaps with a reverse feed, and gives back its first position.
    pub(super) async fn swap(&self) -> Position {
        let mut guard = self.lock().await;
        let position = guard.install_reverse().await.expect("the reverse feed is made");
        let outcome = guard.commit().await;
        assert!(matches!(outcome, SwapOutcome::Done), "the swap is done: {outcome:?}");
        guard.release().await.expect("the lock is given back");
        position
    }

    /// The rebuild the other way round, after a swap.
    pub(super) async fn reversed(&self) -> (RebuildJob, Arc<dyn Rebuild>) {
        let job = RebuildJob { direction: Direction::Reverse, ..self.job.clone() };
        let rebuild = open(self.session.as_ref(), &job).await;
        (job, rebuild)
    }
}

pub(super) async fn open(session: &dyn Session, job: &RebuildJob) -> Arc<dyn Rebuild> {
    let rebuilder = session.rebuilder().expect("the driver rebuilds tables");
    rebuilder.open(job).await.expect("the rebuild opens")
}

/// Pulls until the feed has passed `goal`.
pub(super) async fn drain(
    rebuild: &dyn Rebuild,
    feed: &mut dyn ChangeFeed,
    goal: &Position,
) -> (Vec<Change>, Position) {
    let mut changes = Vec::new();
    // A feed that never gets there is a failure and not a hang.
    for _ in 0..1000 {
        let batch: FeedBatch = feed.next(100, Duration::from_millis(200)).await.expect("the feed goes on");
        changes.extend(batch.changes);
        if let Some(position) = batch.position
            && rebuild.reached(&position, goal)
        {
            return (changes, position);
        }
    }
    panic!("the feed does not reach {goal:?}");
}

pub(super) fn keys(changes: &[Change]) -> BTreeSet<String> {
    changes.iter().map(|change| change.key.0.clone()).collect()
}
