//! The rules, one by one, without clock or server.

use super::*;
use crate::ErrorKind;
use crate::engine::share::Turn;
use crate::run::Progress;
use crate::value::{Change, Lane};

const NOW: Duration = Duration::from_secs(1);

fn setup(direction: Direction) -> Setup {
    Setup {
        pace: Pace {
            chunk_target: Duration::from_millis(100),
            copy_workers: 2,
            lanes: 2,
            batch_keys: 10,
            apply_during_build: true,
            apply_during_copy: true,
            write_percent: 100,
        },
        direction,
        limits: Limits::default(),
        swaps: true,
        queue_max: 1_000,
    }
}

fn reached(at: &Position, goal: &Position) -> bool {
    at.0.parse::<u64>().ok() >= goal.0.parse::<u64>().ok()
}

fn machine(state: RunState, checkpoint: &Checkpoint) -> Machine {
    Machine::new(setup(Direction::Forward), state, checkpoint, Box::new(reached))
}

fn at(position: u64) -> Position {
    Position(position.to_string())
}

fn begun() -> Checkpoint {
    Checkpoint { prepared: true, position: Some(at(0)), ..Checkpoint::default() }
}

fn change(key: &str, lane: u16) -> Change {
    Change { key: Key(key.to_owned()), lane: Lane(lane), removed: false }
}

fn fed(changes: Vec<Change>, position: u64) -> FeedBatch {
    FeedBatch { changes, position: Some(at(position)), lag: Duration::ZERO, backlog: Some(0) }
}

/// Everything that may start now, with heads and bounds answered at once: the table has two chunks.
fn startable(machine: &mut Machine) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut bounds = 0;
    // Later than any pause of a displaced row, earlier than any other.
    while let Some(action) = machine.next(NOW + Duration::from_millis(15)) {
        match action {
            Action::Bound(kind, after, _) => {
                bounds += 1;
                let upper = after.is_none().then(|| Key("m".to_owned()));
                assert!(bounds <= 4, "bounds without end");
                machine.take(Outcome::Bound(kind, Ok(upper)), NOW);
            }
            action => actions.push(action),
        }
    }
    actions
}

fn copies(actions: &[Action]) -> Vec<Epoch> {
    actions
        .iter()
        .filter_map(|action| if let Action::Copy(epoch, _) = action { Some(*epoch) } else { None })
        .collect()
}

fn batches(actions: &[Action]) -> Vec<Batch> {
    actions
        .iter()
        .filter_map(|action| if let Action::Apply(batch) = action { Some(batch.clone()) } else { None })
        .collect()
}

fn copied() -> Copied {
    Copied { read: 5, written: 5, ..Copied::default() }
}

fn lost<T>() -> Result<T> {
    Err(Error::new(ErrorKind::ConnectionLost, "lost"))
}

#[test]
fn a_change_waits_for_the_chunks_in_flight_when_it_arrived() {
    let mut machine = machine(RunState::Copying, &begun());
    let flying = copies(&startable(&mut machine));
    assert_eq!(flying.len(), 2);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 1))), NOW);
    assert!(batches(&startable(&mut machine)).is_empty());
    machine.take(Outcome::Copy(flying[0], NOW, Ok(copied())), NOW);
    assert!(batches(&startable(&mut machine)).is_empty(), "the other chunk may still write an older row");
    machine.take(Outcome::Copy(flying[1], NOW, Ok(copied())), NOW);
    assert_eq!(batches(&startable(&mut machine)).len(), 1);
}

#[test]
fn where_chunks_and_batches_are_in_each_others_way_the_feed_waits_for_the_copy_and_the_first_index() {
    let mut setup = setup(Direction::Forward);
    (setup.pace.apply_during_copy, setup.pace.apply_during_build) = (false, false);
    let mut machine = Machine::new(setup, RunState::Copying, &begun(), Box::new(reached));
    let started = startable(&mut machine);
    let flying = copies(&started);
    assert_eq!(flying.len(), 2);
    let pulls = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Pull));
    assert!(!pulls(&started), "{started:?}");
    machine.take(Outcome::Head(Ok(at(1))), NOW);
    machine.set_paused(true);
    assert!(!pulls(&startable(&mut machine)), "in a pause, too: rows are not found yet");
    machine.set_paused(false);
    for epoch in flying {
        machine.take(Outcome::Copy(epoch, NOW, Ok(copied())), NOW);
    }
    machine.enter(RunState::BuildingIndexes);
    assert_eq!(startable(&mut machine), [Action::ListIndexes]);
    machine.take(Outcome::ListIndexes(Ok(vec!["key".to_owned(), "other".to_owned()])), NOW);
    let build = |name: &str| Action::BuildIndex(name.to_owned(), Effort::Usual);
    assert_eq!(startable(&mut machine), [build("key")]);
    machine.take(Outcome::BuildIndex(lost()), NOW);
    assert_eq!(startable(&mut machine), [Action::Fence], "whether it is there is asked behind a fence");
    machine.take(Outcome::Fence(Ok(())), NOW);
    assert_eq!(startable(&mut machine), [Action::ListIndexes]);
    machine.take(Outcome::ListIndexes(Ok(vec!["key".to_owned(), "other".to_owned()])), NOW);
    assert_eq!(startable(&mut machine), [build("key")]);
    machine.take(Outcome::BuildIndex(Ok(IndexBuild::Built)), NOW);
    assert_eq!(startable(&mut machine), [Action::Head], "the others are built behind what has waited");
    machine.take(Outcome::Head(Ok(at(3))), NOW);
    assert_eq!(startable(&mut machine), [Action::Pull]);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 2))), NOW);
    let applying = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Pull(Ok(fed(Vec::new(), 3))), NOW);
    assert!(!startable(&mut machine).contains(&build("other")), "a batch is in flight");
    machine.take(Outcome::Apply(applying, NOW, Ok(Applied::default())), NOW);
    assert!(startable(&mut machine).contains(&build("other")));
}

#[test]
fn rows_that_the_first_index_finds_in_each_others_way_are_applied_before_it_is_tried_again() {
    let mut setup = setup(Direction::Forward);
    (setup.pace.apply_during_copy, setup.pace.apply_during_build) = (false, false);
    let mut machine = Machine::new(setup, RunState::Copying, &begun(), Box::new(reached));
    machine.enter(RunState::BuildingIndexes);
    startable(&mut machine);
    machine.take(Outcome::Head(Ok(at(0))), NOW);
    machine.take(Outcome::ListIndexes(Ok(vec!["key".to_owned()])), NOW);
    startable(&mut machine);
    machine.take(Outcome::BuildIndex(Ok(IndexBuild::Duplicates(vec![change("a", 0)]))), NOW);
    assert!(startable(&mut machine).contains(&Action::Head));
    machine.take(Outcome::Head(Ok(at(1))), NOW);
    assert!(startable(&mut machine).contains(&Action::Pull));
    machine.take(Outcome::Pull(Ok(fed(Vec::new(), 1))), NOW);
    assert_eq!(batches(&startable(&mut machine)).len(), 1);
}

#[test]
fn a_throttle_that_lasts_keeps_no_change_from_being_applied_once_all_is_copied() {
    let mut setup = setup(Direction::Forward);
    (setup.pace.apply_during_copy, setup.pace.apply_during_build) = (false, false);
    let mut machine = Machine::new(setup, RunState::Copying, &begun(), Box::new(reached));
    machine.enter(RunState::BuildingIndexes);
    machine.set_throttle(Some("a signal".to_owned()));
    machine.set_paused(true);
    assert_eq!(startable(&mut machine), [Action::Head], "a person who says pause means all of it");
    machine.take(Outcome::Head(Ok(at(0))), NOW);
    machine.set_paused(false);
    assert_eq!(startable(&mut machine), [Action::ListIndexes]);
    machine.take(Outcome::ListIndexes(Ok(vec!["key".to_owned(), "other".to_owned()])), NOW);
    assert_eq!(startable(&mut machine), [Action::BuildIndex("key".to_owned(), Effort::Usual)]);
    machine.take(Outcome::BuildIndex(Ok(IndexBuild::Built)), NOW);
    assert_eq!(startable(&mut machine), [Action::Head]);
    machine.take(Outcome::Head(Ok(at(2))), NOW);
    assert_eq!(startable(&mut machine), [Action::Pull]);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 2))), NOW);
    let applying = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Apply(applying, NOW, Ok(Applied::default())), NOW);
    let other = Action::BuildIndex("other".to_owned(), Effort::Usual);
    assert!(!startable(&mut machine).contains(&other), "the others can wait");
    machine.set_throttle(None);
    assert!(startable(&mut machine).contains(&other));
}

#[test]
fn a_lost_chunk_holds_its_epoch_until_the_fence_and_nothing_else_starts_meanwhile() {
    let mut machine = machine(RunState::Copying, &begun());
    let flying = copies(&startable(&mut machine));
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 1))), NOW);
    machine.take(Outcome::Copy(flying[0], NOW, lost()), NOW);
    assert!(startable(&mut machine).is_empty(), "the second chunk is still in flight");
    machine.take(Outcome::Copy(flying[1], NOW, Ok(copied())), NOW);
    // A head may still be read; nothing that writes may start.
    machine.take(Outcome::Head(Ok(at(1))), NOW);
    assert_eq!(startable(&mut machine), vec![Action::Fence]);
    assert!(startable(&mut machine).is_empty());
    machine.take(Outcome::Fence(Ok(())), NOW);
    let after = startable(&mut machine);
    assert_eq!(copies(&after).len(), 1, "the lost chunk is copied again");
    assert_eq!(batches(&after).len(), 1, "its try cannot come any more; the new one reads later");
}

#[test]
fn a_lost_batch_keeps_its_lane_and_its_debt_until_the_fence() {
    let mut machine = machine(RunState::CatchingUp, &begun());
    startable(&mut machine);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 1))), NOW);
    let batch = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Apply(batch, NOW, lost()), NOW);
    machine.take(Outcome::Head(Ok(at(1))), NOW);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 2))), NOW);
    assert_eq!(startable(&mut machine), vec![Action::Fence]);
    assert_eq!(machine.checkpoint().position, Some(at(0)));
    machine.take(Outcome::Fence(Ok(())), NOW);
    assert_eq!(batches(&startable(&mut machine)).len(), 1);
}

#[test]
fn a_rolled_back_chunk_is_smaller_and_copied_again_without_a_fence() {
    let mut machine = machine(RunState::Copying, &begun());
    let flying = copies(&startable(&mut machine));
    machine.take(Outcome::Copy(flying[0], NOW, Err(Error::new(ErrorKind::Retry, "deadlock"))), NOW);
    assert!(copies(&startable(&mut machine)).is_empty(), "not at once");
    let mut later = Vec::new();
    while let Some(action) = machine.next(NOW + Duration::from_secs(1)) {
        later.push(action);
    }
    assert_eq!(copies(&later).len(), 1);
}

#[test]
fn a_row_that_a_batch_displaced_holds_the_checkpoint_where_the_batch_did() {
    let mut machine = machine(RunState::CatchingUp, &begun());
    startable(&mut machine);
    machine.take(Outcome::Head(Ok(at(0))), NOW);
    machine.take(Outcome::Pull(Ok(fed(vec![change("b", 1)], 1))), NOW);
    let slow = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 2))), NOW);
    let quick = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Apply(quick, NOW, Ok(Applied::default())), NOW);
    machine.take(Outcome::Apply(slow, NOW, Ok(Applied { displaced: vec![change("a", 0)] })), NOW);
    assert_eq!(machine.checkpoint().position, Some(at(0)), "a crash now must bring `a` again");
    // It waits until the feed has passed a head that is read after the conflict.
    let after = startable(&mut machine);
    assert!(after.contains(&Action::Head), "{after:?}");
    assert!(batches(&after).is_empty());
    machine.take(Outcome::Head(Ok(at(3))), NOW);
    assert!(batches(&startable(&mut machine)).is_empty());
    machine.take(Outcome::Pull(Ok(fed(vec![], 3))), NOW);
    let again = batches(&startable(&mut machine)).remove(0);
    assert_eq!(again.changes(), vec![change("a", 0)]);
    machine.take(Outcome::Apply(again, NOW, Ok(Applied::default())), NOW);
    assert_eq!(machine.checkpoint().position, Some(at(3)));
}

#[test]
fn a_row_that_a_chunk_left_out_holds_the_chunk() {
    let mut machine = machine(RunState::Copying, &begun());
    let flying = copies(&startable(&mut machine));
    machine.take(Outcome::Head(Ok(at(0))), NOW);
    let left_out = Copied { displaced: vec![change("a", 0)], ..copied() };
    machine.take(Outcome::Copy(flying[0], NOW, Ok(left_out)), NOW);
    machine.take(Outcome::Copy(flying[1], NOW, Ok(copied())), NOW);
    assert_eq!(machine.checkpoint().copied, Progress::default());
    assert_eq!(machine.milestone(), None);
    startable(&mut machine);
    machine.take(Outcome::Head(Ok(at(1))), NOW);
    machine.take(Outcome::Pull(Ok(fed(vec![], 1))), NOW);
    let again = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Apply(again, NOW, Ok(Applied::default())), NOW);
    assert!(machine.checkpoint().copied.done);
    assert_eq!(machine.milestone(), Some(Milestone::Copied));
}

#[test]
fn while_verifying_a_change_is_finished_when_it_is_compared() {
    let mut machine = machine(RunState::CatchingUp, &Checkpoint { copied: done(), ..begun() });
    machine.enter(RunState::Verifying);
    startable(&mut machine);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 1))), NOW);
    let batch = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Apply(batch, NOW, Ok(Applied::default())), NOW);
    assert_eq!(machine.checkpoint().position, Some(at(0)));
    let comparison = startable(&mut machine);
    let owed = comparison
        .iter()
        .find_map(|action| if let Action::CompareBatch(owed) = action { Some(owed.clone()) } else { None })
        .expect("a comparison");
    let differs = Compared { rows: 1, differing: vec![change("a", 0)] };
    machine.take(Outcome::CompareBatch(owed, Ok(differs)), NOW);
    assert_eq!(machine.checkpoint().position, Some(at(0)), "a suspect holds the checkpoint");
    assert_eq!(machine.suspects(), vec![Key("a".to_owned())]);
}

fn done() -> Progress {
    Progress { watermark: Some(Key("z".to_owned())), done: true, rows: 10 }
}

#[test]
fn an_unfit_row_on_the_way_back_is_found_and_told_and_lets_the_others_pass() {
    let checkpoint = begun();
    let mut machine =
        Machine::new(setup(Direction::Reverse), RunState::CatchingUp, &checkpoint, Box::new(reached));
    startable(&mut machine);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0), change("b", 0)], 1))), NOW);
    let both = batches(&startable(&mut machine)).remove(0);
    assert_eq!(both.owed.len(), 2);
    machine.take(Outcome::Apply(both, NOW, Err(Error::new(ErrorKind::Unfit, "too long"))), NOW);
    for _ in 0..2 {
        let one = batches(&startable(&mut machine)).remove(0);
        assert_eq!(one.owed.len(), 1);
        let result = if one.owed[0].change.key.0 == "a" {
            Err(Error::new(ErrorKind::Unfit, "too long"))
        } else {
            Ok(Applied::default())
        };
        machine.take(Outcome::Apply(one, NOW, result), NOW);
    }
    let saved = machine.checkpoint();
    assert_eq!(saved.position, Some(at(1)), "a stated conflict does not hold the log");
    assert_eq!(saved.conflicts.keys().collect::<Vec<_>>(), vec![&Key("a".to_owned())]);
    machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 2))), NOW);
    let mended = batches(&startable(&mut machine)).remove(0);
    machine.take(Outcome::Apply(mended, NOW, Ok(Applied::default())), NOW);
    assert!(machine.checkpoint().conflicts.is_empty(), "the application changed the row");
}

#[test]
fn a_paused_or_throttled_machine_applies_and_copies_nothing() {
    for pause in [true, false] {
        let mut machine = machine(RunState::Copying, &begun());
        machine.set_paused(pause);
        machine.set_throttle((!pause).then(|| "lag".to_owned()));
        assert!(copies(&startable(&mut machine)).is_empty());
        machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 1))), NOW);
        assert_eq!(batches(&startable(&mut machine)).len(), 1);
    }
}

#[test]
fn a_full_queue_stops_the_feed_and_not_the_appliers() {
    let mut machine = machine(RunState::Copying, &begun());
    startable(&mut machine);
    let many = (0..1_000).map(|n| change(&format!("k{n}"), 0)).collect();
    machine.take(Outcome::Pull(Ok(fed(many, 1))), NOW);
    assert!(!startable(&mut machine).contains(&Action::Pull));
}

#[test]
fn an_error_that_repeating_cannot_mend_ends_the_run() {
    let mut machine = machine(RunState::Copying, &begun());
    let flying = copies(&startable(&mut machine));
    machine.take(Outcome::Copy(flying[0], NOW, Err(Error::new(ErrorKind::DiskFull, "full"))), NOW);
    assert!(startable(&mut machine).is_empty());
    assert_eq!(machine.take_fatal().map(|error| error.kind()), Some(ErrorKind::DiskFull));
}

#[test]
fn a_feed_that_was_read_to_its_end_rests_unless_a_swap_is_near() {
    for (state, count, may_pull_at_once) in [
        (RunState::Copying, 1, false),
        (RunState::Copying, PULL_KEYS, true),
        (RunState::Copying, 0, true),
        (RunState::Verifying, 1, false),
        (RunState::WaitingCutover, 1, true),
    ] {
        let mut machine = machine(state, &begun());
        assert!(!startable(&mut machine).contains(&Action::Pull), "{state} {count}: to where is being asked");
        machine.take(Outcome::Head(Ok(at(1))), NOW);
        assert!(startable(&mut machine).contains(&Action::Pull), "{state} {count}");
        assert_eq!(machine.pull_wait(), Duration::ZERO, "that is there already");
        let changes = vec![change("a", 0); count];
        machine.take(Outcome::Pull(Ok(fed(changes, 1))), NOW);
        let pulls = |machine: &mut Machine, after: Duration| {
            std::iter::from_fn(|| machine.next(NOW + after)).any(|action| action == Action::Pull)
        };
        assert_eq!(pulls(&mut machine, Duration::from_millis(99)), may_pull_at_once, "{state} {count}");
        assert_eq!(pulls(&mut machine, Duration::from_millis(100)), !may_pull_at_once, "{state} {count}");
        // Where all has been begun that there is to compare, the end of the phase would wait for a pull.
        let patience = if state == RunState::Verifying { Duration::from_millis(10) } else { PULL_WAIT };
        assert_eq!(machine.pull_wait(), patience, "{state}: and what comes is waited for");
    }
}

#[test]
fn an_index_is_built_gently_where_chunks_had_to_rest() {
    for (copy_percent, beside, effort) in
        [(None, 50, Effort::Gentle), (None, 100, Effort::Usual), (Some(100), 50, Effort::Usual)]
    {
        let mut machine = machine(RunState::Copying, &begun());
        machine.setup.limits.copy_percent = copy_percent;
        let (mut now, mut count) = (NOW, 1_000);
        for tick in 0..600 {
            now += Duration::from_millis(10);
            let turn = machine.share.turn(now, 0);
            count += if turn == Turn::Wait { 100 } else { beside };
            if turn == Turn::Count {
                machine.share.counted(Some(count), now);
            }
            assert!(tick < 100 || machine.share.percent().is_some(), "it is seen that they write");
        }
        machine.enter(RunState::BuildingIndexes);
        startable(&mut machine);
        machine.take(Outcome::ListIndexes(Ok(vec!["key".to_owned()])), now);
        assert_eq!(startable(&mut machine), [Action::BuildIndex("key".to_owned(), effort)]);
    }
}

#[test]
fn a_look_at_the_load_that_finds_nothing_does_not_end_a_rest() {
    let mut machine = machine(RunState::Copying, &begun());
    let mut now = NOW;
    let next = |machine: &mut Machine, now: Duration| -> Vec<Action> {
        std::iter::from_fn(|| machine.next(now)).collect()
    };
    let is_chunk = |action: &Action| matches!(action, Action::Copy(..));
    // Nobody, then a rush, then a window of work that is counted.
    for count in [0, 1_000, 2_000] {
        let begun = next(&mut machine, now);
        assert!(begun.contains(&Action::Count), "{begun:?}");
        for epoch in copies(&begun) {
            machine.take(Outcome::Copy(epoch, Duration::ZERO, Ok(Copied::default())), now);
        }
        machine.take(Outcome::Count(Ok(Some(count))), now);
        now += Duration::from_secs(1);
    }
    now -= Duration::from_secs(1);
    machine.set_throttle(None);
    machine.set_paused(false);
    let begun = next(&mut machine, now);
    assert!(!begun.contains(&Action::Count) && !begun.iter().any(is_chunk), "it rests: {begun:?}");
    machine.set_throttle(Some("load".to_owned()));
    machine.set_throttle(None);
    assert!(next(&mut machine, now).contains(&Action::Count), "nobody knows what was between");
}

#[test]
fn chunks_take_their_share_of_the_time_and_changes_all_of_it() {
    for (state, percent) in [(RunState::Copying, 20), (RunState::Verifying, 50)] {
        let mut machine = machine(state, &begun());
        let limits = Limits { copy_percent: Some(percent), copy_workers: 1, ..Limits::default() };
        machine.set_limits(limits);
        let took = Duration::from_millis(100);
        let end = startable(&mut machine).into_iter().find_map(|action| match action {
            Action::Copy(epoch, _) => Some(Outcome::Copy(epoch, took, Ok(Copied::default()))),
            Action::CompareChunk(index, _) => {
                Some(Outcome::CompareChunk(index, took, Ok(Compared::default())))
            }
            _ => None,
        });
        machine.take(end.expect("a chunk"), NOW);
        machine.take(Outcome::Pull(Ok(fed(vec![change("a", 0)], 1))), NOW);
        let is_chunk = |action: &Action| matches!(action, Action::Copy(..) | Action::CompareChunk(..));
        let now = startable(&mut machine);
        assert!(now.iter().any(|action| matches!(action, Action::Apply(_))), "{state}: changes are applied");
        assert!(!now.iter().any(is_chunk), "{state}: it rests");
        let rest = took * (100 - percent) / percent;
        assert!(!machine.next(NOW + rest - Duration::from_millis(1)).is_some_and(|it| is_chunk(&it)));
        let later = std::iter::from_fn(|| machine.next(NOW + rest)).any(|action| is_chunk(&action));
        assert!(later, "{state}: it goes on");
    }
}
