//! Copy, apply, compare: rows and values of every kind.

use rstest::rstest;

use replank_core::ErrorKind;
use replank_core::driver::{Owner, Request};
use replank_core::value::Bounds;

use super::application::{Database, contents, execute, number, texts};
use super::rig::{Rig, keys, open};

/// What a blocking change would have left: a table of the new shape, filled by one INSERT.
async fn oracle(database: &Database, create: &str, insert: &str) {
    let mut application = database.connect().await;
    execute(&mut application, create).await;
    execute(&mut application, insert).await;
}

#[tokio::test]
async fn adversarial_keys_and_values_survive() {
    let database =
        Database::new("CREATE TABLE t (a TEXT NOT NULL, b BLOB NOT NULL, v, PRIMARY KEY (a, b))").await;
    let mut application = database.connect().await;
    for (a, b, v) in [
        ("''", "x''", "NULL"),
        ("'it''s \"quoted\"'", "x'00ff'", "1"),
        ("char(0, 1, 31, 127)", "x'00'", "1.0"),
        ("'a' || char(0) || 'b'", "'text in a blob column'", "'1'"),
        ("'a' || char(0) || 'c'", "5", "x'31'"),
        ("char(128512, 8205, 776)", "2.5", "9223372036854775807"),
        ("CAST(x'c328' AS TEXT)", "-9223372036854775808", "-0.0"),
        ("CAST(x'ff00fe' AS TEXT)", "1e300", "1e-300"),
        ("'[[\"i\",5]]'", "0", "9e999"),
    ] {
        execute(&mut application, &format!("INSERT INTO t VALUES ({a}, {b}, {v})")).await;
    }
    // Not `quote`, which ends at a NUL.
    let columns = ["typeof(a)", "hex(a)", "typeof(b)", "hex(b)", "v"];
    let before = contents(&mut application, "t", &columns).await;
    let mut rig = Rig::of(
        &database,
        &Request::Rebuild {
            table: "t".into(),
            shape: None,
            pipeline: None,
            reverse_pipeline: None,
            capture: None,
        },
    )
    .await;
    assert_eq!(keys(&rig.copy(2).await), [] as [&str; 0]);
    // Every row changes, and goes through the log.
    execute(&mut application, "UPDATE t SET v = v").await;
    let changes = rig.pull().await;
    assert_eq!(changes.len(), 9);
    rig.apply(changes).await;
    rig.assert_equal().await;
    execute(&mut application, "DELETE FROM t WHERE a = CAST(x'c328' AS TEXT) OR a = ''").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    let mut after = contents(&mut application, "t", &columns).await;
    assert_eq!(after.len(), 7);
    after.retain(|row| !before.contains(row));
    assert_eq!(after, [] as [&str; 0], "values changed on the way");
}

#[rstest]
#[case::integer("TEXT", "ALTER COLUMN v TYPE INTEGER", "v INTEGER", "CAST(v AS INTEGER)")]
#[case::text("INTEGER", "ALTER COLUMN v TYPE TEXT", "v TEXT", "CAST(v AS TEXT)")]
#[case::real("INTEGER", "ALTER COLUMN v SET DATA TYPE REAL", "v REAL", "CAST(v AS REAL)")]
#[case::using("INTEGER", "ALTER v TYPE TEXT USING 'n' || v || ';'", "v TEXT", "'n' || v || ';'")]
#[case::modify("INTEGER", "MODIFY v BIGINT NOT NULL DEFAULT 7", "v BIGINT NOT NULL DEFAULT 7", "v")]
#[case::added(
    "INTEGER",
    "ADD w TEXT NOT NULL DEFAULT 'it''s', ALTER v DROP DEFAULT",
    "v INTEGER, w TEXT NOT NULL DEFAULT 'it''s'",
    "v, 'it''s'"
)]
#[tokio::test]
async fn the_result_is_that_of_a_blocking_change(
    #[case] from: &str,
    #[case] change: &str,
    #[case] columns: &str,
    #[case] values: &str,
) {
    let database = Database::new(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {from})")).await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i, i * 3 FROM n").await;
    let mut rig = Rig::prepared(&database, &format!("ALTER TABLE t {change}")).await;
    rig.copy(50).await;
    execute(&mut application, "UPDATE t SET v = 5 WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0; UPDATE t SET id = id + 1000 WHERE id % 13 = 0").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    oracle(
        &database,
        &format!("CREATE TABLE oracle (id INTEGER PRIMARY KEY, {columns})"),
        &format!("INSERT INTO oracle SELECT id, {values} FROM t"),
    )
    .await;
    rig.swap().await;
    let names = texts(&mut application, "SELECT name FROM pragma_table_info('oracle')").await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(
        contents(&mut application, "t", &names).await,
        contents(&mut application, "oracle", &names).await
    );
    assert_eq!(
        texts(
            &mut application,
            "SELECT name || type || \"notnull\" || coalesce(dflt_value, '') FROM pragma_table_info('t')"
        )
        .await,
        texts(
            &mut application,
            "SELECT name || type || \"notnull\" || coalesce(dflt_value, '') FROM pragma_table_info('oracle')"
        )
        .await,
    );
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}

#[tokio::test]
async fn unique_values_that_change_hands_are_settled() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT, v TEXT)").await;
    let mut application = database.connect().await;
    execute(
        &mut application,
        "INSERT INTO t VALUES (1, 'a', '1'), (2, 'b', '2'), (3, 'c', '3'), (4, 'd', '4')",
    )
    .await;
    let mut rig =
        Rig::prepared(&database, "ALTER TABLE t ADD UNIQUE INDEX t_u (u), ALTER v TYPE INTEGER").await;
    // The first chunk is of one moment and the second of another: row 4 holds what row 1 held.
    let bound = rig.rebuild.next_bound(None, 2).await.expect("the bound is read");
    let first = Bounds { lower: None, upper: bound.clone() };
    rig.rebuild.copy(&first).await.expect("the chunk is copied");
    execute(&mut application, "UPDATE t SET u = 'z' WHERE id = 1; UPDATE t SET u = 'a' WHERE id = 4").await;
    let copied = rig.rebuild.copy(&Bounds { lower: bound, upper: None }).await.expect("the chunk is copied");
    assert_eq!(keys(&copied.displaced), ["[[\"i\",4]]"], "it is left out and comes again");
    assert_eq!((copied.read, copied.written), (2, 1));
    rig.catch_up_with(copied.displaced).await;
    rig.assert_equal().await;
    // A swap within one transaction: all keys leave their unique values first.
    execute(&mut application, "BEGIN; UPDATE t SET u = 'x' WHERE id = 2; UPDATE t SET u = 'b' WHERE id = 3; UPDATE t SET u = 'c' WHERE id = 2; COMMIT").await;
    let changes = rig.pull().await;
    let applied = rig.rebuild.apply(&changes).await.expect("the batch is applied");
    assert_eq!(applied.displaced, [], "nothing stands in the way");
    rig.assert_equal().await;
    // Only one of two is applied: it is left out, and what stands in its way is not touched.
    execute(
        &mut application,
        "BEGIN; UPDATE t SET u = 'q' WHERE id = 2; UPDATE t SET u = 'c' WHERE id = 3; COMMIT",
    )
    .await;
    let changes = rig.pull().await;
    let only_three: Vec<_> = changes.iter().filter(|change| change.key.0 == "[[\"i\",3]]").cloned().collect();
    let applied = rig.rebuild.apply(&only_three).await.expect("the batch is applied");
    assert_eq!(keys(&applied.displaced), ["[[\"i\",3]]"]);
    rig.apply(changes).await;
    rig.assert_equal().await;
}

#[tokio::test]
async fn rows_of_one_snapshot_that_collide_are_named() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT, live INT)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1), (3, 'B', 0)").await;
    let mut rig = Rig::prepared(
        &database,
        "ALTER TABLE t ADD UNIQUE INDEX t_u (lower(u) COLLATE NOCASE) WHERE live = 1, ALTER live TYPE INTEGER",
    )
    .await;
    rig.copy(10).await;
    rig.assert_equal().await;
    execute(&mut application, "UPDATE t SET u = 'A' WHERE id = 2").await;
    let changes = rig.pull().await;
    let applied = rig.rebuild.apply(&changes).await.expect("the batch is applied");
    assert_eq!(keys(&applied.displaced), ["[[\"i\",2]]"], "the one outside the batch stays");
    let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
    let found = rig.rebuild.collisions(&keys).await.expect("collisions are looked for");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("'a'") && found[0].contains('1') && found[0].contains('2'), "{found:?}");
    // The row that is not in the index collides with nobody.
    assert!(!found[0].contains('3'), "{found:?}");
    execute(&mut application, "UPDATE t SET u = 'x' WHERE id = 2").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    assert_eq!(rig.rebuild.collisions(&keys).await.expect("collisions are looked for"), [] as [&str; 0]);
}

#[tokio::test]
async fn two_rows_of_one_batch_that_collide_keep_the_first() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ADD CONSTRAINT one UNIQUE (u)").await;
    rig.copy(10).await;
    execute(&mut application, "UPDATE t SET u = 'same' WHERE id IN (2, 3, 5)").await;
    let changes = rig.pull().await;
    let applied = rig.rebuild.apply(&changes).await.expect("the batch is applied");
    assert_eq!(keys(&applied.displaced), ["[[\"i\",3]]", "[[\"i\",5]]"]);
    let shadow = rig.shadow();
    assert_eq!(
        texts(&mut application, &format!("SELECT id || u FROM {shadow} ORDER BY id")).await,
        ["1a", "2same", "4d"]
    );
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_named_and_nothing_is_bent() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
    let mut rig =
        Rig::prepared(&database, "ALTER TABLE t ALTER v SET NOT NULL, ADD CHECK (v <> 'bad')").await;
    execute(&mut application, "UPDATE t SET v = NULL WHERE id = 2").await;
    let error = rig.rebuild.copy(&Bounds::all()).await.expect_err("NULL does not fit");
    assert_eq!(error.kind(), ErrorKind::Unfit, "{error}");
    assert!(error.to_string().contains("[[\"i\",2]]"), "{error}");
    execute(&mut application, "UPDATE t SET v = 'bad' WHERE id = 2").await;
    let changes = rig.pull().await;
    let error = rig.rebuild.apply(&changes).await.expect_err("the CHECK refuses it");
    assert_eq!(error.kind(), ErrorKind::Unfit, "{error}");
    execute(&mut application, "UPDATE t SET v = 'good' WHERE id = 2").await;
    rig.copy(10).await;
    rig.catch_up().await;
    rig.assert_equal().await;
}

#[tokio::test]
async fn conflict_clauses_of_the_table_drop_no_row() {
    // Each of these would silently drop or bend rows if the copy did not override it.
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT IGNORE, u TEXT UNIQUE ON CONFLICT REPLACE, n INT NOT NULL ON CONFLICT REPLACE DEFAULT 9)",
    )
    .await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER n TYPE TEXT").await;
    let bound = rig.rebuild.next_bound(None, 2).await.expect("the bound is read");
    rig.rebuild.copy(&Bounds { lower: None, upper: bound.clone() }).await.expect("the chunk is copied");
    execute(&mut application, "UPDATE t SET u = 'z' WHERE id = 1; UPDATE t SET u = 'a' WHERE id = 3").await;
    let copied = rig.rebuild.copy(&Bounds { lower: bound, upper: None }).await.expect("the chunk is copied");
    assert_eq!(keys(&copied.displaced), ["[[\"i\",3]]"], "row 1 was not replaced");
    rig.catch_up_with(copied.displaced).await;
    rig.assert_equal().await;
}

#[tokio::test]
async fn a_table_with_everything_is_rebuilt_as_it_is() {
    let schema = "CREATE TABLE parent (x TEXT PRIMARY KEY);
        INSERT INTO parent VALUES ('p'), ('q');
        CREATE TABLE t (
            id TEXT NOT NULL COLLATE NOCASE, -- the key
            part INT NOT NULL,
            price DECIMAL(10,2) DEFAULT 1.50 CHECK (price >= 0 AND t.part < 1000),
            total REAL GENERATED ALWAYS AS (price * 2) STORED,
            label TEXT AS (id || '/' || part) VIRTUAL,
            p TEXT REFERENCES parent(x) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,
            PRIMARY KEY (id, part DESC),
            CONSTRAINT lbl UNIQUE (price, p) ON CONFLICT FAIL
        ) WITHOUT ROWID;
        CREATE INDEX t_price ON t(price DESC) WHERE price > 1;
        CREATE UNIQUE INDEX t_expr ON t(lower(id), part COLLATE BINARY);
        CREATE INDEX t_label ON t(label);";
    let database = Database::new(schema).await;
    let mut application = database.connect().await;
    execute(
        &mut application,
        "INSERT INTO t (id, part, price, p) VALUES ('a', 1, 1.5, 'p'), ('B', 1, 2, 'p'), ('b', 2, 3, NULL), ('c', 1, 4, 'q')",
    )
    .await;
    let described = "SELECT name || coalesce(sql, '') FROM sqlite_schema WHERE tbl_name = 't' AND name NOT LIKE '\\_rp%' ESCAPE '\\' ORDER BY name";
    let pragmas = "SELECT name || type || \"notnull\" || coalesce(dflt_value, '') || pk || hidden FROM pragma_table_xinfo('t')";
    let before = (texts(&mut application, described).await, texts(&mut application, pragmas).await);
    let columns = ["id", "part", "price", "total", "label", "p"];
    let rows = contents(&mut application, "t", &columns).await;
    let mut rig = Rig::of(
        &database,
        &Request::Rebuild {
            table: "T".into(),
            shape: None,
            pipeline: None,
            reverse_pipeline: None,
            capture: None,
        },
    )
    .await;
    rig.copy(1).await;
    // The same key in another case, and a key change that only changes the case.
    execute(&mut application, "UPDATE t SET price = 5 WHERE id = 'A'; UPDATE t SET id = 'C' WHERE id = 'c'")
        .await;
    rig.catch_up().await;
    rig.assert_equal().await;
    execute(
        &mut application,
        "UPDATE t SET price = 1.5 WHERE id = 'a'; UPDATE t SET id = 'c' WHERE id = 'C'",
    )
    .await;
    rig.catch_up().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, described).await, before.0, "definitions are the same to the letter");
    assert_eq!(texts(&mut application, pragmas).await, before.1);
    assert_eq!(contents(&mut application, "t", &columns).await, rows);
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
    assert_eq!(texts(&mut application, "PRAGMA foreign_key_check").await, [] as [&str; 0]);
    // The foreign key works, and the retired table's does not get in the way.
    execute(&mut application, "UPDATE parent SET x = 'r' WHERE x = 'q'; DELETE FROM parent WHERE x = 'p'")
        .await;
    assert_eq!(texts(&mut application, "SELECT id || coalesce(p, '') FROM t ORDER BY id").await, ["b", "cr"]);
}

#[tokio::test]
async fn a_strict_table_stays_strict_and_any_keeps_its_class() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a ANY, i INT, x TEXT) STRICT").await;
    let mut application = database.connect().await;
    execute(
        &mut application,
        "INSERT INTO t VALUES (1, 1, 1, 'a'), (2, 1.0, 2, 'b'), (3, '1', 3, 'c'), (4, x'31', 4, 'd')",
    )
    .await;
    let before = contents(&mut application, "t", &["id", "a", "i"]).await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER i TYPE REAL, DROP COLUMN x").await;
    rig.copy(2).await;
    let shadow = rig.shadow();
    // What compares equal and is not the same is found.
    execute(&mut application, &format!("UPDATE {shadow} SET a = 1 WHERE id = 2")).await;
    assert_eq!(keys(&rig.compare().await.differing), ["[[\"i\",2]]"]);
    rig.apply(rig.compare().await.differing).await;
    rig.assert_equal().await;
    rig.swap().await;
    let after = contents(&mut application, "t", &["id", "a", "CAST(i AS INT)"]).await;
    assert_eq!(after, before);
    assert_eq!(number(&mut application, "SELECT strict FROM pragma_table_list WHERE name = 't'").await, 1);
}

#[tokio::test]
async fn a_new_primary_key_is_taken_over() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, v INT)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (code)").await;
    rig.copy(2).await;
    execute(
        &mut application,
        "UPDATE t SET code = 'x' WHERE id = 2; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (9, 'z', 9)",
    )
    .await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(
        texts(&mut application, "SELECT name FROM pragma_table_info('t') WHERE pk > 0").await,
        ["code"]
    );
    let mut rig = rig.reversed().await;
    execute(&mut application, "UPDATE t SET code = 'w' WHERE code = 'x'").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT id || code FROM t ORDER BY id").await, ["1a", "2w", "9z"]);
    assert_eq!(texts(&mut application, "SELECT name FROM pragma_table_info('t') WHERE pk > 0").await, ["id"]);
}

#[tokio::test]
async fn what_is_abandoned_leaves_nothing_but_records() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX t_v ON t(v)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i, i FROM n").await;
    let everything = "SELECT name || coalesce(sql, '') FROM sqlite_schema
        WHERE name NOT LIKE '\\_replank%' ESCAPE '\\' AND name NOT LIKE 'sqlite_%replank%' AND name <> 'sqlite_sequence' ORDER BY name";
    let before = texts(&mut application, everything).await;
    let rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE INTEGER").await;
    rig.copy(1000).await;
    execute(&mut application, "UPDATE t SET v = v + 1 WHERE id < 2000").await;
    rig.rebuild.discard().await.expect("everything is removed");
    assert_eq!(texts(&mut application, everything).await, before);
    assert_eq!(texts(&mut application, "SELECT role FROM _replank_objects").await, ["live"]);
    execute(&mut application, "UPDATE t SET v = 0").await;
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
    assert_eq!(rig.rebuild.cut_over().owner().await.expect("the owner is read"), Owner::Original);
}

#[tokio::test]
async fn a_takeover_leaves_the_old_handle_without_effect() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, gone TEXT)").await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t VALUES (1, '1', 'x'), (2, '2', 'y')").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    let old = rig.rebuild.clone();
    let token = rig.take_over().await;
    rig.rebuild.fence(token).await.expect("the table is renamed");
    rig.rebuild.fence(token).await.expect("again");
    assert_eq!(old.copy(&Bounds::all()).await.expect_err("overtaken").kind(), ErrorKind::Fenced);
    assert_eq!(old.discard().await.expect_err("overtaken").kind(), ErrorKind::Fenced);
    assert_eq!(old.forget(&rig.position).await.expect_err("overtaken").kind(), ErrorKind::Fenced);
    rig.copy(1).await;
    rig.assert_equal().await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    // After the swap a takeover renames the retired table, and the triggers that name it.
    let token = rig.take_over().await;
    rig.rebuild.fence(token).await.expect("the table is renamed");
    execute(&mut application, "UPDATE t SET id = 7 WHERE id = 1; DELETE FROM t WHERE id = 2").await;
    rig.rebuild.check_source().await.expect("the capture is whole");
    rig.catch_up().await;
    rig.assert_equal().await;
    let other = open(rig.session.as_ref(), &rig.job).await;
    assert_eq!(other.cut_over().owner().await.expect("the owner is read"), Owner::Original);
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT id || v || gone FROM t").await, ["71x"]);
    assert_eq!(other.cut_over().owner().await.expect("the owner is read"), Owner::Shadow);
    rig.rebuild.discard().await.expect("what is left is removed");
    assert_eq!(
        texts(&mut application, "SELECT name FROM sqlite_schema WHERE name LIKE '\\_rp\\_%' ESCAPE '\\'")
            .await,
        [] as [&str; 0]
    );
}
