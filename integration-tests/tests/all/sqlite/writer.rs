//! Writers that run until they are stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnection, SqliteQueryResult};
use tokio::task::JoinSet;

use super::Table;
use crate::random::Random;
use crate::workload::{Journal, Operation, Outcome, Transaction, draw};

const ROW: &str = "json_array(CAST(customer_id AS TEXT), amount, note, code, version)";

/// Writers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<Journal>,
}

impl Writers {
    /// Starts `count` writers.
    pub async fn start(table: &Table, seed: u64, count: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            let work = Work { stop: Arc::clone(&stop), acknowledged: Arc::clone(&acknowledged) };
            tasks.spawn(write(table.connect().await, work, Random::new(seed, writer), writer, table.rows));
        }
        Self { stop, acknowledged, tasks }
    }

    /// Until so many more transactions are acknowledged. With no runner alive they come between what one
    /// saw and what the next one finds.
    pub async fn write_on(&self, transactions: u64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + transactions;
        while self.acknowledged.load(Ordering::SeqCst) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops them, after the transaction that each is at.
    pub async fn stop(mut self) -> Journal {
        self.stop.store(true, Ordering::SeqCst);
        let mut journal = Journal::default();
        while let Some(ended) = self.tasks.join_next().await {
            journal.merge(ended.expect("a writer ended in a panic"));
        }
        journal
    }
}

/// What the writers share.
struct Work {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

async fn write(
    mut connection: SqliteConnection,
    work: Work,
    mut random: Random,
    writer: u64,
    rows: u64,
) -> Journal {
    let mut journal = Journal::default();
    let mut number = 0;
    while !work.stop.load(Ordering::SeqCst) {
        let transaction = draw(&mut random, writer, number, rows);
        let began = Instant::now();
        let outcome = one(&mut connection, &transaction).await;
        if outcome == Outcome::Acknowledged {
            work.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        journal.record(transaction.id, outcome, began.elapsed());
        number += 1;
        tokio::time::sleep(Duration::from_millis(1 + random.below(4))).await;
    }
    journal
}

async fn one(connection: &mut SqliteConnection, transaction: &Transaction) -> Outcome {
    match body(connection, transaction).await {
        Err(error) => {
            // The connection may be inside a transaction still; if not, ROLLBACK says so, which is fine.
            let rolled_back = execute(connection, "ROLLBACK").await;
            Outcome::Failed(format!("{error} (rollback: {})", rolled_back.is_ok()))
        }
        Ok(()) if transaction.rolls_back => match execute(connection, "ROLLBACK").await {
            Ok(_) => Outcome::RolledBack,
            Err(error) => Outcome::Failed(error.to_string()),
        },
        Ok(()) => match execute(connection, "COMMIT").await {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => Outcome::Unknown(error.to_string()),
        },
    }
}

async fn body(connection: &mut SqliteConnection, transaction: &Transaction) -> sqlx::Result<()> {
    execute(connection, "BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO committed (tx) VALUES (?)")
        .bind(&transaction.id)
        .execute(&mut *connection)
        .await?;
    for (operation, is_undone) in &transaction.operations {
        if *is_undone {
            execute(connection, "SAVEPOINT part").await?;
        }
        apply(connection, operation, &transaction.id).await?;
        if *is_undone {
            execute(connection, "ROLLBACK TO part").await?;
            execute(connection, "RELEASE part").await?;
        }
    }
    Ok(())
}

async fn apply(connection: &mut SqliteConnection, operation: &Operation, tx: &str) -> sqlx::Result<()> {
    match operation {
        Operation::Insert { id, customer } => {
            sqlx::query(
                "INSERT INTO orders (id, customer_id, amount, code) VALUES (?1, ?2, ?1 / 8.0, 'n' || ?1)",
            )
            .bind(id)
            .bind(customer.to_string())
            .execute(&mut *connection)
            .await?;
            put(connection, tx, *id).await
        }
        Operation::Update { id, customer } => {
            sqlx::query(
                "UPDATE orders SET customer_id = ?2, amount = coalesce(amount, 0) + 0.25, note = 'by ' || ?3,
                 version = version + 1 WHERE id = ?1",
            )
            .bind(id)
            .bind(customer.to_string())
            .bind(tx)
            .execute(&mut *connection)
            .await?;
            put(connection, tx, *id).await
        }
        Operation::Delete { id } => {
            sqlx::query("DELETE FROM orders WHERE id = ?").bind(id).execute(&mut *connection).await?;
            gone(connection, tx, *id).await
        }
        Operation::ChangeKey { id, to } => {
            let moved = sqlx::query(
                "UPDATE orders SET id = ?2, version = version + 1
                 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM orders WHERE id = ?2)",
            )
            .bind(id)
            .bind(to)
            .execute(&mut *connection)
            .await?;
            if moved.rows_affected() > 0 {
                gone(connection, tx, *id).await?;
                put(connection, tx, *to).await?;
            }
            Ok(())
        }
        Operation::SwapCodes { id, other } => swap_codes(connection, tx, *id, *other).await,
        Operation::Replace { id, victim, customer } => replace(connection, tx, *id, *victim, *customer).await,
    }
}

async fn swap_codes(connection: &mut SqliteConnection, tx: &str, id: i64, other: i64) -> sqlx::Result<()> {
    let codes: Vec<(i64, Option<String>)> =
        sqlx::query_as("SELECT id, code FROM orders WHERE id IN (?1, ?2)")
            .bind(id)
            .bind(other)
            .fetch_all(&mut *connection)
            .await?;
    let [(first, first_code), (second, second_code)] = codes.as_slice() else { return Ok(()) };
    for (row, code) in [(first, None), (second, first_code.as_ref()), (first, second_code.as_ref())] {
        sqlx::query("UPDATE orders SET code = ?2, version = version + 1 WHERE id = ?1")
            .bind(row)
            .bind(code)
            .execute(&mut *connection)
            .await?;
    }
    put(connection, tx, *first).await?;
    put(connection, tx, *second).await
}

/// `INSERT OR REPLACE` removes the victim without firing a delete trigger.
async fn replace(
    connection: &mut SqliteConnection,
    tx: &str,
    id: i64,
    victim: i64,
    customer: u64,
) -> sqlx::Result<()> {
    let code: Option<(Option<String>,)> = sqlx::query_as("SELECT code FROM orders WHERE id = ?")
        .bind(victim)
        .fetch_optional(&mut *connection)
        .await?;
    let Some((Some(code),)) = code else { return Ok(()) };
    sqlx::query(
        "INSERT OR REPLACE INTO orders (id, customer_id, amount, code, version) VALUES (?1, ?2, NULL, ?3, 1)",
    )
    .bind(id)
    .bind(customer.to_string())
    .bind(&code)
    .execute(&mut *connection)
    .await?;
    if victim != id {
        gone(connection, tx, victim).await?;
    }
    put(connection, tx, id).await
}

/// Records what a row is now; nothing if it is not there.
async fn put(connection: &mut SqliteConnection, tx: &str, id: i64) -> sqlx::Result<()> {
    let statement = format!("INSERT INTO audit (tx, id, row) SELECT ?1, id, {ROW} FROM orders WHERE id = ?2");
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(tx).bind(id).execute(connection).await?;
    Ok(())
}

async fn gone(connection: &mut SqliteConnection, tx: &str, id: i64) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO audit (tx, id, row) VALUES (?1, ?2, NULL)")
        .bind(tx)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

async fn execute(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> sqlx::Result<SqliteQueryResult> {
    sqlx::query(statement).execute(connection).await
}
