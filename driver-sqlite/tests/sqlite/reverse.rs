//! The way back: nothing that was written since is lost, and nothing that the old shape knew.

use rstest::rstest;

use replank_core::driver::Request;

use super::application::{Database, contents, execute, texts};
use super::rig::{Rig, keys};

#[tokio::test]
async fn dropped_values_stay_with_their_rows() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT, gone TEXT DEFAULT 'fresh', u TEXT UNIQUE)",
    )
    .await;
    let mut application = database.connect().await;
    execute(
        &mut application,
        "INSERT INTO t VALUES (1, 1, 'one', 'a'), (2, 2, 'two', 'b'), (3, 3, 'three', 'c'), (4, 4, 'four', 'd'),
         (5, 5, 'five', 'e'), (6, 6, 'six', 'f')",
    )
    .await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    rig.copy(2).await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    // Each of these means something else for the column that only the retired table has.
    execute(&mut application, "UPDATE t SET v = 10 WHERE id = 1").await;
    execute(&mut application, "UPDATE t SET id = 20 WHERE id = 2").await;
    execute(&mut application, "DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 30, 'c')").await;
    execute(&mut application, "INSERT OR REPLACE INTO t VALUES (4, 40, 'd')").await;
    execute(&mut application, "INSERT INTO t VALUES (5, 0, 'e') ON CONFLICT (id) DO UPDATE SET v = 50").await;
    execute(&mut application, "DELETE FROM t WHERE id = 6; UPDATE t SET id = 6 WHERE id = 1").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(
        texts(&mut application, "SELECT id || ' ' || v || ' ' || gone || ' ' || u FROM t ORDER BY id").await,
        ["3 30 fresh c", "4 40 fresh d", "5 50 five e", "6 10 one a", "20 2 two b"],
    );
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}

#[tokio::test]
async fn rows_that_take_each_others_key_keep_their_own_values() {
    let database = Database::new("CREATE TABLE t (a TEXT NOT NULL COLLATE NOCASE, b INT NOT NULL, gone TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES ('x', 1, 'X1'), ('y', 1, 'Y1'), ('z', 1, 'Z1')").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    rig.copy(10).await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    execute(&mut application, "UPDATE t SET b = 9 WHERE a = 'x'; UPDATE t SET a = 'x' WHERE a = 'y'; UPDATE t SET a = 'y', b = 1 WHERE b = 9").await;
    execute(&mut application, "UPDATE t SET a = 'Z' WHERE a = 'z'").await;
    execute(&mut application, "UPDATE OR REPLACE t SET a = 'y' WHERE a = 'Z'").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT a || b || gone FROM t ORDER BY a").await, ["x1Y1", "y1Z1"]);
}

#[tokio::test]
async fn rows_that_have_to_wait_keep_their_own_values() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT NOT NULL UNIQUE, gone TEXT)").await;
    let mut application = database.connect().await;
    execute(
        &mut application,
        "INSERT INTO t VALUES (1, 'a', 'A'), (2, 'b', 'B'), (3, 'c', 'C'), (4, 'd', 'D')",
    )
    .await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    rig.copy(10).await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    execute(
        &mut application,
        "BEGIN; UPDATE t SET u = 'x' WHERE id = 2; UPDATE t SET u = 'b' WHERE id = 1; UPDATE t SET u = 'a' WHERE id = 2;
         UPDATE t SET u = 'y' WHERE id = 4; UPDATE t SET u = 'd' WHERE id = 3; UPDATE t SET u = 'c' WHERE id = 4; COMMIT",
    )
    .await;
    let changes = rig.pull().await;
    // One row each time, so that each stands in another's way: the old row waits without its unique value.
    let of = |id: u32| -> Vec<_> {
        let key = format!("[[\"i\",{id}]]");
        changes.iter().filter(|change| change.key.0 == key).cloned().collect()
    };
    for id in [1, 3] {
        let applied = rig.rebuild.apply(&of(id)).await.expect("the batch is applied");
        assert_eq!(keys(&applied.displaced), [format!("[[\"i\",{id}]]")]);
    }
    // Meanwhile one that waits gets another key, and another is deleted and comes again.
    execute(
        &mut application,
        "UPDATE t SET id = 10 WHERE id = 1; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 'd')",
    )
    .await;
    rig.apply(changes).await;
    rig.catch_up().await;
    rig.assert_equal().await;
    let waiting = texts(&mut application, "SELECT name FROM _replank_objects WHERE role = 'parked'").await;
    assert_eq!(texts(&mut application, &format!("SELECT id FROM {}", waiting[0])).await, [] as [&str; 0]);
    rig.swap().await;
    assert_eq!(
        texts(&mut application, "SELECT id || u || coalesce(gone, '-') FROM t ORDER BY id").await,
        ["2aB", "3d-", "4cD", "10bA"],
    );
    rig.rebuild.discard().await.expect("what is left is removed");
    let left = "SELECT name FROM sqlite_schema WHERE name LIKE '\\_rp\\_%' ESCAPE '\\'";
    assert_eq!(texts(&mut application, left).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_value_that_was_converted_comes_back_as_it_was() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, n INT)").await;
    let mut application = database.connect().await;
    execute(
        &mut application,
        "INSERT INTO t VALUES (1, '007', 0), (2, '8.0', 0), (3, ' 9', 0), (4, '10', 0)",
    )
    .await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE INTEGER").await;
    rig.copy(10).await;
    rig.assert_equal().await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    rig.assert_equal().await;
    // Row 1 is touched and its value is not; row 2 gets another value; row 3 stays.
    execute(
        &mut application,
        "UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET v = 80 WHERE id = 2; INSERT INTO t VALUES (5, 5, 5)",
    )
    .await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(
        contents(&mut application, "t", &["id", "v", "n"]).await,
        [
            "integer 1 | text '007' | integer 1",
            "integer 2 | text '80' | integer 0",
            "integer 3 | text ' 9' | integer 0",
            "integer 4 | text '10' | integer 0",
            "integer 5 | text '5' | integer 5",
        ],
    );
}

#[tokio::test]
async fn expressions_go_both_ways() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 'Ada Lovelace'), (2, 'Alan Turing')").await;
    let request = Request::Statement {
        text: "ALTER TABLE t ADD first TEXT, ADD last TEXT, DROP name".to_owned(),
        forward: vec![
            ("first".to_owned(), "substr(name, 1, instr(name, ' ') - 1)".to_owned()),
            ("last".to_owned(), "substr(t.name, instr(name, ' ') + 1)".to_owned()),
        ],
        reverse: vec![("name".to_owned(), "first || ' ' || last".to_owned())],
        capture: None,
    };
    let mut rig = Rig::of(&database, &request).await;
    rig.copy(1).await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT last FROM t ORDER BY id").await, ["Lovelace", "Turing"]);
    let mut rig = rig.reversed().await;
    execute(
        &mut application,
        "UPDATE t SET last = 'King' WHERE id = 1; INSERT INTO t VALUES (3, 'Grace', 'Hopper')",
    )
    .await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(
        texts(&mut application, "SELECT name FROM t ORDER BY id").await,
        ["Ada King", "Alan Turing", "Grace Hopper"]
    );
}

#[rstest]
#[case::check(
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT CHECK (v < 10))",
    "DROP CONSTRAINT small",
    "UPDATE t SET v = 99 WHERE id = 2"
)]
#[case::not_null(
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT NOT NULL)",
    "ALTER v DROP NOT NULL",
    "UPDATE t SET v = NULL WHERE id = 2"
)]
#[tokio::test]
async fn what_the_old_shape_cannot_hold_is_named(
    #[case] create: &str,
    #[case] change: &str,
    #[case] write: &str,
) {
    let create = create.replace("CHECK", "CONSTRAINT small CHECK");
    let database = Database::new(&create).await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let mut rig = Rig::prepared(&database, &format!("ALTER TABLE t {change}")).await;
    rig.copy(10).await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    execute(&mut application, write).await;
    let changes = rig.pull().await;
    let error = rig.rebuild.apply(&changes).await.expect_err("the old shape refuses it");
    assert_eq!(error.kind(), replank_core::ErrorKind::Unfit, "{error}");
    assert!(error.to_string().contains("[[\"i\",2]]"), "{error}");
    // The application goes on, and once the value fits again so does the way back.
    execute(&mut application, "UPDATE t SET v = 5 WHERE id = 2").await;
    rig.apply(changes).await;
    rig.catch_up().await;
    rig.assert_equal().await;
}
