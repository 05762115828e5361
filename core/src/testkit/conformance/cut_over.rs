//! The lock and the swap, and the way back.

use std::time::{Duration, Instant};

use super::fixture::{Fixture, Write};
use super::rig::{LOCK_BUDGET, Rig, drain, keys, open, pairs};
use crate::ErrorKind;
use crate::driver::{Owner, SwapOutcome};
use crate::run::RunState;
use crate::value::Bounds;

const ROWS: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

/// Short enough that a case does not wait, long enough to be measured.
const SHORT: Duration = Duration::from_millis(150);

pub(super) async fn lock_times_out_within_its_budget_and_changes_nothing(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let hold = fixture.hold().await;
    let asked = Instant::now();
    let error = rig.rebuild.cut_over().lock(SHORT).await.err().expect("the table is in use");
    assert_eq!(error.kind(), ErrorKind::LockTimeout, "{error}");
    // Generous: a loaded test machine is slow to say no, too.
    assert!(asked.elapsed() < SHORT + Duration::from_secs(2), "after {:?}", asked.elapsed());
    hold.release().await;
    rig.write(&[Write::Update("b", "20")]).await;
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Original);
    rig.lock().await.release().await.expect("the lock is given back");
}

pub(super) async fn holders_names_an_old_transaction(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let hold = fixture.hold().await;
    tokio::time::sleep(SHORT).await;
    // Not every server can tell; one that lists nobody must still time out.
    if rig.rebuild.cut_over().holders(Duration::from_millis(1)).await.expect("holders are read").is_empty() {
        rig.rebuild.cut_over().lock(SHORT).await.err().expect("the table is in use");
    }
    hold.release().await;
    let left = rig.rebuild.cut_over().holders(Duration::from_millis(1)).await.expect("holders are read");
    assert!(left.is_empty(), "nobody is left: {left:?}");
}

pub(super) async fn making_ready_changes_no_row_and_may_be_repeated_or_dropped(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let dropped = tokio::time::timeout(Duration::ZERO, rig.rebuild.cut_over().make_ready()).await;
    assert!(!matches!(dropped, Ok(Err(_))), "{dropped:?}");
    // Whoever writes meanwhile waits for nothing.
    let (ready, ()) =
        tokio::join!(rig.rebuild.cut_over().make_ready(), rig.write(&[Write::Update("a", "10")]));
    ready.expect("it is made ready");
    rig.rebuild.cut_over().make_ready().await.expect("it is ready still");
    assert_eq!(rig.written().await, pairs(&ROWS), "no row is changed");
    rig.lock().await.release().await.expect("the lock is given back");
    rig.rebuild.cut_over().make_ready().await.expect("it is made ready after an attempt");
    rig.swap().await;
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Shadow);
}

pub(super) async fn writers_wait_for_the_lock(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let mut feed = rig.feed(&rig.head().await).await;
    let mut guard = rig.lock().await;
    let head = guard.head().await.expect("the head is read");
    let write = rig.write(&[Write::Update("a", "10")]);
    tokio::pin!(write);
    let early = tokio::time::timeout(SHORT, &mut write);
    let (early, ()) = tokio::join!(early, fixture.commit_elsewhere());
    assert!(early.is_err(), "nobody writes while the lock is held");
    let again = guard.head().await.expect("the head is read");
    // A position may be the whole server's, which commits for others and for itself: the table's changes are what counts.
    if !rig.rebuild.reached(&head, &again) {
        let (changes, _) = drain(rig.rebuild.as_ref(), feed.as_mut(), &again).await;
        assert_eq!(changes, [], "nothing is committed to the table after the head: {head:?}, {again:?}");
    }
    // Giving the lock back and writing go on together: neither can wait for the other.
    let (released, ()) = tokio::join!(guard.release(), write);
    released.expect("the lock is given back");
    assert_eq!(rig.live().await, pairs(&[("a", "10"), ("b", "2"), ("c", "3")]));
}

pub(super) async fn release_without_commit_changes_nothing(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let changes = rig.changes_of(&[Write::Update("a", "10")]).await;
    let mut guard = rig.lock().await;
    guard.apply(&changes).await.expect("changes are applied under the lock");
    let changed: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
    let compared = guard.compare_keys(&changed).await.expect("keys are compared under the lock");
    assert_eq!(compared.differing, [], "and are equal then");
    guard.install_reverse().await.expect("the reverse feed is made");
    guard.release().await.expect("the lock is given back");
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Original);
    assert_eq!(rig.live().await, pairs(&[("a", "10"), ("b", "2"), ("c", "3")]));
    // The rebuild goes on as before: what was applied may be gone with the lock, applying again helps.
    rig.rebuild.apply(&changes).await.expect("changes are applied");
    assert_eq!(rig.written().await, pairs(&[("a", "10"), ("b", "2"), ("c", "3")]));
    rig.swap().await;
}

pub(super) async fn dropped_guard_lets_writers_go_on(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    drop(rig.lock().await);
    let write = rig.write(&[Write::Update("a", "10")]);
    tokio::time::timeout(Duration::from_secs(10), write).await.expect("writers go on");
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Original);
}

pub(super) async fn swap_keeps_the_name_and_the_owner_is_the_shadow(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Original);
    rig.swap().await;
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Shadow);
    let (job, reverse) = rig.reversed().await;
    assert_eq!(
        reverse.cut_over().owner().await.expect("the owner is read"),
        Owner::Original,
        "the other way"
    );
    rig.write(&[Write::Insert("d", "4"), Write::Update("a", "10")]).await;
    assert_eq!(rig.live().await, pairs(&[("a", "10"), ("b", "2"), ("c", "3"), ("d", "4")]));
    assert_eq!(fixture.rows(&fixture.written(&job)).await, pairs(&ROWS), "the retired table is kept");
    let other = open(fixture.session().await.as_ref(), &rig.job).await;
    assert_eq!(other.cut_over().owner().await.expect("the owner is read"), Owner::Shadow, "anybody sees it");
}

pub(super) async fn reverse_feed_sees_the_first_write_after_the_release(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let mut guard = rig.lock().await;
    let position = guard.install_reverse().await.expect("the reverse feed is made");
    let outcome = guard.commit().await;
    assert!(matches!(outcome, SwapOutcome::Done), "{outcome:?}");
    // The writer queues for the lock, so that nothing comes between the release and the write.
    let (released, ()) = tokio::join!(guard.release(), rig.write(&[Write::Update("b", "20")]));
    released.expect("the lock is given back");
    let (_, reverse) = rig.reversed().await;
    reverse.check_source().await.expect("the capture is whole");
    let goal = reverse.head().await.expect("the head is read");
    let mut feed = reverse.open_feed(&position).await.expect("the reverse feed opens");
    let (changes, _) = drain(reverse.as_ref(), feed.as_mut(), &goal).await;
    assert_eq!(keys(&changes).len(), 1, "the first write is in it: {changes:?}");
}

pub(super) async fn way_back_restores_the_old_table_with_every_write(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let position = rig.swap().await;
    rig.write(&[Write::Update("a", "10"), Write::Delete("b"), Write::Rekey("c", "x")]).await;
    rig.write(&[Write::Insert("b", "21")]).await;
    let (job, reverse) = rig.reversed().await;
    let goal = reverse.head().await.expect("the head is read");
    let mut feed = reverse.open_feed(&position).await.expect("the reverse feed opens");
    let (changes, _) = drain(reverse.as_ref(), feed.as_mut(), &goal).await;
    reverse.apply(&changes).await.expect("changes go back");
    let compared = reverse.compare(&Bounds::all()).await.expect("the tables are compared");
    assert_eq!((compared.rows, compared.differing.len()), (3, 0), "{:?}", compared.differing);
    let mut guard = reverse.cut_over().lock(LOCK_BUDGET).await.expect("the lock is free");
    let outcome = guard.commit().await;
    assert!(matches!(outcome, SwapOutcome::Done), "{outcome:?}");
    guard.release().await.expect("the lock is given back");
    assert_eq!(reverse.cut_over().owner().await.expect("the owner is read"), Owner::Shadow);
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Original);
    let expected = pairs(&[("a", "10"), ("b", "21"), ("x", "3")]);
    assert_eq!(rig.live().await, expected);
    reverse.discard().await.expect("what is left is removed");
    assert_eq!(rig.live().await, expected);
    rig.write(&[Write::Insert("y", "5")]).await;
    assert_eq!(job.table, fixture.table(), "the name never changed");
}

pub(super) async fn lock_under_an_old_token_is_refused(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    rig.next_token().await;
    let error = rig.rebuild.cut_over().lock(LOCK_BUDGET).await.err().expect("another has taken over");
    assert!(matches!(error.kind(), ErrorKind::Fenced | ErrorKind::NotFound), "{error:?}");
    rig.write(&[Write::Update("a", "10")]).await;
    assert_eq!(rig.live().await, pairs(&[("a", "10"), ("b", "2"), ("c", "3")]));
}

pub(super) async fn save_under_the_lock_is_visible_after_the_swap(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let mut guard = rig.lock().await;
    let mut run = rig.run.clone();
    run.state = RunState::CuttingOver;
    run.reverse_position = Some(guard.install_reverse().await.expect("the reverse feed is made"));
    let revision = guard.save(&run, rig.revision).await.expect("the run is saved");
    let stale = guard.save(&run, rig.revision).await.expect_err("the revision has moved on");
    assert_eq!(stale.kind(), ErrorKind::Fenced, "{stale}");
    let outcome = guard.commit().await;
    assert!(matches!(outcome, SwapOutcome::Done), "{outcome:?}");
    guard.release().await.expect("the lock is given back");
    let loaded = rig.session.state().load(&run.id).await.expect("the run is read");
    assert_eq!(loaded, Some((run, revision)));
}
