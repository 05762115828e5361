//! R7: what the feed cannot explain stops the run.

use std::time::Duration;

use rstest::rstest;

use replank_core::ErrorKind;
use replank_core::value::Position;

use super::application::{Database, execute, texts};
use super::rig::{LOCK_BUDGET, Rig, is_gap};

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT, w INT); CREATE INDEX t_v ON t(v);
    CREATE TABLE other (x); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)";

#[rstest]
#[case::trigger_dropped("DROP TRIGGER {log}_upd", ErrorKind::FeedGap)]
#[case::before_trigger_dropped("DROP TRIGGER {log}_bins", ErrorKind::FeedGap)]
#[case::trigger_replaced(
    "DROP TRIGGER {log}_del; CREATE TRIGGER {log}_del AFTER DELETE ON t BEGIN SELECT 1; END",
    ErrorKind::FeedGap
)]
#[case::log_dropped("DROP TABLE {log}", ErrorKind::FeedGap)]
#[case::log_emptied("DELETE FROM {log}", ErrorKind::FeedGap)]
#[case::log_emptied_and_filled(
    "UPDATE t SET v = 4; DELETE FROM {log}; UPDATE t SET v = 5",
    ErrorKind::FeedGap
)]
#[case::log_row_deleted(
    "UPDATE t SET v = 5; DELETE FROM {log} WHERE seq = (SELECT min(seq) + 1 FROM {log}); UPDATE t SET v = 6",
    ErrorKind::FeedGap
)]
#[case::column_added("ALTER TABLE t ADD COLUMN x INT", ErrorKind::ForeignDdl)]
#[case::column_renamed("ALTER TABLE t RENAME COLUMN v TO y", ErrorKind::ForeignDdl)]
#[case::index_added("CREATE INDEX t_more ON t(v)", ErrorKind::ForeignDdl)]
#[case::index_dropped("DROP INDEX t_v", ErrorKind::ForeignDdl)]
#[case::trigger_added("CREATE TRIGGER theirs AFTER INSERT ON t BEGIN SELECT 1; END", ErrorKind::ForeignDdl)]
#[tokio::test]
async fn what_others_do_to_table_or_capture_stops_the_feed(#[case] harm: &str, #[case] kind: ErrorKind) {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let rig = Rig::prepared(&database, "ALTER TABLE t ALTER w TYPE TEXT").await;
    rig.copy(10).await;
    let mut feed = rig.rebuild.open_feed(&rig.position).await.expect("the feed opens");
    feed.next(10, Duration::ZERO).await.expect("nothing is wrong yet");
    let log = texts(&mut application, "SELECT name FROM _replank_objects WHERE role = 'log'").await;
    execute(&mut application, &harm.replace("{log}", &log[0])).await;
    let error = feed.next(10, Duration::ZERO).await.expect_err("the feed stops");
    assert_eq!(error.kind(), kind, "{error}");
    let again = feed.next(10, Duration::ZERO).await.expect_err("and stays so");
    assert_eq!(again.kind(), kind, "{again}");
    assert!(is_gap(rig.rebuild.open_feed(&rig.position).await.err().expect("no new feed either").kind()));
    if !harm.contains("DELETE FROM {log}") {
        assert!(is_gap(rig.rebuild.check_source().await.expect_err("the check says so").kind()));
        let error = rig.rebuild.cut_over().lock(LOCK_BUDGET).await.err().expect("no swap");
        assert!(is_gap(error.kind()), "{error}");
    }
    rig.rebuild.discard().await.expect("giving up works all the same");
}

#[tokio::test]
async fn ddl_elsewhere_and_vacuum_are_nobodys_business() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER w TYPE TEXT").await;
    rig.copy(10).await;
    execute(
        &mut application,
        "ALTER TABLE other ADD COLUMN y; CREATE INDEX other_x ON other(x); CREATE VIEW o AS SELECT * FROM t",
    )
    .await;
    execute(&mut application, "UPDATE t SET v = 9; VACUUM; ANALYZE; UPDATE t SET w = 3").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT w FROM o").await, ["3", "3"]);
    // The swap itself is known by what stands in the catalogue, also after a VACUUM.
    execute(&mut application, "VACUUM").await;
    let owner = rig.rebuild.cut_over().owner().await.expect("the owner is read");
    assert_eq!(owner, replank_core::driver::Owner::Shadow);
}

#[tokio::test]
async fn an_owner_that_cannot_be_shown_is_not_guessed() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER w TYPE TEXT").await;
    rig.copy(10).await;
    rig.swap().await;
    let retired = rig.retired();
    execute(
        &mut application,
        &format!("ALTER TABLE t RENAME TO elsewhere; ALTER TABLE {retired} RENAME TO t"),
    )
    .await;
    let owner = rig.rebuild.cut_over().owner().await.expect("the owner is read");
    assert_eq!(owner, replank_core::driver::Owner::Unknown);
}

#[tokio::test]
async fn positions_that_never_were_are_refused() {
    let database = Database::new(SCHEMA).await;
    let rig = Rig::prepared(&database, "ALTER TABLE t ALTER w TYPE TEXT").await;
    for position in ["0", "99", "-1"] {
        let error = rig.rebuild.open_feed(&Position(position.to_owned())).await;
        let kind = match error {
            Err(error) => error.kind(),
            // The marker row is handed to nobody.
            Ok(_) => panic!("{position} is no place in the log"),
        };
        assert_eq!(kind, ErrorKind::FeedGap, "{position}");
    }
    let error = rig.rebuild.open_feed(&Position("x".to_owned())).await.err().expect("not a position");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(!rig.rebuild.reached(&Position("x".to_owned()), &rig.position));
}
