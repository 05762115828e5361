//! What a writer's transaction is on SQLite.

use sqlx::sqlite::{SqliteConnection, SqliteQueryResult};

use super::Table;
use crate::workload::{Client, Operation, Outcome, Transaction, Writers};

const ROW: &str = "json_array(CAST(customer_id AS TEXT), amount, note, code, version)";

/// An application on SQLite.
pub struct Application(SqliteConnection);

impl Application {
    /// Starts `count` writers.
    pub async fn start(table: &Table, seed: u64, count: u64) -> Writers {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Self(table.connect().await));
        }
        Writers::start(clients, seed, table.rows)
    }
}

impl Client for Application {
    async fn carry_out(&mut self, transaction: &Transaction) -> Outcome {
        one(&mut self.0, transaction).await
    }
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
