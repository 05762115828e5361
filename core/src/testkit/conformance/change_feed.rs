//! The change feed.

use std::time::Duration;

use super::fixture::{Fixture, Write};
use super::rig::{Rig, drain, keys};
use crate::ErrorKind;

const ROWS: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

pub(super) async fn feed_resumes_from_its_position_without_a_gap(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let start = rig.head().await;
    rig.write(&[Write::Update("a", "10")]).await;
    let mut feed = rig.feed(&start).await;
    let (first, middle) = rig.drain(feed.as_mut()).await;
    assert_eq!(keys(&first).len(), 1, "{first:?}");
    drop(feed);
    // Nobody listens, and nothing is missed.
    rig.write(&[Write::Update("b", "20")]).await;
    rig.write(&[Write::Delete("c")]).await;
    let (rest, _) = rig.drain(rig.feed(&middle).await.as_mut()).await;
    assert_eq!(keys(&rest).len(), 2, "{rest:?}");
    let (all, _) = rig.drain(rig.feed(&start).await.as_mut()).await;
    assert_eq!(keys(&all), &keys(&first) | &keys(&rest), "the older position still gives everything");
}

pub(super) async fn feed_hands_out_a_large_transaction_in_pieces(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let start = rig.head().await;
    let inserts = ["k1", "k2", "k3", "k4", "k5", "k6", "k7"].map(|key| Write::Insert(key, "1"));
    rig.write(&inserts).await;
    let goal = rig.head().await;
    let mut feed = rig.feed(&start).await;
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let batch = feed.next(2, Duration::from_millis(200)).await.expect("the feed goes on");
        assert!(batch.changes.len() <= 2, "no more keys than were asked for: {batch:?}");
        seen.extend(batch.changes);
        if let Some(position) = batch.position
            && rig.rebuild.reached(&position, &goal)
        {
            assert_eq!(keys(&seen).len(), 7, "the position comes with the last piece: {seen:?}");
            return;
        }
    }
    panic!("the feed does not end the transaction");
}

pub(super) async fn feed_answers_empty_when_nothing_happens(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let mut feed = rig.feed(&rig.head().await).await;
    for _ in 0..2 {
        let batch = feed.next(10, Duration::from_millis(50)).await.expect("nothing is no error");
        assert_eq!(batch.changes, [], "nothing has happened");
    }
    rig.write(&[Write::Update("a", "10")]).await;
    let (changes, _) = rig.drain(feed.as_mut()).await;
    assert_eq!(keys(&changes).len(), 1, "{changes:?}");
}

pub(super) async fn head_is_passed_once_everything_before_it_was_handed_out(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let start = rig.head().await;
    assert!(rig.rebuild.reached(&start, &start), "a position has reached itself");
    rig.write(&[Write::Update("a", "10")]).await;
    let goal = rig.head().await;
    assert!(!rig.rebuild.reached(&start, &goal), "a change lies in between");
    assert!(rig.rebuild.reached(&goal, &start));
    let mut feed = rig.feed(&start).await;
    let (changes, _) = drain(rig.rebuild.as_ref(), feed.as_mut(), &goal).await;
    assert_eq!(keys(&changes).len(), 1, "{changes:?}");
}

pub(super) async fn forgotten_positions_are_refused_or_complete(fixture: &dyn Fixture) {
    let rig = Rig::prepared(fixture, &ROWS).await;
    let start = rig.head().await;
    rig.write(&[Write::Update("a", "10")]).await;
    let middle = rig.head().await;
    rig.write(&[Write::Update("b", "20")]).await;
    for position in [&middle, &middle, &start] {
        rig.rebuild.forget(position).await.expect("forgetting again, or less, changes nothing");
    }
    let (rest, _) = rig.drain(rig.feed(&middle).await.as_mut()).await;
    assert_eq!(keys(&rest).len(), 1, "what was not forgotten is there: {rest:?}");
    // The log need not be shortened at once; but what is handed out then is complete.
    match rig.rebuild.open_feed(&start).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::FeedGap, "{error}"),
        Ok(mut feed) => match feed.next(100, Duration::from_millis(200)).await {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::FeedGap, "{error}");
                let again = feed.next(100, Duration::from_millis(200)).await.expect_err("it stays so");
                assert_eq!(again.kind(), ErrorKind::FeedGap, "{again}");
            }
            Ok(batch) => {
                let (more, _) = rig.drain(feed.as_mut()).await;
                let all = &keys(&batch.changes) | &keys(&more);
                assert_eq!(all.len(), 2, "never from later on without an error: {all:?}");
            }
        },
    }
}
