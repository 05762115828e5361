//! An application that never stops writing, with a record of its own of what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;
use tokio::task::JoinHandle;

use super::application::{Database, execute, number, texts, try_execute};
use super::rig::Rig;

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Model = BTreeMap<u64, (u64, String)>;

/// A writer that owns the ids with one remainder, so that its record is exact.
async fn write(
    mut connection: SqliteConnection,
    writer: u64,
    stop: Arc<AtomicBool>,
) -> (Model, Duration, u64) {
    let mut model = Model::new();
    let mut numbers = Numbers(writer + 1);
    let mut longest = Duration::ZERO;
    let mut writes = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = numbers.below(200) * 2 + writer;
        let value = numbers.below(1_000_000);
        // Unique across writers, and given up and taken again all the time.
        let unique = format!("u{}", numbers.below(60) * 2 + writer);
        let held =
            model.iter().find(|(other, row)| **other != id && row.1 == unique).map(|(other, _)| *other);
        let begun = Instant::now();
        let kind = numbers.below(6);
        match kind {
            0 | 1 => {
                let sql = format!("INSERT OR REPLACE INTO t VALUES ({id}, '{value}', '{unique}')");
                execute(&mut connection, &sql).await;
                if let Some(held) = held {
                    model.remove(&held);
                }
                model.insert(id, (value, unique));
            }
            2 => {
                execute(&mut connection, &format!("DELETE FROM t WHERE id = {id}")).await;
                model.remove(&id);
            }
            3 => {
                let to = numbers.below(200) * 2 + writer;
                if to != id && model.contains_key(&id) && !model.contains_key(&to) {
                    execute(&mut connection, &format!("UPDATE t SET id = {to} WHERE id = {id}")).await;
                    let row = model.remove(&id).expect("looked up");
                    model.insert(to, row);
                }
            }
            4 => {
                execute(&mut connection, &format!("UPDATE t SET v = '{value}' WHERE id = {id}")).await;
                if let Some(row) = model.get_mut(&id) {
                    row.0 = value;
                }
            }
            _ => {
                let sql = format!(
                    "BEGIN IMMEDIATE; DELETE FROM t WHERE id % 2 = {writer}; INSERT INTO t VALUES (0, 0, NULL); ROLLBACK"
                );
                // Whatever becomes of it, it is rolled back; a duplicate of id 0 ends it early.
                if try_execute(&mut connection, &sql).await.is_err() {
                    execute(&mut connection, "ROLLBACK").await;
                }
            }
        }
        writes += 1;
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (model, longest, writes)
}

struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(Model, Duration, u64)>>,
}

impl Writers {
    async fn start(database: &Database) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..2 {
            tasks.push(tokio::spawn(write(database.connect().await, writer, Arc::clone(&stop))));
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Model::new();
        for task in self.tasks {
            let (model, longest, writes) = task.await.expect("the writer did not fail");
            assert!(writes > 50, "only {writes} writes: the writers hardly got through");
            assert!(longest < Duration::from_secs(5), "a write waited {longest:?}");
            all.extend(model);
        }
        all.iter().map(|(id, (value, unique))| format!("{id} {value} {unique}")).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_or_invented_there_or_back() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT, u TEXT UNIQUE)").await;
    let writers = Writers::start(&database).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut rig =
        Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE INTEGER, ADD UNIQUE INDEX t_v_u (v, u)").await;
    let displaced = rig.copy(13).await;
    rig.catch_up_with(displaced).await;
    for _ in 0..5 {
        rig.catch_up().await;
    }
    rig.swap().await;
    let mut rig = rig.reversed().await;
    for _ in 0..5 {
        rig.catch_up().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut application = database.connect().await;
    assert_eq!(
        texts(&mut application, "SELECT type FROM pragma_table_info('t') WHERE name = 'v'").await,
        ["INTEGER"]
    );
    let sequence = number(&mut application, "SELECT seq FROM sqlite_sequence WHERE name = 't'").await;
    rig.swap().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let expected = writers.stop().await;
    let present = texts(&mut application, "SELECT id || ' ' || v || ' ' || u FROM t ORDER BY id").await;
    assert_eq!(present, expected);
    assert!(!present.is_empty());
    assert_eq!(
        texts(&mut application, "SELECT type FROM pragma_table_info('t') WHERE name = 'v'").await,
        ["TEXT"]
    );
    assert!(number(&mut application, "SELECT seq FROM sqlite_sequence WHERE name = 't'").await >= sequence);
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures and proves nothing: run it by hand with --nocapture"]
async fn figures() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, u TEXT, n INT, note TEXT);
         CREATE INDEX t_v ON t(v); CREATE UNIQUE INDEX t_u ON t(u); CREATE INDEX t_n ON t(n, v)",
    )
    .await;
    let mut application = database.connect().await;
    execute(&mut application, "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT i, i * 7 % 1000, hex(i * 2654435761), i % 97, 'some note of a common length ' || i FROM n").await;
    let mut rig = Rig::prepared(&database, "ALTER TABLE t ALTER v TYPE INTEGER").await;
    for rows in [250, 500, 1000] {
        let bound = rig.rebuild.next_bound(None, rows).await.expect("the bound");
        let begun = Instant::now();
        let bounds = replank_core::value::Bounds { lower: None, upper: bound };
        rig.rebuild.copy(&bounds).await.expect("the chunk");
        println!("first chunk of {rows} rows: {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    rig.copy(1000).await;
    println!("copy of 200000 rows, three indexes, chunks of 1000: {:?}", begun.elapsed());
    execute(&mut application, "UPDATE t SET v = v + 1 WHERE id % 10 = 0").await;
    let changes = rig.pull().await;
    let begun = Instant::now();
    for batch in changes.chunks(100) {
        rig.rebuild.apply(batch).await.expect("the batch");
    }
    println!("apply of {} changes in batches of 100: {:?}", changes.len(), begun.elapsed());
    let begun = Instant::now();
    rig.assert_equal().await;
    println!("comparison of 200000 rows: {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut guard = rig.lock().await;
    let locked = Instant::now();
    guard.install_reverse().await.expect("the reverse feed");
    guard.commit().await;
    println!("lock granted after {:?}, held {:?}", locked - begun, locked.elapsed());
    guard.release().await.expect("released");
    let begun = Instant::now();
    rig.rebuild.discard().await.expect("discarded");
    println!("discard of the retired table: {:?}", begun.elapsed());
    assert_eq!(texts(&mut application, "PRAGMA integrity_check").await, ["ok"]);
}
