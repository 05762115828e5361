//! What people do while a runner is at work: interrupt it, pause it, change its limits, give the run up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::course::Intent;
use super::scenario::Scenario;
use crate::control::Control;
use crate::driver::Session;
use crate::ident::RunId;
use crate::run::RunState;
use crate::testkit::chance::Chance;
use crate::testkit::memory::Server;

/// How long a person looks at warnings about rows that collide.
const PATIENCE: Duration = Duration::from_secs(90);

/// Meddles with a runner, and never ends.
pub(super) async fn meddle(
    server: Server,
    scenario: &Scenario,
    intent: Intent,
    stop: &watch::Sender<bool>,
    mut chance: Chance,
) {
    let interrupts = chance.one_in(scenario.interrupts_one_in) || intent == Intent::Warm;
    let interrupt_after = Duration::from_millis(chance.between(0, 8_000));
    let commands = commands(&server, scenario, chance);
    let interrupting = async {
        if interrupts {
            sleep(interrupt_after).await;
        } else {
            warm_by_mistake(&server, intent).await;
        }
        stop.send_replace(true);
    };
    let giving_up = async {
        sleep(PATIENCE).await;
        // Rows that collide for good keep a run waiting, until the person who reads of it gives it up.
        if scenario.collides {
            post(&server, Control::Abort).await;
        }
    };
    tokio::join!(commands, interrupting, giving_up, letting_go_on(&server));
    std::future::pending().await
}

/// Pauses and resumes, changes limits, stops.
async fn commands(server: &Server, scenario: &Scenario, mut chance: Chance) {
    if !chance.one_in(scenario.commands_one_in) {
        return;
    }
    let mut wait = async |most| sleep(Duration::from_millis(chance.between(0, most))).await;
    wait(1_500).await;
    let limits = [("copy_workers", "1"), ("chunk_rows_max", "3"), ("lag_max_ms", "no number")];
    let set = limits.map(|(name, value)| (name.to_owned(), value.to_owned()));
    post(server, Control::Throttle { set: set.into() }).await;
    post(server, Control::Pause).await;
    wait(4_000).await;
    post(server, Control::Resume).await;
    wait(4_000).await;
    post(server, Control::Stop).await;
}

/// A pause that was asked of a runner which was ending holds the next one: somebody finds it so, and lets it go on.
async fn letting_go_on(server: &Server) {
    loop {
        sleep(PATIENCE).await;
        if server.runs().last().is_some_and(|run| run.state == RunState::Paused) {
            post(server, Control::Resume).await;
        }
    }
}

/// Leaves a command for the newest run. Whoever sees no answer in time gives it again.
async fn post(server: &Server, command: Control) {
    let Some(run) = newest(server) else { return };
    let session = server.connect();
    for _ in 0..20 {
        if session.state().post(&run, &command).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn newest(server: &Server) -> Option<RunId> {
    server.runs().pop().map(|run| run.id)
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
