//! Runs and their records.

use super::fixture::Fixture;
use super::rig::{Rig, TTL, holder, run_of};
use crate::ErrorKind;
use crate::driver::Revision;
use crate::ident::RunId;
use crate::journal::chain;
use crate::run::RunState;
use crate::value::{Key, Position};

pub(super) async fn a_store_that_was_never_made_reads_as_empty(fixture: &dyn Fixture) {
    let session = fixture.session().await;
    let state = session.state();
    assert_eq!(state.runs().await.expect("no runs"), []);
    assert_eq!(state.load(&RunId::random()).await.expect("no run"), None);
    assert_eq!(state.events(None).await.expect("no records"), []);
    assert_eq!(state.lease(&fixture.table()).await.expect("no lease"), None);
    for _ in 0..2 {
        state.ensure().await.expect("making it again is harmless");
    }
    let mut run = run_of(fixture, session.as_ref()).await;
    let token =
        state.take_lease(&run.table, None, &holder(&run.id), TTL).await.expect("the lease is written");
    run.fence = token.expect("nobody had the lease");
    assert_eq!(state.create(&run).await.expect("the run is new"), Revision(1));
    state.create(&run).await.expect_err("it is there already");
    state.ensure().await.expect("making it again is harmless");
    assert_eq!(state.runs().await.expect("one run"), [run]);
}

pub(super) async fn a_run_is_kept_as_it_was_saved(fixture: &dyn Fixture) {
    let rig = Rig::new(fixture, &[]).await;
    let mut run = rig.run.clone();
    run.state = RunState::Verifying;
    run.checkpoint.prepared = true;
    run.checkpoint.position = Some(Position("a \"position\" with\nödd text".to_owned()));
    run.checkpoint.copied.watermark = Some(Key("a 'key' \\ with ödd text".to_owned()));
    run.checkpoint.copied.rows = u64::from(u32::MAX) + 1;
    run.note = Some(String::new());
    let state = rig.session.state();
    let revision = state.save(&run, rig.revision, rig.run.fence).await.expect("the run is saved");
    assert!(revision > rig.revision);
    let other = fixture.session().await;
    assert_eq!(other.state().load(&run.id).await.expect("the run is read"), Some((run.clone(), revision)));
    let mut newer = run_of(fixture, rig.session.as_ref()).await;
    newer.fence = rig.run.fence;
    state.create(&newer).await.expect("the run is new");
    assert_eq!(state.runs().await.expect("two runs"), [run, newer], "oldest first");
}

/// A runner that stood still between taking the lease and recording its run leaves none behind.
pub(super) async fn create_under_an_old_token_is_fenced(fixture: &dyn Fixture) {
    let rig = Rig::new(fixture, &[]).await;
    let mut late = run_of(fixture, rig.session.as_ref()).await;
    late.fence = rig.run.fence;
    rig.next_token().await;
    let error = rig.session.state().create(&late).await.expect_err("another has taken over");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let runs = rig.session.state().runs().await.expect("the runs are read");
    assert_eq!(runs, [rig.run], "nothing was added");
}

pub(super) async fn save_with_a_stale_revision_or_token_is_fenced(fixture: &dyn Fixture) {
    let rig = Rig::new(fixture, &[]).await;
    let state = rig.session.state();
    let mut run = rig.run.clone();
    run.state = RunState::Copying;
    let second = state.save(&run, rig.revision, run.fence).await.expect("the run is saved");
    run.state = RunState::Failed;
    let error = state.save(&run, rig.revision, run.fence).await.expect_err("the revision is over");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    rig.next_token().await;
    let error = state.save(&run, second, run.fence).await.expect_err("the token is over");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let (kept, revision) = state.load(&run.id).await.expect("the run is read").expect("it is there");
    assert_eq!((kept.state, revision), (RunState::Copying, second), "nothing was changed");
}

pub(super) async fn records_are_chained(fixture: &dyn Fixture) {
    let rig = Rig::new(fixture, &[]).await;
    let state = rig.session.state();
    let other = RunId::random();
    for (run, number) in [(&rig.run.id, 1), (&other, 2), (&rig.run.id, 3)] {
        let body =
            serde_json::json!({ "z": number, "a": "ödd \"text\"", "deep": { "b": [1, null], "a": 0.5 } });
        state.append(run, "phase", &body).await.expect("the record is added");
    }
    let all = state.events(None).await.expect("the records are read");
    assert_eq!(all.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(chain::first_break(&all), None, "the chain holds");
    let own = state.events(Some(&rig.run.id)).await.expect("the records are read");
    assert_eq!(own.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 3], "those of one run");
}
