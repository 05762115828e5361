//! What a statement is found to mean on a live database.

use rstest::rstest;

use replank_core::ErrorKind;
use replank_core::driver::facts::CheckState;
use replank_core::driver::{Request, Settings};
use replank_core::plan::Strategy;

use super::application::{Database, execute, texts};
use super::rig::{Rig, draft, shadow_plan};

const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT, n INT);
    CREATE TABLE no_key (a INT, b TEXT PRIMARY KEY);
    CREATE TABLE real_key (a REAL NOT NULL PRIMARY KEY, b INT);
    CREATE VIEW v AS SELECT id, w FROM t;
    CREATE VIRTUAL TABLE f USING fts5(x);
    INSERT INTO t VALUES (1, '1', 'a', 1), (2, 'two', 'A', 2), (3, '3', 'b', NULL), (4, '1', 'b', 4), (5, NULL, 'c', -5);
    INSERT INTO no_key VALUES (1, 'x');
    INSERT INTO real_key VALUES (1.5, 1);
";

#[rstest]
#[case("ALTER TABLE nope ADD c", ErrorKind::NotFound)]
#[case("DROP INDEX nope", ErrorKind::NotFound)]
#[case("ALTER TABLE t DROP COLUMN nope", ErrorKind::NotFound)]
#[case("ALTER TABLE t ADD v TEXT", ErrorKind::Usage)]
#[case("ALTER TABLE t ALTER v TYPE TEXT USING nope + 1", ErrorKind::Usage)]
#[case("ALTER TABLE t ALTER v TYPE TEXT USING (SELECT 1)", ErrorKind::Usage)]
#[case("ALTER TABLE t ALTER v TYPE TEXT USING v) , (1", ErrorKind::Usage)]
#[case("ALTER TABLE t ALTER v TYPE INT USING random()", ErrorKind::Refused)]
#[case("ALTER TABLE t ALTER v TYPE TEXT USING datetime('now')", ErrorKind::Refused)]
#[case("ALTER TABLE t ADD c TEXT DEFAULT CURRENT_TIMESTAMP, ALTER v TYPE BLOB", ErrorKind::Refused)]
#[case("ALTER TABLE t DROP COLUMN w, DROP COLUMN n", ErrorKind::Refused)]
#[case("ALTER TABLE v ADD c", ErrorKind::Refused)]
#[case("ALTER TABLE f ADD c", ErrorKind::Refused)]
#[case("ALTER TABLE f_data ADD c", ErrorKind::Refused)]
#[case("ALTER TABLE sqlite_schema ADD c", ErrorKind::Refused)]
#[case("ALTER TABLE _replank_runs ADD c", ErrorKind::Refused)]
#[case("ALTER TABLE t RENAME TO _rp_x", ErrorKind::Refused)]
#[case("ALTER TABLE t RENAME TO no_key", ErrorKind::Usage)]
#[case("CREATE INDEX i ON t (nope)", ErrorKind::Usage)]
#[case("ALTER TABLE t ADD CHECK (nope > 1)", ErrorKind::Usage)]
#[case("DROP INDEX sqlite_autoindex_no_key_1", ErrorKind::Refused)]
#[tokio::test]
async fn what_cannot_be_done_is_said(#[case] text: &str, #[case] kind: ErrorKind) {
    let database = Database::new(SCHEMA).await;
    let error = draft(&database, text).await.expect_err(text);
    assert_eq!(error.kind(), kind, "{text}: {error:?}");
}

#[tokio::test]
async fn rows_that_stand_in_the_way_are_counted_with_their_keys() {
    let database = Database::new(SCHEMA).await;
    let found =
        draft(&database, "ALTER TABLE t ALTER v TYPE INTEGER, ALTER n SET NOT NULL, ADD CHECK (n > 0)")
            .await
            .expect("a draft")
            .evidence;
    assert_eq!(found.unfit.len(), 2, "{found:?}");
    assert_eq!((found.unfit[0].rows, &found.unfit[0].samples[..]), (1, &["2".to_owned()][..]));
    assert!(found.unfit[0].what.contains('v'), "{found:?}");
    assert_eq!((found.unfit[1].rows, &found.unfit[1].samples[..]), (1, &["5".to_owned()][..]));
    assert_eq!(found.nulls.len(), 1);
    assert_eq!((found.nulls[0].column.as_str(), found.nulls[0].rows), ("n", 1));
    // Under the new collation and the new type more rows collide than as they are.
    let unique =
        |text: &'static str| async { draft(&database, text).await.expect("a draft").evidence.collisions };
    let found = unique("CREATE UNIQUE INDEX i ON t (w)").await;
    assert_eq!((found.len(), found[0].groups), (1, 1), "{found:?}");
    let found = unique("ALTER TABLE t MODIFY w TEXT COLLATE NOCASE, ADD CONSTRAINT u UNIQUE (w)").await;
    assert_eq!((found.len(), found[0].groups), (1, 2), "{found:?}");
    assert!(found[0].samples.iter().any(|sample| sample.contains("1; 2")), "{found:?}");
    let found = unique("CREATE UNIQUE INDEX i ON t (w) WHERE id < 4").await;
    assert_eq!(found, [], "a partial index asks only its own rows");
    let found = unique("ALTER TABLE t ADD CONSTRAINT u UNIQUE (id, w)").await;
    assert_eq!(found, []);
    let found =
        draft(&database, "ALTER TABLE t ADD n2 INT NOT NULL, ALTER w TYPE BLOB").await.expect("a draft");
    assert_eq!((found.evidence.nulls[0].column.as_str(), found.evidence.nulls[0].rows), ("n2", 5));
}

#[tokio::test]
async fn new_foreign_keys_are_checked() {
    let database = Database::new(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
         CREATE TABLE t (id INTEGER PRIMARY KEY, p INT); INSERT INTO t VALUES (1, 1), (2, NULL), (3, 7)",
    )
    .await;
    let found =
        draft(&database, "ALTER TABLE t ADD FOREIGN KEY (p) REFERENCES p").await.expect("a draft").evidence;
    assert_eq!(found.unfit.len(), 1, "{found:?}");
    assert_eq!((found.unfit[0].rows, &found.unfit[0].samples[..]), (1, &["3".to_owned()][..]));
}

#[tokio::test]
async fn a_table_without_a_usable_key_is_not_rebuilt() {
    let database = Database::new(SCHEMA).await;
    for (table, why) in [("no_key", "may be NULL"), ("real_key", "floating")] {
        let found = draft(&database, &format!("ALTER TABLE {table} MODIFY b BLOB")).await.expect("a draft");
        let no_key = found.evidence.no_key.clone().expect("no key");
        assert!(no_key.contains(why), "{no_key}");
        let error = shadow_plan(&found, true).expect_err("no rebuild");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// The mode changes only while nobody else has the file open, and a session that was dropped closes its
/// connections a moment later.
async fn journal_mode(application: &mut sqlx::sqlite::SqliteConnection, mode: &str) {
    for _ in 0..200 {
        let sql = format!("PRAGMA journal_mode = {mode}");
        let changed =
            sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *application).await;
        if changed.is_ok_and(|now| now == mode) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the journal mode stays");
}

#[tokio::test]
async fn without_wal_a_rebuild_is_refused_with_the_statement_that_mends_it() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    journal_mode(&mut application, "delete").await;
    let found = draft(&database, "ALTER TABLE t ALTER v TYPE BLOB").await.expect("a draft");
    let error = shadow_plan(&found, true).expect_err("no rebuild");
    assert!(error.to_string().contains("PRAGMA journal_mode=WAL"), "{error}");
    let checks = database.session().await.checks().await.expect("the checks run");
    let mode = checks.iter().find(|check| check.name == "journal_mode").expect("it is looked at");
    assert_eq!((mode.state, mode.mend.as_deref()), (CheckState::Bad, Some("PRAGMA journal_mode=WAL")));
    journal_mode(&mut application, "wal").await;
    let checks = database.session().await.checks().await.expect("the checks run");
    assert!(checks.iter().all(|check| check.state != CheckState::Bad), "{checks:?}");
}

#[tokio::test]
async fn a_change_without_a_way_back_says_so() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT NOT NULL); INSERT INTO t VALUES (1, 'a')",
    )
    .await;
    // The new key cannot be found in the old table without an index that it lacks.
    let text = "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (u)";
    let found = draft(&database, text).await.expect("a draft");
    let error = shadow_plan(&found, true).expect_err("no way back");
    assert!(error.to_string().contains("way back"), "{error}");
    let plan = shadow_plan(&found, false).expect("without a way back it can be done");
    assert!(plan.undo.contains("cannot be taken back"), "{}", plan.undo);
}

#[tokio::test]
async fn a_draft_changes_nothing_and_is_the_same_each_time() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let everything = "SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY name";
    let before = texts(&mut application, everything).await;
    for text in [
        "ALTER TABLE t ALTER v TYPE BLOB",
        "DROP TABLE t",
        "CREATE INDEX i ON t (w)",
        "ALTER TABLE T RENAME w TO ww, ADD z INT",
    ] {
        let one = draft(&database, text).await;
        let two = draft(&database, text).await;
        let hash = |draft: &replank_core::plan::Draft| {
            draft.candidates.iter().map(|c| (c.strategy, c.spec.to_string())).collect::<Vec<_>>()
        };
        match (one, two) {
            (Ok(one), Ok(two)) => assert_eq!(hash(&one), hash(&two), "{text}"),
            (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(texts(&mut application, everything).await, before);
}

#[tokio::test]
async fn what_is_so_already_is_nothing_to_do() {
    let database = Database::new(&format!("{SCHEMA} CREATE INDEX t_v ON t(v)")).await;
    for text in
        ["CREATE INDEX IF NOT EXISTS t_v ON t(v)", "DROP INDEX IF EXISTS nope", "DROP TABLE IF EXISTS nope"]
    {
        let found = draft(&database, text).await.expect("a draft");
        assert_eq!(found.changes, [] as [&str; 0], "{text}");
        assert!(found.candidates[0].steps.is_empty());
    }
}

#[tokio::test]
async fn a_shape_may_be_given_whole() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INT); INSERT INTO t VALUES (1, '5', 2)",
    )
    .await;
    let mut application = database.connect().await;
    let shape = "CREATE TABLE t (b INT, c TEXT NOT NULL DEFAULT 'c', a INTEGER, id INTEGER NOT NULL, PRIMARY KEY (id)) WITHOUT ROWID";
    let mut rig = Rig::of(
        &database,
        &Request::Rebuild {
            table: "t".into(),
            shape: Some(shape.into()),
            pipeline: None,
            reverse_pipeline: None,
            capture: None,
        },
    )
    .await;
    rig.copy(1).await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT b || c || a || id FROM t").await, ["2c51"]);
    assert_eq!(texts(&mut application, "SELECT sql FROM sqlite_schema WHERE name = 't'").await, [shape]);
    let session = database.session().await;
    let request = Request::Rebuild {
        table: "t".into(),
        shape: Some("CREATE TABLE u (id)".into()),
        pipeline: None,
        reverse_pipeline: None,
        capture: None,
    };
    assert_eq!(session.draft(&request).await.expect_err("another name").kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_large_index_is_built_by_a_rebuild() {
    let database = Database::new(SCHEMA).await;
    let found = draft(&database, "CREATE INDEX i ON t (w)").await.expect("a draft");
    let native = found
        .candidates
        .iter()
        .find(|candidate| candidate.strategy == Strategy::NativeOnline)
        .expect("native");
    assert!(native.locks[0].hold_ms < 100, "five rows: {:?}", native.locks);
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t (w) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT hex(i * 2654435761) FROM n").await;
    let found = draft(&database, "CREATE INDEX i ON t (w)").await.expect("a draft");
    let native = found
        .candidates
        .iter()
        .find(|candidate| candidate.strategy == Strategy::NativeOnline)
        .expect("native");
    assert!(native.locks[0].hold_ms > 100, "300000 rows: {:?}", native.locks);
    assert!(shadow_plan(&found, true).is_ok());
}

#[tokio::test]
async fn what_only_the_application_defines_is_refused() {
    use sqlx::ConnectOptions;
    let database = Database::new("CREATE TABLE other (id INTEGER PRIMARY KEY)").await;
    let mut application = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(database.path())
        .collation("by_length", |a, b| a.len().cmp(&b.len()).then(a.cmp(b)))
        .connect()
        .await
        .expect("connects");
    execute(&mut application, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT COLLATE by_length UNIQUE)")
        .await;
    let error = draft(&database, "ALTER TABLE t ALTER v TYPE BLOB").await.expect_err("unknown here");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("by_length"), "{error}");
    draft(&database, "ALTER TABLE other ADD v TEXT").await.expect("other tables can be changed");
}

#[tokio::test]
async fn connecting_creates_nothing() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = directory.path().join("missing.db");
    let driver = replank_driver_sqlite::driver();
    let connect = |url: String| {
        let driver = driver.clone();
        async move { driver.connect(&url, &Settings::default()).await.map(|_| ()).expect_err("refused").kind() }
    };
    assert_eq!(connect(format!("sqlite:{}", path.display())).await, ErrorKind::NotFound);
    assert!(!path.exists());
    std::fs::write(&path, "this is not a database, though it is long enough to be read as one".repeat(40))
        .expect("written");
    assert_eq!(connect(format!("sqlite:{}", path.display())).await, ErrorKind::Usage);
    assert_eq!(connect(format!("sqlite:{}", directory.path().display())).await, ErrorKind::Usage);
}
