//! What the triggers must see: every way in which SQLite changes a row.

use rstest::rstest;

use super::application::{Database, execute, number, texts, try_execute};
use super::rig::{Rig, keys};

const SCHEMA: &str = "
    CREATE TABLE t (
        id INTEGER PRIMARY KEY,
        u TEXT UNIQUE,
        a INT NOT NULL ON CONFLICT REPLACE DEFAULT 77,
        b TEXT COLLATE NOCASE,
        live INT DEFAULT 1,
        UNIQUE (a, b)
    );
    CREATE UNIQUE INDEX t_lower ON t(lower(u) || 'x') WHERE live = 1;
    CREATE UNIQUE INDEX t_nocase ON t(u COLLATE NOCASE, live);
    INSERT INTO t VALUES (1, 'one', 1, 'x', 1), (2, 'two', 2, 'x', 1), (3, 'three', 77, 'z', 1), (4, 'FOUR', 4, 'w', 0), (5, 'five', 5, 'v', 1);
";

/// Whatever is done, the shadow follows: that is the whole point of the capture.
#[rstest]
#[case::insert_or_replace_by_key("INSERT OR REPLACE INTO t VALUES (1, 'new', 11, 'x', 1)")]
#[case::insert_or_replace_by_unique("INSERT OR REPLACE INTO t VALUES (9, 'two', 9, 'x', 1)")]
#[case::insert_or_replace_by_two_uniques("INSERT OR REPLACE INTO t VALUES (9, 'one', 2, 'X', 1)")]
#[case::replace_by_an_expression("REPLACE INTO t VALUES (9, 'TWO', 9, 'q', 1)")]
#[case::replace_by_a_collation("REPLACE INTO t VALUES (9, 'four', 9, 'q', 0)")]
#[case::replace_by_a_default("REPLACE INTO t (id, u, b) VALUES (9, 'nine', 'Z')")]
#[case::replace_null_by_a_default("INSERT OR REPLACE INTO t VALUES (9, 'nine', NULL, 'z', 1)")]
#[case::update_or_replace("UPDATE OR REPLACE t SET u = 'two' WHERE id = 1")]
#[case::update_or_replace_into_a_partial_index("UPDATE OR REPLACE t SET live = 1, u = 'Five' WHERE id = 4")]
#[case::update_or_replace_key("UPDATE OR REPLACE t SET id = 2 WHERE id = 1")]
#[case::update_or_replace_many("UPDATE OR REPLACE t SET b = 'same', a = 1")]
#[case::upsert("INSERT INTO t VALUES (1, 'other', 1, 'x', 1) ON CONFLICT (id) DO UPDATE SET u = excluded.u")]
#[case::upsert_nothing("INSERT INTO t VALUES (1, 'other', 1, 'x', 1) ON CONFLICT DO NOTHING")]
#[case::insert_or_ignore("INSERT OR IGNORE INTO t VALUES (1, 'a', 1, 'a', 1), (8, 'eight', 8, 'h', 1)")]
#[case::key_change("UPDATE t SET id = id + 100")]
#[case::key_shift("UPDATE t SET id = id - 1")]
#[case::row_id_alias("UPDATE t SET rowid = 50 WHERE id = 5")]
#[case::delete_all("DELETE FROM t")]
#[case::update_from("UPDATE t SET a = n.x FROM (SELECT 3 AS i, 33 AS x) AS n WHERE t.id = n.i")]
#[case::savepoint(
    "SAVEPOINT a; DELETE FROM t WHERE id = 1; ROLLBACK TO a; DELETE FROM t WHERE id = 2; RELEASE a"
)]
#[case::rollback("BEGIN; DELETE FROM t; ROLLBACK; UPDATE t SET a = 6 WHERE id = 1")]
#[case::recursive_triggers("PRAGMA recursive_triggers = ON; REPLACE INTO t VALUES (9, 'one', 2, 'x', 1)")]
#[tokio::test]
async fn every_write_reaches_the_shadow(#[case] write: &str) {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER live TYPE TEXT").await;
    rig.copy(10).await;
    rig.assert_equal().await;
    execute(&mut application, write).await;
    rig.catch_up().await;
    let compared = rig.compare().await;
    assert_eq!(keys(&compared.differing), [] as [&str; 0], "{write}");
}

#[tokio::test]
async fn a_replace_clause_of_the_definition_is_seen() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT, v TEXT, UNIQUE (u) ON CONFLICT REPLACE);
         INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'y')",
    )
    .await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE BLOB").await;
    rig.copy(10).await;
    execute(&mut application, "INSERT INTO t VALUES (3, 'a', 'z'); UPDATE t SET u = 'b' WHERE id = 3").await;
    let changes = rig.pull().await;
    let replaced: Vec<_> =
        changes.iter().filter(|change| change.removed).map(|change| change.key.0.as_str()).collect();
    assert_eq!(replaced, ["[[\"i\",1]]", "[[\"i\",2]]"], "both were deleted without a delete trigger");
    rig.apply(changes).await;
    rig.assert_equal().await;
    assert_eq!(number(&mut application, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn the_hidden_row_id_can_be_replaced_too() {
    let database = Database::new(
        "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, v INT); INSERT INTO t (rowid, k, v) VALUES (5, 'a', 1), (6, 'b', 2)",
    )
    .await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE TEXT").await;
    rig.copy(10).await;
    execute(&mut application, "INSERT OR REPLACE INTO t (rowid, k, v) VALUES (5, 'c', 3)").await;
    execute(&mut application, "UPDATE OR REPLACE t SET rowid = 6 WHERE k = 'c'").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    assert_eq!(texts(&mut application, "SELECT k FROM t").await, ["c"]);
}

#[tokio::test]
async fn actions_of_foreign_keys_are_seen() {
    let database = Database::new(
        "CREATE TABLE parent (x INTEGER PRIMARY KEY, y TEXT UNIQUE);
         CREATE TABLE t (id INTEGER PRIMARY KEY, x INT REFERENCES parent(x) ON DELETE CASCADE ON UPDATE CASCADE,
                         y TEXT DEFAULT 'd' REFERENCES parent(y) ON DELETE SET NULL ON UPDATE SET DEFAULT);
         INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'), (9, 'd');
         INSERT INTO t VALUES (1, 1, NULL), (2, 2, NULL), (3, NULL, 'c'), (4, NULL, 'a'), (5, 3, 'b')",
    )
    .await;
    let mut application = database.connect().await;
    let mut rig =
        Rig::prepared(&database, "ALTER TABLE t ADD note TEXT DEFAULT 'n', ALTER x TYPE BIGINT").await;
    rig.copy(10).await;
    execute(&mut application, "DELETE FROM parent WHERE x = 1; UPDATE parent SET x = 20 WHERE x = 2; DELETE FROM parent WHERE x = 3").await;
    execute(&mut application, "UPDATE parent SET y = 'e' WHERE y = 'b'").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(
        texts(&mut application, "SELECT id || coalesce(x, '-') || coalesce(y, '-') FROM t ORDER BY id").await,
        ["220-", "3--", "4--"],
    );
}

#[tokio::test]
async fn the_applications_own_triggers_and_counters_see_no_difference() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT);
         CREATE TABLE audit (n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
         CREATE TRIGGER t_audit AFTER UPDATE ON t BEGIN INSERT INTO audit (what) VALUES (OLD.v || '>' || NEW.v); END;
         CREATE TRIGGER t_again AFTER INSERT ON t WHEN NEW.v = 5 BEGIN UPDATE t SET v = 6 WHERE id = NEW.id; END;
         INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    .await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE TEXT").await;
    rig.copy(10).await;
    execute(&mut application, "INSERT INTO t VALUES (3, 5)").await;
    assert_eq!(number(&mut application, "SELECT last_insert_rowid()").await, 3);
    execute(&mut application, "UPDATE t SET v = 9 WHERE id < 3").await;
    assert_eq!(number(&mut application, "SELECT changes()").await, 2);
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    execute(&mut application, "UPDATE t SET v = 'x' WHERE id = 1").await;
    assert_eq!(
        texts(&mut application, "SELECT what FROM audit ORDER BY n").await,
        ["5>6", "1>9", "2>9", "9>x"],
        "each write fired once, and none of ours"
    );
}

#[tokio::test]
async fn a_statement_that_stops_half_way_leaves_no_gap() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT CHECK (v < 100)); INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    .await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ADD w TEXT").await;
    rig.copy(10).await;
    // OR FAIL keeps the rows before the one that failed, and their log rows, but not the log's sequence.
    try_execute(&mut application, "INSERT OR FAIL INTO t VALUES (3, 3), (4, 4), (5, 500), (6, 6)")
        .await
        .expect_err("5");
    rig.catch_up().await;
    execute(&mut application, "INSERT INTO t VALUES (7, 7)").await;
    try_execute(&mut application, "UPDATE t SET v = v * 20").await.expect_err("ABORT takes all of it back");
    execute(&mut application, "UPDATE t SET v = v + 1").await;
    try_execute(
        &mut application,
        "BEGIN; INSERT INTO t VALUES (8, 8); INSERT OR ROLLBACK INTO t VALUES (8, 8)",
    )
    .await
    .expect_err("the transaction is gone");
    execute(&mut application, "INSERT INTO t VALUES (9, 9)").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    assert_eq!(number(&mut application, "SELECT count(*) FROM t").await, 6);
}
