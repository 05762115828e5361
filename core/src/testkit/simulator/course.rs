//! The course of a simulation: runner after runner, until the change has come to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::scenario::{Ending, Scenario};
use super::{Outcome, Statistics};
use crate::control::Control;
use crate::driver::{Request, Session};
use crate::engine::Runner;
use crate::event::Silent;
use crate::ident::RunId;
use crate::plan::{Plan, PlanOptions, choose};
use crate::run::{CutoverGate, Run, RunState};
use crate::testkit::chance::Chance;
use crate::testkit::frozen::Frozen;
use crate::testkit::memory::{Client, Doom, Moment, Server, TABLE};
use crate::testkit::oracle;
use crate::testkit::workload::{Workload, first_rows};
use crate::{Error, ErrorKind, Result};

// A change that needs more has got stuck. Chosen: with a dozen faults and a few crashes, ten are many.
const RUNNERS_MAX: u32 = 60;
/// From here on nothing goes wrong any more, so that what can end ends.
const RUNNERS_TROUBLED: u32 = 15;
/// The engine gives up by itself after a quarter of an hour.
const RUNNER_LASTS_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// How long a person looks at warnings about rows that collide.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any runner stands still.
const THAW: Duration = Duration::from_secs(140);

/// What a runner is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Apply,
    Warm,
    Revert,
    Finalize,
    Abort,
    Cutover,
}

/// How a runner ended.
enum Ended {
    Done(Box<Run>),
    Failed(Error),
    Killed,
    /// It stands still; another one takes over.
    Frozen,
}

struct Course {
    server: Server,
    scenario: Scenario,
    chance: Chance,
    plan: Plan,
    statistics: Statistics,
    run: Option<RunId>,
    /// The change cannot be made or taken back any more; only clearing away is left.
    is_dead_end: bool,
    clients: Vec<Client>,
    /// Runners that stand still, with the switch that could stop them.
    frozen: Vec<(JoinHandle<Result<Run>>, watch::Sender<bool>)>,
}

pub(super) async fn run(scenario: Scenario, mut chance: Chance, seed: u64) -> Outcome {
    let server = Server::start(scenario.config.clone());
    let rows = first_rows(scenario.habits.keys, scenario.habits.claims);
    server.write(rows).await.expect("nothing disturbs the first write");
    server.watch();
    let mut workload = Workload::start(&server, scenario.habits, &mut chance);
    let mut events = trouble(&server, &scenario);
    let plan = plan(&server).await;
    let mut course = Course {
        server: server.clone(),
        scenario,
        chance,
        plan,
        statistics: Statistics::default(),
        run: None,
        is_dead_end: false,
        clients: Vec::new(),
        frozen: Vec::new(),
    };
    course.follow().await;
    course.thaw().await;
    course.clear_away().await;
    events.abort_all();
    workload.stop().await;
    server.calm();
    server.quiesce().await;
    let mut violations = server.violations();
    violations.extend(oracle::judge(&server, &workload.journal));
    course.outcome(seed, violations)
}

/// The plan, made in quiet times: a session that nothing happens to.
async fn plan(server: &Server) -> Plan {
    let session = server.connect();
    let request =
        Request::Statement { text: format!("retype {TABLE}"), forward: Vec::new(), reverse: Vec::new() };
    let draft = session.draft(&request).await.expect("the statement is understood");
    let options =
        PlanOptions { revertible: true, lock_budget: Duration::from_millis(200), ..PlanOptions::default() };
    choose(&draft, &[], &options).expect("the change can be made").plan
}

fn trouble(server: &Server, scenario: &Scenario) -> JoinSet<()> {
    let mut events = JoinSet::new();
    let trouble = scenario.trouble;
    if let Some(after) = trouble.restart_after {
        let server = server.clone();
        events.spawn(async move {
            sleep(after).await;
            server.restart();
        });
    }
    if let Some(after) = trouble.alter_after {
        let server = server.clone();
        events.spawn(async move {
            sleep(after).await;
            server.alter(TABLE).await.expect("the live name resolves");
        });
    }
    if let Some(after) = trouble.purge_after {
        let server = server.clone();
        events.spawn(async move {
            sleep(after).await;
            server.purge_log();
        });
    }
    events
}

impl Course {
    /// Runner after runner.
    async fn follow(&mut self) {
        let mut intent = Intent::Apply;
        while self.statistics.runners < RUNNERS_MAX {
            let ended = self.attempt(intent).await;
            match self.next(intent, ended) {
                Some(next) => intent = next,
                None => return,
            }
            let pause = if self.chance.one_in(2) { 0 } else { self.chance.between(1, 40_000) };
            sleep(Duration::from_millis(pause)).await;
        }
        self.server.blame(format!("no end after {RUNNERS_MAX} runners"));
    }

    /// What the person does next; `None` when all is done.
    fn next(&mut self, intent: Intent, ended: Ended) -> Option<Intent> {
        let was_known = self.run.is_some();
        self.run = self.run.take().or_else(|| self.server.runs().first().map(|run| run.id.clone()));
        match ended {
            // A run that was created after all, by a call whose reply was lost: it is resumed now.
            Ended::Failed(error)
                if error.kind() == ErrorKind::Refused && !was_known && self.run.is_some() =>
            {
                Some(intent)
            }
            Ended::Killed | Ended::Frozen => self.go_on(intent),
            Ended::Done(run) => self.after(intent, &run),
            Ended::Failed(error) => self.after_failure(intent, &error),
        }
    }

    /// A person looks at the run before going on with it: somebody may have brought it further.
    fn go_on(&mut self, intent: Intent) -> Option<Intent> {
        let Some(run) = self.record() else { return Some(intent) };
        let is_there = run.state.is_final()
            || run.state.is_reversible() && matches!(intent, Intent::Apply | Intent::Cutover | Intent::Abort);
        if is_there { self.after(intent, &run) } else { Some(self.perhaps_abort(intent)) }
    }

    fn after(&mut self, intent: Intent, run: &Run) -> Option<Intent> {
        match (run.state, intent) {
            (state, _) if state.is_final() => None,
            (RunState::Reversible, Intent::Abort) if self.is_dead_end => Some(Intent::Finalize),
            (RunState::Reversible, Intent::Apply | Intent::Cutover | Intent::Abort) => {
                match self.scenario.ending {
                    _ if !self.scenario.options.revertible => Some(Intent::Finalize),
                    Ending::Stay => None,
                    Ending::Warm => Some(Intent::Warm),
                    Ending::Revert => Some(Intent::Revert),
                    Ending::Finalize => Some(Intent::Finalize),
                }
            }
            (RunState::Reversible, Intent::Warm) => None,
            // A command to abort that was left for an earlier runner gives the revert up.
            (RunState::Reversible, Intent::Revert) if self.scenario.collides => Some(Intent::Revert),
            (state, intent) => {
                self.server.blame(format!("{intent:?} ended well with a run that is {state}"));
                None
            }
        }
    }

    fn after_failure(&mut self, intent: Intent, error: &Error) -> Option<Intent> {
        let trouble = self.scenario.trouble;
        let is_expected = match error.kind() {
            ErrorKind::Duplicate => self.scenario.collides,
            ErrorKind::ForeignDdl => trouble.alter_after.is_some(),
            ErrorKind::FeedGap => trouble.purge_after.is_some(),
            _ => false,
        };
        if is_expected {
            return self.after_dead_end(intent);
        }
        match error.kind() {
            ErrorKind::Gate if self.scenario.options.cutover == CutoverGate::Manual => Some(Intent::Cutover),
            ErrorKind::Interrupted if intent == Intent::Warm => None,
            // Another runner, or the swap, came first.
            ErrorKind::Refused if self.is_overtaken(intent) => self.go_on(intent),
            ErrorKind::ConnectionLost
            | ErrorKind::Retry
            | ErrorKind::LockTimeout
            | ErrorKind::LeaseHeld
            | ErrorKind::Fenced
            | ErrorKind::Interrupted
            | ErrorKind::Gate
            | ErrorKind::NotFound
            | ErrorKind::Server => self.go_on(intent),
            _ => {
                self.server.blame(format!("{intent:?} ended with {error:?}"));
                None
            }
        }
    }

    /// The change cannot be made, or not be taken back. What there is is cleared away.
    fn after_dead_end(&mut self, intent: Intent) -> Option<Intent> {
        self.is_dead_end = true;
        match intent {
            Intent::Apply | Intent::Cutover | Intent::Revert => Some(Intent::Abort),
            Intent::Abort if self.is_reversible() => Some(Intent::Finalize),
            Intent::Warm => Some(Intent::Finalize),
            Intent::Abort | Intent::Finalize => {
                self.server.blame("clearing away fails because of what was to be cleared away");
                None
            }
        }
    }

    fn is_overtaken(&self, intent: Intent) -> bool {
        let Some(run) = self.record() else { return false };
        run.state.is_final() || self.is_reversible() && intent != Intent::Revert
    }

    /// The run as it is recorded.
    fn record(&self) -> Option<Run> {
        self.server.runs().into_iter().find(|run| Some(&run.id) == self.run.as_ref())
    }

    fn is_reversible(&self) -> bool {
        self.record().is_some_and(|run| run.state.is_reversible())
    }

    fn perhaps_abort(&mut self, intent: Intent) -> Intent {
        let may = matches!(intent, Intent::Apply | Intent::Cutover) && self.run.is_some();
        if may && self.chance.one_in(self.scenario.aborts_one_in) { Intent::Abort } else { intent }
    }

    /// Starts a runner, and waits for how it ends.
    async fn attempt(&mut self, intent: Intent) -> Ended {
        self.statistics.runners += 1;
        if self.statistics.runners > RUNNERS_TROUBLED {
            self.server.calm();
        }
        let session = Arc::new(self.server.connect());
        let client = session.client().clone();
        self.clients.push(client.clone());
        let freezes = self.doom(&client);
        let (stop, stopped) = watch::channel(false);
        let runner = Runner::new(session.clone(), Arc::new(Silent), stopped);
        self.server.note(&format!("-- a runner starts: {intent:?}"));
        let work = work(runner, intent, self.run.clone(), self.plan.clone(), self.scenario.clone());
        let mut running = tokio::spawn(Frozen::new(client.clone(), work));
        let interrupt = self.interrupt_after(intent);
        let server = self.server.clone();
        let interrupting = async {
            match interrupt {
                Some(after) => sleep(after).await,
                None => warm_by_mistake(&server, intent).await,
            }
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        let giving_up = self.give_up();
        let deadline = sleep(RUNNER_LASTS_MAX);
        let mut is_frozen = false;
        let ended = tokio::select! {
            biased;
            () = client.died() => {
                running.abort();
                self.statistics.crashes += 1;
                Ended::Killed
            }
            result = &mut running => finished(result),
            () = froze(&client, freezes) => {
                self.statistics.freezes += 1;
                is_frozen = true;
                Ended::Frozen
            }
            () = interrupting => unreachable!("it only asks, and the runner ends"),
            () = giving_up => unreachable!("it only asks, and the runner ends"),
            () = deadline => {
                running.abort();
                self.server.blame(format!("{intent:?} does not end"));
                Ended::Killed
            }
        };
        if is_frozen {
            self.frozen.push((running, stop));
        }
        if let Ended::Failed(error) = &ended {
            self.server.note(&format!("-- it ends: {error:?}"));
            *self.statistics.ends.entry(format!("{:?}", error.kind())).or_default() += 1;
        }
        ended
    }

    /// Draws what happens to a runner. True if it will stand still.
    fn doom(&mut self, client: &Client) -> bool {
        if self.statistics.runners > RUNNERS_TROUBLED {
            return false;
        }
        // Early calls and late ones alike: the order of magnitude is drawn first.
        let most = self.chance.pick(&[10, 40, 150, 500]);
        let call = self.chance.between(1, most);
        let moment = self.chance.pick(&[Moment::BeforeSending, Moment::AfterSending, Moment::AfterReply]);
        if self.scenario.freezes > self.statistics.freezes && self.chance.one_in(2) {
            let lasts = Duration::from_millis(self.chance.between(31_000, 130_000));
            client.doom(Doom::Freeze { call, moment, lasts });
            return true;
        }
        if self.scenario.crashes > self.statistics.crashes {
            client.doom(Doom::Crash { call, moment, is_known: self.chance.one_in(2) });
        }
        false
    }

    /// Rows that collide for good keep a run waiting, until the person who reads of it gives it up.
    fn give_up(&self) -> impl Future<Output = ()> + use<> {
        let (server, run, collides) = (self.server.clone(), self.run.clone(), self.scenario.collides);
        async move {
            sleep(PATIENCE).await;
            let run = run.or_else(|| server.runs().last().map(|run| run.id.clone()));
            if let Some(run) = run.filter(|_| collides) {
                let session = server.connect();
                // A command that got lost is not given again: the run ends in some other way, or shows.
                drop(session.state().post(&run, &Control::Abort).await);
            }
            std::future::pending().await
        }
    }

    fn interrupt_after(&mut self, intent: Intent) -> Option<Duration> {
        let is_meant = self.chance.one_in(self.scenario.interrupts_one_in);
        let after = Duration::from_millis(self.chance.between(0, 8_000));
        (is_meant || intent == Intent::Warm).then_some(after)
    }

    /// Runners that stood still go on, long after others have taken over, and find out.
    async fn thaw(&mut self) {
        for (mut running, stop) in std::mem::take(&mut self.frozen) {
            // Some time to do harm; one that keeps a run warm would go on for ever.
            sleep(THAW).await;
            stop.send_replace(true);
            match timeout(RUNNER_LASTS_MAX, &mut running).await {
                Ok(Ok(Ok(run))) => self.server.note(&format!("-- one that stood still ends: {}", run.state)),
                Ok(Ok(Err(error))) => {
                    self.server.note(&format!("-- one that stood still ends: {error:?}"));
                    if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Mismatch) {
                        self.server.blame(format!("one that stood still ended with {error:?}"));
                    }
                }
                Ok(Err(panic)) => self.server.blame(format!("one that stood still ended so: {panic}")),
                Err(_) => {
                    running.abort();
                    self.server.blame("one that stood still does not end");
                }
            }
        }
    }

    /// A runner that stood still may have begun the change once more, after the first run was over.
    async fn clear_away(&mut self) {
        self.server.calm();
        for _ in 0..4 {
            let Some(run) = self.server.runs().pop().filter(|run| self.run.as_ref() != Some(&run.id)) else {
                return;
            };
            let intent = match run.state {
                state if state.is_final() => return,
                state if state.is_reversible() => Intent::Finalize,
                _ => Intent::Abort,
            };
            self.run = Some(run.id);
            self.statistics.runners = RUNNERS_TROUBLED;
            drop(self.attempt(intent).await);
            self.run = None;
        }
    }

    fn outcome(mut self, seed: u64, mut violations: Vec<String>) -> Outcome {
        let stall = self.server.longest_stall();
        if stall > STALL_MAX {
            violations.push(format!("applications waited {stall:?} for the table"));
        }
        self.statistics.longest_stall = stall;
        self.statistics.transactions = self.server.logged().len() as u64;
        self.statistics.calls = self.clients.iter().map(Client::calls).sum();
        self.statistics.lasted = Instant::now() - self.server.started();
        Outcome {
            seed,
            state: self.server.runs().last().map(|run| run.state),
            violations,
            trace: self.server.trace(),
            statistics: self.statistics,
        }
    }
}

/// One budget to wait for the lock, five until the server takes it back from a dead runner, and some slack
/// for the server's own pauses.
const STALL_MAX: Duration = Duration::from_millis(200 + 5 * 200 + 100);

async fn work(
    runner: Runner,
    intent: Intent,
    run: Option<RunId>,
    plan: Plan,
    scenario: Scenario,
) -> Result<Run> {
    let Some(run) = run else { return runner.apply(plan, scenario.options, None).await };
    match intent {
        Intent::Apply | Intent::Warm => runner.resume(&run).await,
        Intent::Revert => runner.revert(&run).await,
        Intent::Finalize => runner.finalize(&run).await,
        Intent::Abort => runner.abort(&run).await,
        Intent::Cutover => runner.cutover(&run).await,
    }
}

fn finished(result: Result<Result<Run>, tokio::task::JoinError>) -> Ended {
    match result {
        Ok(Ok(run)) => Ended::Done(Box::new(run)),
        Ok(Err(error)) => Ended::Failed(error),
        Err(panic) => {
            Ended::Failed(Error::new(ErrorKind::Internal, "the runner ended in a panic").caused_by(panic))
        }
    }
}

/// Ends when the runner only keeps a run warm that another one has brought to its swap meanwhile.
async fn warm_by_mistake(server: &Server, intent: Intent) {
    let mut looks = 0;
    while looks < 2 {
        sleep(Duration::from_secs(10)).await;
        let is_warm = server.runs().last().is_some_and(|run| run.state.is_reversible());
        looks = if is_warm && intent == Intent::Apply { looks + 1 } else { 0 };
    }
}

/// Ends once the client stands still.
async fn froze(client: &Client, freezes: bool) {
    if !freezes {
        return std::future::pending().await;
    }
    loop {
        if client.frozen_until().is_some() {
            return;
        }
        // Short against a lease: the next runner starts while this one's lease is young.
        sleep(Duration::from_millis(500)).await;
    }
}
