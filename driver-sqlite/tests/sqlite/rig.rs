//! A rebuild driven by hand, step by step, as the engine would.

use std::sync::Arc;
use std::time::Duration;

use replank_core::driver::{
    Compared, LeaseHolder, Rebuild, RebuildJob, Request, Revision, Session, SwapGuard, SwapOutcome,
};
use replank_core::ident::{Fence, RunId};
use replank_core::plan::{Draft, Plan, PlanOptions, Strategy, choose};
use replank_core::run::{Checkpoint, Direction, Run, RunOptions, RunState};
use replank_core::value::{Bounds, Change, Position};
use replank_core::{Error, ErrorKind};

use super::application::Database;

/// What a person gets by default, and a slow test machine needs more.
pub const LOCK_BUDGET: Duration = Duration::from_secs(5);

pub fn statement(text: &str) -> Request {
    Request::Statement { text: text.to_owned(), forward: Vec::new(), reverse: Vec::new(), capture: None }
}

pub async fn draft(database: &Database, text: &str) -> Result<Draft, Error> {
    database.session().await.draft(&statement(text)).await
}

/// The plan of a rebuild, whatever SQLite could do by itself.
pub fn shadow_plan(draft: &Draft, revertible: bool) -> Result<Plan, Error> {
    let options = PlanOptions {
        strategy: Some(Strategy::Shadow),
        revertible,
        lock_budget: LOCK_BUDGET,
        ..PlanOptions::default()
    };
    choose(draft, &[], &options).map(|choice| choice.plan)
}

pub struct Rig {
    pub session: Arc<dyn Session>,
    pub run: Run,
    pub revision: Revision,
    pub job: RebuildJob,
    pub rebuild: Arc<dyn Rebuild>,
    /// Everything at or before it is applied.
    pub position: Position,
}

impl Rig {
    /// The shadow is made and nothing is copied.
    pub async fn prepared(database: &Database, text: &str) -> Self {
        Self::of(database, &statement(text)).await
    }

    pub async fn of(database: &Database, request: &Request) -> Self {
        let session = database.session().await;
        let draft = session.draft(request).await.expect("the statement is understood");
        let plan = shadow_plan(&draft, true).expect("a rebuild is possible");
        let id = RunId::random();
        let state = session.state();
        state.ensure().await.expect("the records are made");
        let seen = state.lease(&plan.table.id).await.expect("the lease is read").map(|lease| lease.token);
        let fence = state
            .take_lease(&plan.table.id, seen, &holder(&id), Duration::from_secs(60))
            .await
            .expect("the lease is written")
            .expect("nobody else wants it");
        let run = Run {
            id,
            table: plan.table.id.clone(),
            statement: plan.statement.clone(),
            plan,
            options: RunOptions::default(),
            state: RunState::Copying,
            resume_state: None,
            direction: Direction::Forward,
            fence,
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
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        };
        let revision = state.create(&run).await.expect("the run is new");
        let job = RebuildJob {
            run: run.id.clone(),
            table: run.table.clone(),
            direction: Direction::Forward,
            fence,
            revertible: true,
            // No sentence is about how fast a machine is.
            fence_budget: Duration::from_secs(5),
            spec: run.plan.spec.clone(),
        };
        let rebuild = open(session.as_ref(), &job).await;
        rebuild.prepare().await.expect("the shadow is made");
        let position = rebuild.head().await.expect("the head is read");
        Self { session, run, revision, job, rebuild, position }
    }

    /// Copies every row, in chunks.
    pub async fn copy(&self, rows: u64) -> Vec<Change> {
        let mut displaced = Vec::new();
        let mut lower = None;
        loop {
            let upper = self.rebuild.next_bound(lower.as_ref(), rows).await.expect("the bound is read");
            let bounds = Bounds { lower: lower.clone(), upper: upper.clone() };
            displaced.extend(self.rebuild.copy(&bounds).await.expect("the chunk is copied").displaced);
            if upper.is_none() {
                return displaced;
            }
            lower = upper;
        }
    }

    /// Everything that was logged since the last call, not applied.
    pub async fn pull(&mut self) -> Vec<Change> {
        let goal = self.rebuild.head().await.expect("the head is read");
        let mut feed = self.rebuild.open_feed(&self.position).await.expect("the feed opens");
        let mut changes = Vec::new();
        while !self.rebuild.reached(&self.position, &goal) {
            let batch = feed.next(7, Duration::from_millis(50)).await.expect("the feed goes on");
            changes.extend(batch.changes);
            self.position = batch.position.expect("every batch of this driver ends somewhere");
        }
        changes
    }

    /// Brings the written table up to the head, displaced rows included.
    pub async fn catch_up(&mut self) {
        self.catch_up_with(Vec::new()).await;
    }

    /// The same, with rows that were left out before: behind a head that is read after that.
    pub async fn catch_up_with(&mut self, displaced: Vec<Change>) {
        let mut changes = self.pull().await;
        changes.extend(displaced);
        self.apply(changes).await;
        self.rebuild.forget(&self.position).await.expect("the log is shortened");
    }

    /// Applies in batches, and what they displace again.
    pub async fn apply(&self, changes: Vec<Change>) {
        let mut open = changes;
        for _ in 0..100 {
            if open.is_empty() {
                return;
            }
            let mut displaced = Vec::new();
            for batch in open.chunks(5) {
                displaced.extend(self.rebuild.apply(batch).await.expect("the batch is applied").displaced);
            }
            open = displaced;
        }
        panic!("rows keep displacing each other: {open:?}");
    }

    pub async fn compare(&self) -> Compared {
        self.rebuild.compare(&Bounds::all()).await.expect("the tables are compared")
    }

    /// Fails unless both tables are equal and not empty.
    pub async fn assert_equal(&self) {
        let compared = self.compare().await;
        assert_eq!(compared.differing, [], "rows differ");
        assert!(compared.rows > 0, "nothing was compared");
    }

    pub async fn lock(&self) -> Box<dyn SwapGuard> {
        self.rebuild.cut_over().lock(LOCK_BUDGET).await.expect("the lock is granted")
    }

    /// Drains under the lock and swaps; with a reverse feed on the way there.
    pub async fn swap(&mut self) {
        let mut guard = self.lock().await;
        let head = guard.head().await.expect("the head is read");
        let mut feed = self.rebuild.open_feed(&self.position).await.expect("the feed opens");
        while !self.rebuild.reached(&self.position, &head) {
            let batch = feed.next(50, Duration::from_millis(50)).await.expect("the feed goes on");
            self.position = batch.position.expect("every batch of this driver ends somewhere");
            let mut open = batch.changes;
            while !open.is_empty() {
                let applied = guard.apply(&open).await.expect("changes are applied");
                let keys: Vec<_> = open.iter().map(|change| change.key.clone()).collect();
                open = applied.displaced;
                if open.is_empty() {
                    let compared = guard.compare_keys(&keys).await.expect("keys are compared");
                    assert_eq!(compared.differing, [], "rows differ under the lock");
                }
            }
        }
        let position = match self.job.direction {
            Direction::Forward => Some(guard.install_reverse().await.expect("the reverse feed is made")),
            Direction::Reverse => None,
        };
        self.run.state = RunState::Reversible;
        self.run.reverse_position.clone_from(&position);
        self.revision = guard.save(&self.run, self.revision).await.expect("the run is saved");
        let outcome = guard.commit().await;
        assert!(matches!(outcome, SwapOutcome::Done), "{outcome:?}");
        guard.release().await.expect("the lock is given back");
        if let Some(position) = position {
            self.position = position;
        }
    }

    /// The same rebuild the other way round.
    pub async fn reversed(mut self) -> Self {
        self.job.direction = Direction::Reverse;
        self.rebuild = open(self.session.as_ref(), &self.job).await;
        self
    }

    /// Another runner takes over, with a new token.
    pub async fn take_over(&mut self) -> Fence {
        let state = self.session.state();
        let lease = state.lease(&self.job.table).await.expect("the lease is read").expect("there is one");
        let token = state
            .take_lease(&self.job.table, Some(lease.token), &holder(&self.run.id), Duration::from_secs(60))
            .await
            .expect("the lease is written")
            .expect("nobody else wants it");
        self.job.fence = token;
        self.rebuild = open(self.session.as_ref(), &self.job).await;
        token
    }

    pub fn shadow(&self) -> String {
        replank_core::ident::helper_name(&self.job.run, self.job.fence, replank_core::ident::Role::Shadow)
    }

    pub fn retired(&self) -> String {
        replank_core::ident::helper_name(&self.job.run, self.job.fence, replank_core::ident::Role::Retired)
    }
}

pub fn holder(run: &RunId) -> LeaseHolder {
    LeaseHolder { host: "here".into(), boot: "now".into(), pid: 1, started: 1, run: run.clone() }
}

pub async fn open(session: &dyn Session, job: &RebuildJob) -> Arc<dyn Rebuild> {
    session.rebuilder().expect("this driver rebuilds").open(job).await.expect("the rebuild opens")
}

/// The changes' keys, in a form for a person.
pub fn keys(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.key.0.clone()).collect()
}

pub fn is_gap(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::FeedGap | ErrorKind::ForeignDdl)
}
