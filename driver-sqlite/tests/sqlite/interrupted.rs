//! Calls that are dropped half-way, as a crash does: the database is as before or as after, and going on
//! works.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use replank_core::ErrorKind;
use replank_core::driver::Owner;
use replank_core::value::Bounds;

use super::application::{Database, execute, texts};
use super::rig::{LOCK_BUDGET, Rig, open};

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, gone TEXT, u TEXT UNIQUE);
    CREATE INDEX t_v ON t(v); CREATE UNIQUE INDEX t_uv ON t(u, v);
    INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
    SELECT i, i, 'gone ' || i, hex(i) FROM n";

/// Dropped after ever more polls, until the call gets through: at every place where it waits for an answer.
async fn dropped<T>(polls: &mut u32, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = *polls;
    *polls += 1;
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepare_and_discard_can_stop_anywhere() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    rig.rebuild.discard().await.expect("everything is removed");
    let mut stops = 0;
    let mut step = 0;
    loop {
        let prepared = dropped(&mut step, rig.rebuild.prepare()).await;
        // Nothing half made: either nothing is there, and preparing works, or all of it is.
        if prepared.is_none() {
            stops += 1;
            match rig.rebuild.prepare().await {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
            }
            rig.rebuild.check_source().await.expect("the capture is whole");
        }
        rig.copy(200).await;
        let mut inner = 0;
        while dropped(&mut inner, rig.rebuild.discard()).await.is_none() {
            stops += 1;
        }
        rig.rebuild.discard().await.expect("again is harmless");
        let left = "SELECT name FROM sqlite_schema WHERE name LIKE '\\_rp\\_%' ESCAPE '\\'";
        assert_eq!(texts(&mut application, left).await, [] as [&str; 0]);
        if prepared.is_some() {
            break;
        }
    }
    assert!(stops > 5, "only {stops} calls were stopped");
    execute(&mut application, "UPDATE t SET v = 0").await;
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_apply_fence_and_swap_can_stop_anywhere() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    let mut stops = 0;

    let mut step = 0;
    while dropped(&mut step, rig.rebuild.copy(&Bounds::all())).await.is_none() {
        stops += 1;
    }
    execute(&mut application, "UPDATE t SET v = v + 1; DELETE FROM t WHERE id % 3 = 0").await;
    let changes = rig.pull().await;
    let mut step = 0;
    while dropped(&mut step, rig.rebuild.apply(&changes)).await.is_none() {
        stops += 1;
    }
    rig.apply(changes).await;
    rig.assert_equal().await;

    let token = rig.take_over().await;
    let mut step = 0;
    while dropped(&mut step, rig.rebuild.fence(token)).await.is_none() {
        stops += 1;
        // What was sent may have been done: a fresh handle finds out.
        rig.rebuild = open(rig.session.as_ref(), &rig.job).await;
    }
    rig.rebuild.fence(token).await.expect("again is harmless");
    rig.assert_equal().await;

    let mut step = 0;
    loop {
        let mut guard = rig.rebuild.cut_over().lock(LOCK_BUDGET).await.expect("the lock is granted");
        guard.install_reverse().await.expect("the reverse feed is made");
        let outcome = dropped(&mut step, guard.commit()).await;
        drop(guard);
        // A statement that was on its way when the guard was dropped ends before the write lock is free.
        execute(&mut application, "BEGIN IMMEDIATE; ROLLBACK").await;
        let columns = texts(&mut application, "SELECT name FROM pragma_table_info('t')").await;
        let swapped = !columns.contains(&"gone".to_owned());
        let owner = rig.rebuild.cut_over().owner().await.expect("the owner is read");
        assert_eq!(owner, if swapped { Owner::Shadow } else { Owner::Original });
        if swapped {
            break;
        }
        assert!(outcome.is_none(), "{outcome:?}");
        stops += 1;
        rig.rebuild.check_source().await.expect("the capture is whole");
    }
    assert!(stops > 10, "only {stops} calls were stopped");
    let mut rig = rig.reversed().await;
    execute(&mut application, "UPDATE t SET id = id + 1000 WHERE id < 50").await;
    rig.position = replank_core::value::Position("1".to_owned());
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT count(*) FROM t WHERE gone IS NULL").await, ["0"]);
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}
