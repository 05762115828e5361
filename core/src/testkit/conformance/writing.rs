//! Applying changes.

use super::fixture::{Fixture, Write};
use super::rig::{Rig, keys, pairs};

const ROWS: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

pub(super) async fn apply_makes_rows_equal_and_is_idempotent(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let changes = rig.changes_of(&[Write::Update("b", "20"), Write::Insert("d", "40")]).await;
    assert_eq!(rig.written().await, pairs(&ROWS), "nothing arrives before it is applied");
    for _ in 0..2 {
        let applied = rig.rebuild.apply(&changes).await.expect("the batch is applied");
        assert_eq!(applied.displaced, [], "no row is in another's way");
        assert_eq!(rig.written().await, pairs(&[("a", "1"), ("b", "20"), ("c", "3"), ("d", "40")]));
    }
}

pub(super) async fn apply_removes_rows_that_are_gone(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let changes = rig.changes_of(&[Write::Delete("a"), Write::Delete("c")]).await;
    assert!(changes.iter().all(|change| change.removed), "a deleted row was absent: {changes:?}");
    rig.rebuild.apply(&changes).await.expect("the batch is applied");
    assert_eq!(rig.written().await, pairs(&[("b", "2")]));
}

pub(super) async fn apply_reads_the_row_as_it_is_now(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let changes = rig.changes_of(&[Write::Update("a", "10"), Write::Delete("b")]).await;
    // The changes are old by the time they are applied.
    rig.write(&[Write::Update("a", "11"), Write::Insert("b", "21")]).await;
    rig.rebuild.apply(&changes).await.expect("the batch is applied");
    assert_eq!(rig.written().await, pairs(&[("a", "11"), ("b", "21"), ("c", "3")]));
}

pub(super) async fn key_change_arrives_as_both_keys(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    let changes = rig.changes_of(&[Write::Rekey("b", "x")]).await;
    assert_eq!(keys(&changes).len(), 2, "the old key and the new one: {changes:?}");
    rig.rebuild.apply(&changes).await.expect("the batch is applied");
    assert_eq!(rig.written().await, pairs(&[("a", "1"), ("c", "3"), ("x", "2")]));
}
