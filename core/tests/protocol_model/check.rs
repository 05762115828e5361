//! Running a model: to the end where it must hold, to the first counterexample where it must break.

use std::fmt::Debug;
use std::hash::Hash;
use std::io::Write;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path, Property};

/// How far the models go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// What `cargo test` runs: seconds.
    Small,
    /// `REPLANK_MODEL_BOUNDS=large`: more histories and more faults, minutes to hours and gigabytes.
    Large,
}

impl Bounds {
    pub fn from_environment() -> Bounds {
        match std::env::var("REPLANK_MODEL_BOUNDS").as_deref() {
            Ok("large") => Bounds::Large,
            Ok("small") | Err(_) => Bounds::Small,
            Ok(other) => panic!("REPLANK_MODEL_BOUNDS is `small` or `large`, not `{other}`"),
        }
    }
}

/// How a counterexample is told.
pub trait Story: Model {
    /// What a reader must know about the first state.
    fn opening(&self, _start: &Self::State) -> String {
        String::new()
    }
}

/// Visits every reachable state and fails on the first broken invariant.
///
/// Each `sometimes` property must have been seen as well: a model in which nothing can happen keeps
/// every invariant.
pub fn exhaust<M>(name: &str, model: M)
where
    M: Story + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug,
    M::Action: Clone + PartialEq + Debug,
{
    let started = Instant::now();
    // Depth first: the frontier, and with it the memory, stays small.
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    for Property { expectation, name, .. } in checker.model().properties() {
        match (checker.discovery(name), expectation) {
            (Some(path), Expectation::Always | Expectation::Eventually) => {
                panic!("`{name}` is broken:\n{}", story(checker.model(), name, path))
            }
            (None, Expectation::Sometimes) => panic!("`{name}` never happens: the model is vacuous"),
            (Some(_), Expectation::Sometimes) | (None, _) => {}
        }
    }
    assert!(checker.is_done(), "states of `{name}` were left unvisited");
    report(name, "exhausted", checker.unique_state_count(), checker.max_depth(), started.elapsed());
}

/// Finds a short way to break `invariant`; fails if there is none.
pub fn refute<M>(name: &str, model: M, invariant: &'static str)
where
    M: Story + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug,
    M::Action: Clone + PartialEq + Debug,
{
    let started = Instant::now();
    // Breadth first: the first story that is found is a short one.
    let checker = model.checker().finish_when(HasDiscoveries::AnyOf([invariant].into())).spawn_bfs().join();
    let path = checker
        .discovery(invariant)
        .unwrap_or_else(|| panic!("`{invariant}` holds although {name} breaks a rule"));
    report(name, "refuted", checker.unique_state_count(), checker.max_depth(), started.elapsed());
    // Shown by `cargo test … -- --nocapture`.
    println!("{name} breaks `{invariant}`:\n{}", story(checker.model(), invariant, path));
}

/// The steps up to the first state that breaks the invariant, one a line, to be read by a person.
fn story<M>(model: &M, invariant: &'static str, path: Path<M::State, M::Action>) -> String
where
    M: Story,
    M::Action: Debug,
{
    let steps = path.into_vec();
    let mut lines = vec![];
    if let Some((start, _)) = steps.first() {
        lines.push(model.opening(start));
    }
    // The checker goes on for a while after its first discovery and keeps the last one.
    let holds = model.property(invariant).condition;
    for (number, (state, action)) in steps.iter().enumerate() {
        if !holds(model, state) {
            break;
        }
        if let Some(action) = action {
            lines.push(format!("{:>4}. {action:?}", number + 1));
        }
    }
    lines.join("\n")
}

/// One line to the real standard error, so that the size of each model shows in every test log.
fn report(name: &str, result: &str, states: usize, depth: usize, took: Duration) {
    let line = format!("model {name}: {result}, {states} states, depth {depth}, {:.1} s", took.as_secs_f32());
    writeln!(std::io::stderr(), "{line}").expect("the test's standard error is open");
}
