//! Leases.

use std::time::Duration;

use super::fixture::Fixture;
use super::rig::{TTL, holder};
use crate::ErrorKind;
use crate::ident::{Fence, RunId, TableId};

pub(super) async fn tokens_grow_with_every_holder(fixture: &dyn Fixture) {
    let session = fixture.session().await;
    let (state, table, run) = (session.state(), fixture.table(), RunId::random());
    state.ensure().await.expect("the records can be made");
    assert_eq!(state.lease(&table).await.expect("the lease is read"), None, "nobody ever had it");
    let mut seen: Option<Fence> = None;
    for _ in 0..3 {
        let taken = state.take_lease(&table, seen, &holder(&run), TTL).await.expect("the lease is written");
        assert!(taken > seen, "{taken:?} after {seen:?}");
        let lease = state.lease(&table).await.expect("the lease is read").expect("it is held");
        assert_eq!((Some(lease.token), lease.holder), (taken, Some(holder(&run))));
        assert!(lease.remaining > TTL / 2 && lease.remaining <= TTL, "{:?}", lease.remaining);
        seen = taken;
    }
    let other = TableId { name: format!("{}_other", table.name), ..table };
    assert_eq!(state.lease(&other).await.expect("the lease is read"), None, "each table has its own");
}

pub(super) async fn a_lease_is_taken_once_per_token(fixture: &dyn Fixture) {
    let (one, two) = (fixture.session().await, fixture.session().await);
    let (table, run) = (fixture.table(), RunId::random());
    one.state().ensure().await.expect("the records can be made");
    let me = holder(&run);
    let (first, second) = tokio::join!(
        one.state().take_lease(&table, None, &me, TTL),
        two.state().take_lease(&table, None, &me, TTL),
    );
    let taken = [first.expect("the lease is written"), second.expect("the lease is written")];
    assert_eq!(taken.iter().flatten().count(), 1, "one of two is faster: {taken:?}");
    let again = two.state().take_lease(&table, None, &me, TTL).await.expect("the lease is read");
    assert_eq!(again, None, "what was seen is over");
    let seen = taken.into_iter().flatten().next();
    let next = two.state().take_lease(&table, seen, &me, TTL).await.expect("the lease is written");
    assert!(next > seen);
}

pub(super) async fn renewing_after_a_takeover_is_fenced(fixture: &dyn Fixture) {
    let session = fixture.session().await;
    let (state, table, run) = (session.state(), fixture.table(), RunId::random());
    state.ensure().await.expect("the records can be made");
    let short = Duration::from_secs(3);
    let first = state.take_lease(&table, None, &holder(&run), short).await.expect("the lease is written");
    let token = first.expect("nobody had it");
    state.renew_lease(&table, token, TTL).await.expect("it is ours");
    let remaining = state.lease(&table).await.expect("the lease is read").expect("it is held").remaining;
    assert!(remaining > short, "the expiry was put off: {remaining:?}");
    state
        .take_lease(&table, first, &holder(&run), TTL)
        .await
        .expect("the lease is written")
        .expect("taken over");
    let error = state.renew_lease(&table, token, TTL).await.expect_err("it is another's");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
}

pub(super) async fn releasing_keeps_the_token_and_leaves_another_holder_alone(fixture: &dyn Fixture) {
    let session = fixture.session().await;
    let (state, table, run) = (session.state(), fixture.table(), RunId::random());
    state.ensure().await.expect("the records can be made");
    let first = state.take_lease(&table, None, &holder(&run), TTL).await.expect("the lease is written");
    let old = first.expect("nobody had it");
    state.release_lease(&table, old).await.expect("it is given up");
    let lease = state.lease(&table).await.expect("the lease is read").expect("its token stays");
    assert_eq!((lease.token, lease.holder), (old, None));
    let second = state.take_lease(&table, first, &holder(&run), TTL).await.expect("the lease is written");
    assert!(second > first, "the next token is greater");
    state.release_lease(&table, old).await.expect("what is not ours is left alone");
    let lease = state.lease(&table).await.expect("the lease is read").expect("it is held");
    assert_eq!((Some(lease.token), lease.holder), (second, Some(holder(&run))));
}
