//! Steps that SQLite does itself: run, probed, taken back, made final.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use tokio::sync::watch;

use replank_core::driver::Probe;
use replank_core::engine::Runner;
use replank_core::event::Silent;
use replank_core::plan::{PlanOptions, Step, Strategy, choose};
use replank_core::run::{Origin, RunOptions, RunState};
use replank_core::{ErrorKind, Result};

use super::application::{Database, execute, number, texts};
use super::rig::{Rig, draft};

const BUDGET: Duration = Duration::from_millis(500);
const SCHEMA: &str = "
    CREATE TABLE parent (id INTEGER PRIMARY KEY);
    CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, p INT REFERENCES parent(id));
    CREATE INDEX t_v ON t(v);
    CREATE TABLE child (t INT REFERENCES t(id));
    CREATE TABLE audit (what);
    CREATE TRIGGER t_del AFTER DELETE ON t BEGIN INSERT INTO audit VALUES (OLD.id); END;
    CREATE VIEW w AS SELECT v FROM t;
    INSERT INTO parent VALUES (1);
    INSERT INTO t VALUES (1, 'a', 1), (2, 'b', NULL);
";
const EVERYTHING: &str = "SELECT name || coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE '%replank%' AND name <> 'sqlite_sequence' ORDER BY name";

async fn steps(database: &Database, text: &str, revertible: bool) -> Result<(Strategy, Vec<Step>)> {
    let draft = draft(database, text).await?;
    let options = PlanOptions { revertible, lock_budget: BUDGET, ..PlanOptions::default() };
    let plan = choose(&draft, &[], &options)?.plan;
    Ok((plan.strategy, plan.steps))
}

async fn run(database: &Database, step: &Step) {
    let session = database.session().await;
    let native = session.native().expect("this driver runs statements");
    assert_eq!(native.probe(step).await.expect("probed"), Probe::Absent, "{}", step.statement);
    native.run(step, BUDGET).await.expect("the step runs");
    assert_eq!(native.probe(step).await.expect("probed"), Probe::Done, "{}", step.statement);
}

fn inverse(step: &Step) -> Step {
    Step { statement: step.inverse.clone(), ..step.clone() }
}

#[rstest]
#[case::add("ALTER TABLE t ADD COLUMN n INT NOT NULL DEFAULT 3", Strategy::Instant)]
#[case::add_two("ALTER TABLE t ADD a TEXT, ADD b REAL", Strategy::Instant)]
#[case::rename_column("ALTER TABLE t RENAME v TO vv", Strategy::Instant)]
#[case::rename_table("ALTER TABLE t RENAME TO tt", Strategy::Instant)]
#[case::create_index(
    "CREATE UNIQUE INDEX IF NOT EXISTS t_new ON t (lower(v) DESC) WHERE v > ''",
    Strategy::NativeOnline
)]
#[case::add_index("ALTER TABLE t ADD INDEX t_new (v, id)", Strategy::NativeOnline)]
#[case::drop_index("DROP INDEX t_v", Strategy::Instant)]
#[case::drop_table("DROP TABLE t", Strategy::Instant)]
#[tokio::test]
async fn steps_go_there_and_back(#[case] text: &str, #[case] strategy: Strategy) {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let before = texts(&mut application, EVERYTHING).await;
    let (chosen, steps) = steps(&database, text, true).await.expect("a plan");
    assert_eq!(chosen, strategy);
    for step in &steps {
        run(&database, step).await;
    }
    assert_ne!(texts(&mut application, EVERYTHING).await, before);
    for step in steps.iter().rev() {
        run(&database, &inverse(step)).await;
    }
    let quoted = |texts: Vec<String>| texts.iter().map(|text| text.replace('"', "")).collect::<Vec<_>>();
    assert_eq!(quoted(texts(&mut application, EVERYTHING).await), quoted(before));
    assert_eq!(texts(&mut application, "SELECT v FROM w ORDER BY v").await, ["a", "b"]);
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}

#[tokio::test]
async fn a_dropped_table_is_kept_until_it_is_made_final() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let (_, steps) = steps(&database, "DROP TABLE t", true).await.expect("a plan");
    let [step] = &steps[..] else { panic!("one step: {steps:?}") };
    run(&database, step).await;
    assert_eq!(
        texts(&mut application, "SELECT name FROM sqlite_schema WHERE name = 't'").await,
        [] as [&str; 0]
    );
    // Out of the way means out of the way: its foreign key holds nobody back.
    execute(&mut application, "DELETE FROM parent; CREATE TABLE t (another INT)").await;
    let last = Step { statement: step.finalize.clone(), ..step.clone() };
    run(&database, &last).await;
    assert_eq!(
        texts(&mut application, "SELECT name FROM sqlite_schema WHERE name LIKE '\\_rp%' ESCAPE '\\'").await,
        [] as [&str; 0]
    );
    assert_eq!(number(&mut application, "SELECT count(*) FROM audit").await, 0, "no trigger fired for it");
    assert_eq!(texts(&mut application, "SELECT name FROM pragma_table_info('t')").await, ["another"]);
}

#[tokio::test]
async fn data_goes_for_good_only_without_a_way_back() {
    let database = Database::new(SCHEMA).await;
    let (strategy, _) = steps(&database, "ALTER TABLE t DROP COLUMN p", true).await.expect("a plan");
    assert_eq!(strategy, Strategy::Shadow, "the retired table keeps the values");
    // The view names v: SQLite's own statement refuses, and so do we.
    let error =
        steps(&database, "ALTER TABLE t DROP COLUMN v", true).await.expect_err("an index and a view need it");
    assert!(matches!(error.kind(), ErrorKind::Usage | ErrorKind::Refused), "{error}");
    let (strategy, steps) = steps(&database, "DROP TABLE t", false).await.expect("a plan");
    assert_eq!((strategy, steps[0].statement.as_str()), (Strategy::Instant, "DROP TABLE \"t\""));
}

#[tokio::test]
async fn a_step_waits_no_longer_than_its_budget() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let (_, steps) = steps(&database, "ALTER TABLE t ADD n INT", true).await.expect("a plan");
    execute(&mut application, "BEGIN IMMEDIATE").await;
    let session = database.session().await;
    let native = session.native().expect("this driver runs statements");
    let error = native.run(&steps[0], Duration::from_millis(80)).await.expect_err("the lock is held");
    assert_eq!(error.kind(), ErrorKind::LockTimeout, "{error}");
    assert_eq!(native.probe(&steps[0]).await.expect("probed"), Probe::Absent);
    execute(&mut application, "ROLLBACK").await;
    native.run(&steps[0], BUDGET).await.expect("now it is free");
}

#[tokio::test]
async fn our_own_ddl_on_a_reversible_table_does_not_end_its_way_back() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, '1')").await;
    let mut application = database.connect().await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE INTEGER").await;
    rig.copy(10).await;
    rig.swap().await;
    let mut rig = rig.reversed().await;
    let (strategy, steps) =
        steps(&database, "ALTER TABLE t ADD COLUMN note TEXT", true).await.expect("a plan");
    assert_eq!(strategy, Strategy::Instant);
    run(&database, &steps[0]).await;
    execute(&mut application, "UPDATE t SET v = 5, note = 'x'").await;
    rig.catch_up().await;
    rig.assert_equal().await;
    run(&database, &inverse(&steps[0])).await;
    rig.catch_up().await;
    rig.swap().await;
    assert_eq!(texts(&mut application, "SELECT v FROM t").await, ["5"]);
    // Another rebuild, a rename or a drop would take the run's tables apart.
    drop(rig);
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, '1')").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE INTEGER").await;
    let busy = draft(&database, "ALTER TABLE t ADD COLUMN n INT").await.expect("a draft").evidence.busy;
    assert!(busy.len() == 1 && busy[0].contains("copying"), "{busy:?}");
    rig.copy(10).await;
    rig.swap().await;
    for text in ["ALTER TABLE t RENAME TO u", "DROP TABLE t", "ALTER TABLE t ALTER v TYPE TEXT"] {
        let busy = draft(&database, text).await.expect("a draft").evidence.busy;
        assert!(busy.len() == 1 && busy[0].contains("finalize"), "{text}: {busy:?}");
    }
    let free = draft(&database, "ALTER TABLE t ADD COLUMN n INT").await.expect("a draft");
    assert_eq!(free.evidence.busy, [] as [&str; 0]);
}

#[tokio::test]
async fn a_runner_never_drops_unasked_what_was_written_since() {
    let database = Database::new(SCHEMA).await;
    let mut application = database.connect().await;
    let draft = draft(&database, "ALTER TABLE t ADD COLUMN n INT").await.expect("a draft");
    let options = PlanOptions { revertible: true, lock_budget: BUDGET, ..PlanOptions::default() };
    let plan = choose(&draft, &[], &options).expect("a plan").plan;
    let (_stop, stopped) = watch::channel(false);
    let runner = Runner::new(database.session().await, Arc::new(Silent), stopped);
    let run = runner.apply(plan, RunOptions::default(), Origin::default()).await.expect("applied");
    execute(&mut application, "UPDATE t SET n = 9").await;
    let refused = runner.revert(&run.id).await.expect_err("it would drop nines");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.message().contains("column n"), "{refused}");
    assert_eq!(number(&mut application, "SELECT sum(n) FROM t").await, 18);
    let steps = runner.by_rebuild(&run).await.expect("asked");
    assert_eq!(
        steps.iter().map(|step| &step.inverse).collect::<Vec<_>>(),
        ["ALTER TABLE \"t\" DROP COLUMN \"n\""]
    );
    let run = runner.revert_and_discard(&run.id).await.expect("reverted");
    assert_eq!(run.state, RunState::Reverted);
    assert_eq!(runner.by_rebuild(&run).await.expect("asked"), []);
}
