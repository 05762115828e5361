//! Takes the time between what a run says, and lets through what a spectator wants to read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use replank_core::engine::boundary::Boundary;
use replank_core::event::{Body, Reporter};
use replank_core::ident::RunId;
use replank_core::run::RunState;

use crate::output::Output;

/// A reporter with a stopwatch.
pub struct Marks {
    output: Arc<Output>,
    /// When each phase was entered first, and each boundary passed last.
    at: Mutex<BTreeMap<String, Instant>>,
}

impl Marks {
    /// A stopwatch before an output.
    pub fn new(output: Arc<Output>) -> Self {
        Self { output, at: Mutex::new(BTreeMap::new()) }
    }

    /// How long the copy took, if there was one.
    pub fn copy(&self) -> Option<Duration> {
        self.between(RunState::Copying.word(), RunState::BuildingIndexes.word())
    }

    /// How long the comparison took.
    pub fn compare(&self) -> Option<Duration> {
        self.between(RunState::Verifying.word(), RunState::WaitingCutover.word())
    }

    /// How long writers were kept out for the swap.
    pub fn swap(&self) -> Option<Duration> {
        self.between(Boundary::LockHeld.name(), Boundary::Released.name())
    }

    fn between(&self, start: &str, end: &str) -> Option<Duration> {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.get(end)?.checked_duration_since(*at.get(start)?)
    }
}

impl Reporter for Marks {
    fn report(&self, run: Option<&RunId>, body: Body) {
        let now = Instant::now();
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        match &body {
            // A phase that is entered again, after an attempt to swap, began the first time.
            Body::Phase { state, .. } => {
                at.entry(state.word().to_owned()).or_insert(now);
            }
            // Of several attempts to swap the last counts.
            Body::Boundary { name } => {
                at.insert(name.clone(), now);
            }
            _ => {}
        }
        let has_swapped = at.contains_key(Boundary::Released.name());
        drop(at);
        if self.output.is_json() || is_for_spectators(&body, has_swapped) {
            self.output.report(run, body);
        }
    }
}

/// The whole of it fits on a screen.
fn is_for_spectators(body: &Body, has_swapped: bool) -> bool {
    match body {
        // The removal of what is no longer needed, which takes the longest of all.
        Body::Phase { state: RunState::CuttingOver, .. } => has_swapped,
        Body::Phase { state, .. } => {
            matches!(
                state,
                RunState::Copying | RunState::Verifying | RunState::Reversible | RunState::Reverted
            )
        }
        _ => true,
    }
}
