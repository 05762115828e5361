//! Preparing, copying, discarding.

use super::fixture::{Fixture, Write};
use super::rig::{Rig, open, pairs};
use crate::ErrorKind;
use crate::driver::{Effort, IndexBuild, RebuildJob};
use crate::ident::TableId;
use crate::value::Bounds;

const ROWS: [(&str, &str); 5] = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")];

pub(super) async fn rows_are_counted_one_by_one(fixture: &dyn Fixture) {
    let rig = Rig::new(fixture, &ROWS).await;
    assert_eq!(rig.session.count(&fixture.table()).await.expect("they are counted"), 5);
    rig.write(&[Write::Delete("a"), Write::Delete("b")]).await;
    assert_eq!(rig.session.count(&fixture.table()).await.expect("they are counted"), 3);
    let missing = TableId { name: "missing".into(), ..fixture.table() };
    let error = rig.session.count(&missing).await.expect_err("there is no such table");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

pub(super) async fn prepare_makes_an_empty_table_and_refuses_a_second_time(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    assert_eq!(rig.written().await, [], "the shadow is empty");
    rig.rebuild.prepare().await.expect_err("something is there already");
    assert_eq!(rig.live().await, pairs(&ROWS), "the live table is as before");
    rig.rebuild.discard().await.expect("everything is removed");
    rig.rebuild.prepare().await.expect("nothing is in the way any more");
}

pub(super) async fn discard_leaves_the_live_table_alone_and_is_harmless_again(fixture: &dyn Fixture) {
    let rig = Rig::copied(fixture, &ROWS).await;
    for _ in 0..2 {
        rig.rebuild.discard().await.expect("everything is removed, or was");
        assert_eq!(rig.live().await, pairs(&ROWS), "the live table is as before");
    }
    rig.write(&[Write::Insert("f", "6")]).await;
    rig.rebuild.copy(&Bounds::all()).await.expect_err("there is nothing to copy into");
}

pub(super) async fn next_bound_walks_every_row_once(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    for rows in [1, 2, 10] {
        let mut read = 0;
        let mut lower = None;
        let mut chunks = 0;
        loop {
            let upper = rig.rebuild.next_bound(lower.as_ref(), rows).await.expect("the bound is read");
            let bounds = Bounds { lower: lower.clone(), upper: upper.clone() };
            let copied = rig.rebuild.copy(&bounds).await.expect("the chunk is copied");
            read += copied.read;
            chunks += 1;
            assert!(upper.is_none() || copied.read <= rows, "a chunk has no more rows than were asked for");
            assert!(chunks <= 7, "five rows do not make more chunks");
            if upper.is_none() {
                break;
            }
            lower = upper;
        }
        assert_eq!(read, 5, "{rows} rows a chunk: every row is in one of them");
    }
    assert_eq!(rig.written().await, pairs(&ROWS), "all chunks together are the table");
}

pub(super) async fn copy_brings_every_row_and_copying_again_changes_nothing(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let first = rig.rebuild.copy(&Bounds::all()).await.expect("the rows are copied");
    assert_eq!((first.read, first.written), (5, 5));
    let again = rig.rebuild.copy(&Bounds::all()).await.expect("copying again is allowed");
    assert_eq!((again.read, again.written), (5, 0), "nothing is written twice");
    assert_eq!(rig.written().await, pairs(&ROWS));
}

/// The answer to a chunk was lost, and whoever goes on has other bounds.
pub(super) async fn copy_with_other_bounds_brings_only_what_is_not_there(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let (lower, upper) = (rig.rebuild.next_bound(None, 1).await, rig.rebuild.next_bound(None, 3).await);
    let (lower, upper) = (lower.expect("the bound is read"), upper.expect("the bound is read"));
    let middle = Bounds { lower, upper: upper.clone() };
    assert_eq!(rig.rebuild.copy(&middle).await.expect("the chunk is copied").written, 2);
    let successor = open(rig.session.as_ref(), &rig.job).await;
    let token = rig.next_token().await;
    successor.fence(token).await.expect("the new holder fences");
    let bounds = [Bounds { lower: None, upper }, Bounds::all()];
    let mut copied = Vec::new();
    for bounds in bounds {
        let done = successor.copy(&bounds).await.expect("the rows are copied");
        copied.push((done.read, done.written));
    }
    assert_eq!(copied, [(3, 1), (5, 2)], "rows of other chunks are left out");
    let renamed = RebuildJob { fence: token, ..rig.job.clone() };
    assert_eq!(fixture.rows(&fixture.written(&renamed)).await, pairs(&ROWS));
    for index in successor.deferred_indexes().await.expect("the indexes are listed") {
        let built = successor.build_index(&index, Effort::Usual).await.expect("the index is built");
        assert_eq!(built, IndexBuild::Built, "no row is there twice");
    }
}

/// Where nothing is applied during the copy, no newer version can be there.
pub(super) async fn copy_never_overwrites(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    if !rig.rebuild.pace().apply_during_copy {
        return;
    }
    // As if a newer version had been applied before the chunk arrives.
    rig.damage(&[Write::Insert("b", "99")]).await;
    let copied = rig.rebuild.copy(&Bounds::all()).await.expect("the rows are copied");
    assert_eq!((copied.read, copied.written), (5, 4));
    let kept = [("a", "1"), ("b", "99"), ("c", "3"), ("d", "4"), ("e", "5")];
    assert_eq!(rig.written().await, pairs(&kept), "the row that was there stays");
}

pub(super) async fn copy_stays_within_its_bounds(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let middle = rig.rebuild.next_bound(None, 3).await.expect("the bound is read");
    let first = Bounds { lower: None, upper: middle.clone() };
    assert_eq!(rig.rebuild.copy(&first).await.expect("the chunk is copied").written, 3);
    // A row that is inserted behind every known key belongs to the last, open chunk.
    rig.write(&[Write::Insert("zz", "7")]).await;
    let rest = Bounds { lower: middle, upper: None };
    rig.rebuild.copy(&rest).await.expect("the chunk is copied");
    let all = rig.rebuild.copy(&Bounds::all()).await.expect("the rows are copied");
    assert_eq!((all.read, all.written), (6, 0), "two neighbouring chunks leave nothing out");
}
