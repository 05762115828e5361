//! What a writer's transaction is on MySQL.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Params, params};
use tokio::time::timeout;

use super::Table;
use super::table::ROW;
use crate::workload::{Client, Operation, Outcome, Transaction, Writers};

const DEADLOCK: u16 = 1213;

/// An application on MySQL.
pub struct Application {
    url: String,
    connection: Conn,
    shared: i64,
}

impl Application {
    /// Starts `count` writers.
    pub async fn start(table: &Table, seed: u64, count: u64) -> Writers {
        Writers::start(Self::clients(table, count).await, seed, table.rows)
    }

    /// The same, with time in between: for many tables at once on one server.
    pub async fn at_leisure(table: &Table, seed: u64, count: u64) -> Writers {
        Writers::resting(Self::clients(table, count).await, seed, table.rows, 60)
    }

    async fn clients(table: &Table, count: u64) -> Vec<Self> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let connection = Self::open(&table.url()).await.expect("the server takes a connection");
            let shared = i64::try_from(table.rows).expect("a small table");
            clients.push(Self { url: table.url(), connection, shared });
        }
        clients
    }

    /// What any application does when its server was restarted.
    async fn connect_again(&mut self) {
        loop {
            match Self::open(&self.url).await {
                Ok(connection) => {
                    self.connection = connection;
                    return;
                }
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn open(url: &str) -> mysql_async::Result<Conn> {
        let opening = Conn::new(crate::server::options(url));
        let mut connection = timeout(Duration::from_secs(5), opening).await.unwrap_or_else(|_elapsed| {
            let slow = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer");
            Err(mysql_async::Error::from(slow))
        })?;
        connection
            .query_drop(
                "SET SESSION innodb_lock_wait_timeout = 5; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            )
            .await?;
        Ok(connection)
    }

    async fn body(&mut self, transaction: &Transaction) -> mysql_async::Result<()> {
        self.run("START TRANSACTION", Params::Empty).await?;
        self.take_turns(transaction).await?;
        self.run("INSERT INTO committed (tx) VALUES (:tx)", params! { "tx" => &transaction.id }).await?;
        for (operation, is_undone) in &transaction.operations {
            if *is_undone {
                self.run("SAVEPOINT part", Params::Empty).await?;
            }
            self.apply(operation, &transaction.id).await?;
            if *is_undone {
                self.run("ROLLBACK TO SAVEPOINT part", Params::Empty).await?;
            }
        }
        Ok(())
    }

    /// Locks the turns of all shared rows that the transaction may write, in the order of the keys.
    async fn take_turns(&mut self, transaction: &Transaction) -> mysql_async::Result<()> {
        let mut keys: Vec<i64> = transaction
            .operations
            .iter()
            .flat_map(|(operation, _)| match operation {
                Operation::Insert { id, .. } | Operation::Update { id, .. } | Operation::Delete { id } => {
                    vec![*id]
                }
                Operation::ChangeKey { id, to } => vec![*id, *to],
                Operation::SwapCodes { id, other } => vec![*id, *other],
                Operation::Replace { id, victim, .. } => vec![*id, *victim],
            })
            .filter(|id| *id <= self.shared)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        for id in keys {
            self.run("SELECT id FROM turns WHERE id = :id FOR UPDATE", params! { "id" => id }).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, operation: &Operation, tx: &str) -> mysql_async::Result<()> {
        match operation {
            Operation::Insert { id, customer } => {
                self.run(
                    "INSERT INTO orders (id, customer_id, amount, code)
                     VALUES (:id, :customer, :id2 / 8, CONCAT('n', :id3))",
                    params! { "id" => id, "customer" => customer, "id2" => id, "id3" => id },
                )
                .await?;
                self.put(tx, *id).await
            }
            Operation::Update { id, customer } => {
                self.run(
                    "UPDATE orders SET customer_id = :customer, amount = COALESCE(amount, 0) + 0.25,
                     note = CONCAT('by ', :tx), version = version + 1 WHERE id = :id",
                    params! { "id" => id, "customer" => customer, "tx" => tx },
                )
                .await?;
                self.put(tx, *id).await
            }
            Operation::Delete { id } => {
                self.run("DELETE FROM orders WHERE id = :id", params! { "id" => id }).await?;
                self.gone(tx, *id).await
            }
            Operation::ChangeKey { id, to } => {
                let taken: Option<i64> = self
                    .connection
                    .exec_first("SELECT id FROM orders WHERE id = :to", params! { "to" => to })
                    .await?;
                if taken.is_some() {
                    return Ok(());
                }
                let moved = self
                    .run(
                        "UPDATE orders SET id = :to, version = version + 1 WHERE id = :id",
                        params! { "id" => id, "to" => to },
                    )
                    .await?;
                if moved > 0 {
                    self.gone(tx, *id).await?;
                    self.put(tx, *to).await?;
                }
                Ok(())
            }
            Operation::SwapCodes { id, other } => self.swap_codes(tx, *id, *other).await,
            Operation::Replace { id, victim, customer } => self.replace(tx, *id, *victim, *customer).await,
        }
    }

    async fn swap_codes(&mut self, tx: &str, id: i64, other: i64) -> mysql_async::Result<()> {
        let codes: Vec<(i64, Option<String>)> = self
            .connection
            .exec(
                "SELECT id, code FROM orders WHERE id IN (:id, :other)",
                params! { "id" => id, "other" => other },
            )
            .await?;
        let [(first, first_code), (second, second_code)] = codes.as_slice() else { return Ok(()) };
        for (row, code) in [(first, None), (second, first_code.as_ref()), (first, second_code.as_ref())] {
            self.run(
                "UPDATE orders SET code = :code, version = version + 1 WHERE id = :id",
                params! { "id" => row, "code" => code },
            )
            .await?;
        }
        self.put(tx, *first).await?;
        self.put(tx, *second).await
    }

    /// `REPLACE` removes the victim, and the row that had the key.
    async fn replace(&mut self, tx: &str, id: i64, victim: i64, customer: u64) -> mysql_async::Result<()> {
        let code: Option<Option<String>> = self
            .connection
            .exec_first("SELECT code FROM orders WHERE id = :id", params! { "id" => victim })
            .await?;
        let Some(Some(code)) = code else { return Ok(()) };
        self.run(
            "REPLACE INTO orders (id, customer_id, amount, code, version)
             VALUES (:id, :customer, NULL, :code, 1)",
            params! { "id" => id, "customer" => customer, "code" => code },
        )
        .await?;
        if victim != id {
            self.gone(tx, victim).await?;
        }
        self.put(tx, id).await
    }

    /// Records what a row is now; nothing if it is not there.
    async fn put(&mut self, tx: &str, id: i64) -> mysql_async::Result<()> {
        let statement =
            format!("INSERT INTO audit (tx, id, `row`) SELECT :tx, id, {ROW} FROM orders WHERE id = :id");
        self.run(&statement, params! { "tx" => tx, "id" => id }).await.map(drop)
    }

    async fn gone(&mut self, tx: &str, id: i64) -> mysql_async::Result<()> {
        let statement = "INSERT INTO audit (tx, id, `row`) VALUES (:tx, :id, NULL)";
        self.run(statement, params! { "tx" => tx, "id" => id }).await.map(drop)
    }

    async fn run(&mut self, statement: &str, params: impl Into<Params> + Send) -> mysql_async::Result<u64> {
        match params.into() {
            // Statements that steer the transaction are not taken in the prepared form.
            Params::Empty => self.connection.query_drop(statement).await?,
            params => self.connection.exec_drop(statement, params).await?,
        }
        Ok(self.connection.affected_rows())
    }
}

fn is_deadlock(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(server) if server.code == DEADLOCK)
}

impl Client for Application {
    async fn carry_out(&mut self, transaction: &Transaction) -> Outcome {
        match self.body(transaction).await {
            Err(mysql_async::Error::Io(_) | mysql_async::Error::Driver(_)) => {
                self.connect_again().await;
                Outcome::Failed("the connection was lost".to_owned())
            }
            Err(error) => {
                let rolled_back = self.connection.query_drop("ROLLBACK").await;
                match rolled_back {
                    Ok(()) if is_deadlock(&error) => Outcome::Deadlocked,
                    rolled_back => Outcome::Failed(format!("{error} (rollback: {})", rolled_back.is_ok())),
                }
            }
            Ok(()) if transaction.rolls_back => match self.connection.query_drop("ROLLBACK").await {
                Ok(()) => Outcome::RolledBack,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Ok(()) => match self.connection.query_drop("COMMIT").await {
                Ok(()) => Outcome::Acknowledged,
                Err(error) => {
                    self.connect_again().await;
                    Outcome::Unknown(error.to_string())
                }
            },
        }
    }
}
