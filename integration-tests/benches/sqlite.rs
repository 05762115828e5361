//! `make bench`: the online change beside the blocking way that SQLite's own documentation gives, as ratios
//! within one run. Figures, not pass or fail.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};

const ROWS: u32 = 500_000;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (blocking, online) = (folder.path().join("blocking.db"), folder.path().join("online.db"));
    fill(&blocking).await;
    std::fs::copy(&blocking, &online).expect("a copy");

    let blocked = rebuild_blocking(&blocking).await;
    let url = format!("sqlite:{}", online.display());
    let change = "ALTER TABLE orders ALTER COLUMN customer_id TYPE INTEGER, ADD INDEX ix_c (customer_id)";
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/replank");
    let began = Instant::now();
    let ended = Command::new(&binary)
        .args(["apply", "-t", &url, "-e", change, "--yes"])
        .output()
        .expect("target/release/replank runs: make bench builds it");
    let took = began.elapsed();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    println!("sqlite, {ROWS} rows, retype and one index, no writers:");
    println!("  blocking copy (writers wait all the time): {:.2} s", blocked.as_secs_f64());
    println!("  replank apply, verified and revertible:    {:.2} s", took.as_secs_f64());
    println!("  ratio: {:.2}", took.as_secs_f64() / blocked.as_secs_f64());
}

async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(10));
    SqliteConnection::connect_with(&options).await.expect("connect")
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.expect(statement);
}

async fn fill(path: &Path) {
    let mut connection = open(path).await;
    execute(
        &mut connection,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id TEXT NOT NULL, amount REAL, note TEXT)",
    )
    .await;
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO orders SELECT i, CAST(i * 7 % 10007 AS TEXT), i / 4.0, 'a note of some length for row ' || i FROM n",
    )
    .bind(ROWS)
    .execute(&mut connection)
    .await
    .expect("rows");
    execute(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    connection.close().await.expect("close");
}

/// The twelve steps of <https://www.sqlite.org/lang_altertable.html>, section 7, in one transaction.
async fn rebuild_blocking(path: &Path) -> Duration {
    let mut connection = open(path).await;
    let began = Instant::now();
    for statement in [
        "BEGIN IMMEDIATE",
        "CREATE TABLE new_orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, amount REAL, note TEXT)",
        "INSERT INTO new_orders SELECT id, CAST(customer_id AS INTEGER), amount, note FROM orders",
        "DROP TABLE orders",
        "ALTER TABLE new_orders RENAME TO orders",
        "CREATE INDEX ix_c ON orders (customer_id)",
        "COMMIT",
    ] {
        execute(&mut connection, statement).await;
    }
    began.elapsed()
}
