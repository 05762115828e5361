//! The course of a simulation: runner after runner, until the change has come to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::meddle::meddle;
use super::scenario::Scenario;
use super::{Outcome, Statistics};
use crate::driver::{Request, Session};
use crate::engine::Runner;
use crate::event::Silent;
use crate::ident::RunId;
use crate::plan::{Plan, PlanOptions, choose};
use crate::run::{Origin, Run};
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

/// How long a runner that stood still may go on afterwards.
const THAWED: Duration = Duration::from_secs(45);

/// What a runner is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Apply,
    Warm,
    Revert,
    Finalize,
    Abort,
    Cutover,
}

/// How a runner ended.
pub(super) enum Ended {
    Done(Box<Run>),
    Failed(Error),
    Killed,
    /// It stands still; another one takes over.
    Frozen,
}

pub(super) struct Course {
    pub(super) server: Server,
    pub(super) scenario: Scenario,
    pub(super) chance: Chance,
    plan: Plan,
    statistics: Statistics,
    pub(super) run: Option<RunId>,
    /// The person has asked for the change to be taken back.
    pub(super) wants_revert: bool,
    /// The change cannot be made or taken back any more; only clearing away is left.
    pub(super) is_dead_end: bool,
    clients: Vec<Client>,
    /// Runners that stand still or stood still.
    frozen: Vec<JoinHandle<Result<Run>>>,
    /// Those who interrupt them, some time after they go on.
    interrupters: JoinSet<()>,
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
        wants_revert: false,
        is_dead_end: false,
        clients: Vec::new(),
        frozen: Vec::new(),
        interrupters: JoinSet::new(),
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
    let request = Request::Statement {
        text: format!("retype {TABLE}"),
        forward: Vec::new(),
        reverse: Vec::new(),
        capture: None,
    };
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
        if intent == Intent::Finalize {
            self.server.want_final();
        }
        let work = work(runner, intent, self.run.clone(), self.plan.clone(), self.scenario.clone());
        let mut running = tokio::spawn(Frozen::new(client.clone(), work));
        let chance = self.chance.split();
        let meddling = meddle(self.server.clone(), &self.scenario, intent, &stop, chance);
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
            () = meddling => unreachable!("it only asks, and the runner answers"),
            () = deadline => {
                running.abort();
                self.server.blame(format!("{intent:?} does not end"));
                Ended::Killed
            }
        };
        if is_frozen {
            self.frozen.push(running);
            self.interrupters.spawn(async move {
                // Some time to do harm; one that keeps a run warm would go on for ever.
                while client.frozen_until().is_some() {
                    sleep(Duration::from_secs(1)).await;
                }
                sleep(THAWED).await;
                stop.send_replace(true);
            });
        }
        if let Ended::Failed(error) = &ended {
            self.note_end("it ends", error);
            *self.statistics.ends.entry(format!("{:?}", error.kind())).or_default() += 1;
        }
        ended
    }

    /// Run ids are random, and the trace of a seed is always the same.
    fn note_end(&self, what: &str, error: &Error) {
        let ids: Vec<RunId> = self.server.runs().into_iter().map(|run| run.id).collect();
        let text = ids.iter().fold(format!("{error:?}"), |text, id| text.replace(id.as_str(), "RUN"));
        self.server.note(&format!("-- {what}: {text}"));
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

    /// Runners that stood still go on, long after others have taken over, and find out.
    async fn thaw(&mut self) {
        for mut running in std::mem::take(&mut self.frozen) {
            match timeout(RUNNER_LASTS_MAX, &mut running).await {
                Ok(Ok(Ok(run))) => self.server.note(&format!("-- one that stood still ends: {}", run.state)),
                Ok(Ok(Err(error))) => {
                    self.note_end("one that stood still ends", &error);
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
        // No statement that was left behind is later than this.
        sleep(Duration::from_secs(130)).await;
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
        let scenario = &self.scenario;
        let is_calm = scenario.config.faults.one_in == 0
            && scenario.crashes + scenario.freezes == 0
            && scenario.trouble.restart_after.is_none();
        if stall > if is_calm { STALL_CALM_MAX } else { STALL_MAX } {
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

/// One budget to wait for the lock, one to hold it, and some slack for the server's own pauses.
const STALL_CALM_MAX: Duration = Duration::from_millis(200 + 200 + 100);

/// One budget to wait for the lock, five until the server takes it back from a dead runner, and the slack.
const STALL_MAX: Duration = Duration::from_millis(200 + 5 * 200 + 100);

async fn work(
    runner: Runner,
    intent: Intent,
    run: Option<RunId>,
    plan: Plan,
    scenario: Scenario,
) -> Result<Run> {
    let Some(run) = run else { return runner.apply(plan, scenario.options, Origin::default()).await };
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
