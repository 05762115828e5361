//! R5: what was sent under an older token does not take effect.

use super::fixture::{Fixture, Write};
use super::rig::{Rig, open, pairs};
use crate::ErrorKind;
use crate::driver::{Owner, RebuildJob};
use crate::value::Bounds;

const ROWS: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

fn misses(kind: ErrorKind) {
    assert!(
        matches!(kind, ErrorKind::Fenced | ErrorKind::NotFound),
        "fenced, or there is no table: {kind:?}"
    );
}

pub(super) async fn write_under_an_old_token_changes_nothing(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let changes = rig.changes_of(&[Write::Update("a", "10")]).await;
    let token = rig.next_token().await;
    let successor = open(rig.session.as_ref(), &rig.job).await;
    successor.fence(token).await.expect("the new holder fences");
    misses(rig.rebuild.copy(&Bounds::all()).await.expect_err("the old handle copies nothing").kind());
    misses(rig.rebuild.apply(&changes).await.expect_err("nor does it apply").kind());
    let renamed = RebuildJob { fence: token, ..rig.job.clone() };
    assert_eq!(fixture.rows(&fixture.written(&renamed)).await, [], "nothing was written");
    successor.copy(&Bounds::all()).await.expect("the new handle writes under the new token");
    assert_eq!(fixture.rows(&fixture.written(&renamed)).await, pairs(&[("a", "10"), ("b", "2"), ("c", "3")]));
}

pub(super) async fn fence_keeps_the_rows_and_is_idempotent(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let token = rig.next_token().await;
    for _ in 0..2 {
        rig.rebuild.fence(token).await.expect("fencing again changes nothing");
    }
    let renamed = RebuildJob { fence: token, ..rig.job.clone() };
    assert_eq!(fixture.rows(&fixture.written(&renamed)).await, pairs(&ROWS));
    // A handle that does not know of the rename finds the table by what the run owns.
    let other = open(rig.session.as_ref(), &rig.job).await;
    other.fence(token).await.expect("fencing again changes nothing");
    let compared = other.compare(&Bounds::all()).await.expect("the tables are compared");
    assert_eq!((compared.rows, compared.differing.len()), (3, 0));
}

pub(super) async fn fence_under_a_token_that_is_not_the_newest_is_refused(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let (older, newest) = (rig.next_token().await, rig.next_token().await);
    let successor = open(rig.session.as_ref(), &rig.job).await;
    successor.fence(newest).await.expect("the new holder fences");
    // A runner that stood still, and wakes up with the token of before.
    misses(rig.rebuild.fence(older).await.expect_err("the older token is over").kind());
    successor.apply(&[]).await.expect("the newest token still holds");
    successor.copy(&Bounds::all()).await.expect("the newest token still holds");
}

pub(super) async fn forget_and_discard_under_an_old_token_are_refused(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let head = rig.head().await;
    let token = rig.next_token().await;
    let successor = open(rig.session.as_ref(), &rig.job).await;
    successor.fence(token).await.expect("the new holder fences");
    misses(rig.rebuild.forget(&head).await.expect_err("the log is the new holder's").kind());
    misses(rig.rebuild.discard().await.expect_err("so are the objects").kind());
    let compared = successor.compare(&Bounds::all()).await.expect("everything is still there");
    assert_eq!((compared.rows, compared.differing.len()), (3, 0));
}

/// A swap whose reply was lost: whoever takes over fences first, and asks for the owner then.
pub(super) async fn fence_after_the_swap_leaves_the_live_table_alone(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    rig.swap().await;
    let token = rig.next_token().await;
    let successor = open(rig.session.as_ref(), &rig.job).await;
    successor.fence(token).await.expect("there is nothing to rename, and that is well");
    assert_eq!(successor.cut_over().owner().await.expect("the owner is read"), Owner::Shadow);
    rig.write(&[Write::Update("a", "10")]).await;
    assert_eq!(rig.live().await, pairs(&[("a", "10"), ("b", "2"), ("c", "3")]));
    let (_, reverse) = rig.reversed().await;
    reverse.fence(token).await.expect("the retired table is fenced");
    let compared = reverse.compare(&Bounds::all()).await.expect("the tables are compared");
    assert_eq!((compared.rows, compared.differing.len()), (3, 1), "the write is still to go back");
}
