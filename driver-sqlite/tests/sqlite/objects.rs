//! What must survive the swap, and what applications notice of it.

use sqlx::{Connection, Row};

use super::application::{Database, execute, number, texts};
use super::rig::Rig;

const SCHEMA: &str = "
    CREATE TABLE parent (x INTEGER PRIMARY KEY);
    CREATE TABLE t (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        x INT REFERENCES parent(x),
        me INT REFERENCES t(id),
        v TEXT DEFAULT 'd' CHECK (t.v <> ''),
        code TEXT NOT NULL UNIQUE
    );
    CREATE TABLE child (id INTEGER PRIMARY KEY, t INT REFERENCES t(id) ON DELETE CASCADE, code TEXT REFERENCES t(code) ON UPDATE CASCADE);
    CREATE INDEX t_v ON t(v) WHERE v > 'a';
    CREATE UNIQUE INDEX \"odd \"\"name\" ON t(code DESC, v COLLATE NOCASE);
    CREATE VIEW t_view AS SELECT id, v FROM t WHERE v IS NOT NULL;
    CREATE TRIGGER t_ins AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('insert ' || NEW.id); END;
    CREATE TRIGGER t_upd BEFORE UPDATE OF v ON t WHEN OLD.v <> NEW.v BEGIN INSERT INTO log VALUES ('update ' || OLD.id); END;
    CREATE TRIGGER child_ins AFTER INSERT ON child BEGIN UPDATE t SET v = 'has child' WHERE id = NEW.t; END;
    CREATE TRIGGER view_ins INSTEAD OF INSERT ON t_view BEGIN INSERT INTO t (v, code) VALUES (NEW.v, hex(randomblob(8))); END;
    CREATE TABLE log (what TEXT);
    INSERT INTO parent VALUES (1), (2);
    INSERT INTO t (id, x, me, v, code) VALUES (1, 1, NULL, 'a', 'A'), (2, 2, 1, 'b', 'B'), (90, NULL, NULL, 'c', 'C');
    INSERT INTO child VALUES (1, 1, 'A'), (2, 90, 'C');
    DELETE FROM t WHERE id = 90;
    DELETE FROM log;
    ANALYZE;
";

const OTHERS: &str = "SELECT type || ' ' || name || ' ' || sql FROM sqlite_schema
    WHERE tbl_name IN ('parent', 'child', 'log', 't_view') AND sql IS NOT NULL ORDER BY name";
const OWN: &str =
    "SELECT type || ' ' || name || ' ' || sql FROM sqlite_schema WHERE tbl_name = 't' AND sql IS NOT NULL
    AND name NOT LIKE '\\_rp\\_%' ESCAPE '\\' ORDER BY type, name";

#[tokio::test]
async fn indexes_triggers_views_foreign_keys_sequence_and_statistics_survive() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let (others, own) = (texts(&mut application, OTHERS).await, texts(&mut application, OWN).await);
    let statistics = "SELECT tbl || ' ' || coalesce(idx, '') || ' ' || stat FROM sqlite_stat1 ORDER BY 1";
    let known = texts(&mut application, statistics).await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER x TYPE TEXT").await;
    rig.copy(10).await;
    // R10: the shadow's foreign keys and triggers are not there, so nothing fires and nothing refuses.
    execute(&mut application, "UPDATE t SET x = NULL WHERE id = 2; DELETE FROM parent WHERE x = 2").await;
    assert_eq!(number(&mut application, "SELECT count(*) FROM log").await, 0);
    rig.catch_up().await;
    rig.swap().await;

    for way in ["there", "back"] {
        assert_eq!(texts(&mut application, OTHERS).await, others, "{way}");
        let now = texts(&mut application, OWN).await;
        let expected: Vec<String> = match way {
            "there" => own.iter().map(|line| line.replace("x INT REFERENCES", "x TEXT REFERENCES")).collect(),
            _ => own.clone(),
        };
        assert_eq!(now, expected, "{way}");
        assert_eq!(texts(&mut application, statistics).await, known, "{way}");
        assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"], "{way}");
        assert_eq!(texts(&mut application, "PRAGMA foreign_key_check").await, [] as [&str; 0], "{way}");
        let plan = texts(
            &mut application,
            "SELECT detail FROM pragma_index_list('t') AS i, (SELECT 'x' AS detail) WHERE i.name = 't_v'",
        )
        .await;
        assert_eq!(plan, ["x"], "{way}");
        let sequence = number(&mut application, "SELECT seq FROM sqlite_sequence WHERE name = 't'").await;
        assert!(sequence >= 90, "{way}: the id 90 would be given out again");

        // Everything works: triggers, the view, cascades both ways, self references.
        execute(&mut application, "DELETE FROM log; INSERT INTO t_view (v) VALUES ('from view')").await;
        let id = sequence + 1;
        assert_eq!(number(&mut application, "SELECT max(id) FROM t").await, id, "{way}");
        execute(
            &mut application,
            &format!("UPDATE t SET v = 'new' WHERE id = {id}; INSERT INTO child VALUES ({id}, {id}, 'A')"),
        )
        .await;
        assert_eq!(
            texts(&mut application, "SELECT what FROM log ORDER BY rowid").await,
            [format!("insert {id}"), format!("update {id}"), format!("update {id}")],
            "{way}"
        );
        execute(
            &mut application,
            "UPDATE t SET code = 'AA' WHERE code = 'A'; UPDATE t SET code = 'A' WHERE code = 'AA'",
        )
        .await;
        assert_eq!(
            number(&mut application, &format!("SELECT count(*) FROM child WHERE code = 'A' AND id = {id}"))
                .await,
            1
        );
        execute(&mut application, &format!("DELETE FROM t WHERE id = {id}")).await;
        assert_eq!(
            number(&mut application, &format!("SELECT count(*) FROM child WHERE id = {id}")).await,
            0,
            "{way}"
        );

        if way == "there" {
            rig = rig.reversed().await;
            rig.catch_up().await;
            rig.assert_equal().await;
            rig.swap().await;
        }
    }
    rig.rebuild.discard().await.expect("what is left is removed");
    assert_eq!(texts(&mut application, OWN).await, own);
    assert_eq!(
        texts(&mut application, "SELECT name FROM sqlite_schema WHERE name LIKE '\\_rp\\_%' ESCAPE '\\'")
            .await,
        [] as [&str; 0]
    );
}

#[tokio::test]
async fn open_connections_go_on_with_their_prepared_statements() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, gone INT); CREATE INDEX t_v ON t(v);
         INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
    )
    .await;
    let mut writer = database.connect().await;
    let mut reader = database.connect().await;
    let read = "SELECT id, v FROM t INDEXED BY t_v WHERE v >= ? ORDER BY v";
    let write = "UPDATE t SET v = ? WHERE id = ?";
    let mut rig = Rig::prepared(&database, "ALTER TABLE t DROP COLUMN gone").await;
    rig.copy(10).await;
    // Prepared and kept by sqlx, here and below: the text is the key.
    sqlx::query(write).bind("x").bind(2).execute(&mut writer).await.expect("writes");
    assert_eq!(sqlx::query(read).bind("a").fetch_all(&mut reader).await.expect("reads").len(), 2);
    // A reader in the middle of its transaction keeps its snapshot through the swap.
    let mut open = reader.begin().await.expect("begins");
    assert_eq!(sqlx::query("SELECT gone FROM t").fetch_all(&mut *open).await.expect("reads").len(), 2);
    rig.catch_up().await;
    rig.swap().await;
    assert_eq!(sqlx::query("SELECT gone FROM t").fetch_all(&mut *open).await.expect("still there").len(), 2);
    open.commit().await.expect("ends");
    sqlx::query("SELECT gone FROM t")
        .fetch_all(&mut reader)
        .await
        .expect_err("the new table has no such column");
    let done = sqlx::query(write).bind("y").bind(1).execute(&mut writer).await.expect("writes");
    assert_eq!(done.rows_affected(), 1);
    let rows = sqlx::query(read).bind("a").fetch_all(&mut reader).await.expect("reads through the index");
    let seen: Vec<String> = rows.iter().map(|row| row.get::<String, _>(1)).collect();
    assert_eq!(seen, ["x", "y"]);
    let mut plan = String::new();
    for row in sqlx::query("EXPLAIN QUERY PLAN SELECT id FROM t WHERE v = 'x'")
        .fetch_all(&mut reader)
        .await
        .expect("plans")
    {
        plan += &row.get::<String, _>("detail");
    }
    assert!(plan.contains("t_v"), "{plan}");
}
