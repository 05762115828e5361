//! An application that moves rows between partitions, and writes straight to partitions while there are some.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::application::{Orders, ROW};
use super::table::run;
use crate::workload::{Client, Operation, Outcome, Transaction, Writers};

/// `orders` divided by the customer, in three levels: what the writers change all the time. The key has to grow by it.
pub const BY_CUSTOMER: &str = "CREATE TABLE orders (
    id bigint,
    customer_id int NOT NULL,
    amount numeric(12, 2),
    note varchar(40) DEFAULT 'none',
    code varchar(40),
    version int NOT NULL DEFAULT 0,
    total int GENERATED ALWAYS AS (version * 10) STORED,
    PRIMARY KEY (id, customer_id)) PARTITION BY RANGE (customer_id);
CREATE TABLE orders_low PARTITION OF orders FOR VALUES FROM (MINVALUE) TO (250000);
CREATE TABLE orders_mid PARTITION OF orders FOR VALUES FROM (250000) TO (500000) PARTITION BY HASH (id);
CREATE TABLE orders_mid_0 PARTITION OF orders_mid FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.\"Orders mid 1\" PARTITION OF orders_mid FOR VALUES WITH (MODULUS 2, REMAINDER 1) WITH (fillfactor = 70);
CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
CREATE INDEX orders_code ON orders (code)";

/// The same, plain, as it was before.
pub const PLAIN: &str = "CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id int NOT NULL,
    amount numeric(12, 2),
    note varchar(40) DEFAULT 'none',
    code varchar(40),
    version int NOT NULL DEFAULT 0,
    total int GENERATED ALWAYS AS (version * 10) STORED);
CREATE INDEX orders_code ON orders (code)";

/// One connection of it.
pub struct Mover {
    connection: PgConnection,
    shared: i64,
    is_direct: Arc<AtomicBool>,
    /// How often a partition was not there.
    missed: u32,
}

/// From the swap until a test says that partitions are gone. With a pause after each that is some seconds.
const MISSED_MAX: u32 = 200;

impl Mover {
    /// Starts `count` of them. While the switch is on half of what they write goes straight to the partitions of
    /// [`BY_CUSTOMER`]; where those are gone, the transaction is rolled back, as any application would have to. That is no failure
    /// around a swap alone: with the switch off, or again and again, it is.
    pub async fn start(orders: &Orders, seed: u64, count: u64, is_direct: &Arc<AtomicBool>) -> Writers {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut connection = orders.connect().await;
            run(&mut connection, "SET lock_timeout = '5s'").await.expect("set");
            let shared = i64::try_from(orders.rows).expect("a small table");
            clients.push(Self { connection, shared, is_direct: Arc::clone(is_direct), missed: 0 });
        }
        Writers::start(clients, seed, orders.rows)
    }

    async fn body(&mut self, transaction: &Transaction) -> Result<(), sqlx::Error> {
        run(&mut self.connection, "BEGIN").await?;
        let tx = transaction.id.clone();
        let mut keys: Vec<i64> = transaction.operations.iter().flat_map(|(one, _)| touched(one)).collect();
        keys.retain(|id| *id <= self.shared);
        keys.sort_unstable();
        keys.dedup();
        for id in keys {
            self.one("SELECT id FROM turns WHERE id = $1 FOR UPDATE", |query| query.bind(id)).await?;
        }
        self.one("INSERT INTO committed (tx) VALUES ($1)", |query| query.bind(tx.clone())).await?;
        for (operation, is_undone) in &transaction.operations {
            if *is_undone {
                run(&mut self.connection, "SAVEPOINT part").await?;
            }
            self.apply(operation).await?;
            for id in touched(operation) {
                let record = format!(
                    "INSERT INTO audit (tx, id, \"row\") SELECT $2, $1, (SELECT {ROW} FROM orders WHERE id = $1)"
                );
                self.one(&record, |query| query.bind(id).bind(tx.clone())).await?;
            }
            if *is_undone {
                run(&mut self.connection, "ROLLBACK TO SAVEPOINT part").await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, operation: &Operation) -> Result<(), sqlx::Error> {
        let is_direct = |id: &i64| id % 2 == 0 && self.is_direct.load(Ordering::SeqCst);
        match operation {
            Operation::Insert { id, customer } => {
                let customer = i64::try_from(*customer).expect("far below 2^63");
                let target = match customer {
                    _ if !is_direct(id) => "orders",
                    ..250_000 => "orders_low",
                    250_000..500_000 => "orders_mid",
                    _ => "orders_rest",
                };
                let insert = format!(
                    "INSERT INTO {target} (id, customer_id, amount, code) VALUES ($1, $2, round($1::numeric / 8, 2), 'n' || $1)"
                );
                self.one(&insert, |query| query.bind(*id).bind(customer)).await.map(drop)
            }
            Operation::Update { id, .. } if is_direct(id) => {
                for part in ["orders_low", "orders_mid", "orders_rest"] {
                    let update =
                        format!("UPDATE {part} SET version = version + 1, note = 'direct' WHERE id = $1");
                    self.one(&update, |query| query.bind(*id)).await?;
                }
                Ok(())
            }
            Operation::Update { id, customer } => {
                let customer = i64::try_from(*customer).expect("far below 2^63");
                let update = "UPDATE orders SET customer_id = $2, version = version + 1 WHERE id = $1";
                self.one(update, |query| query.bind(*id).bind(customer)).await.map(drop)
            }
            Operation::Delete { id } if is_direct(id) => {
                for part in ["orders_low", "orders_mid_0", "\"Orders mid 1\"", "orders_rest"] {
                    self.one(&format!("DELETE FROM {part} WHERE id = $1"), |query| query.bind(*id)).await?;
                }
                Ok(())
            }
            Operation::Delete { id } => {
                self.one("DELETE FROM orders WHERE id = $1", |query| query.bind(*id)).await.map(drop)
            }
            Operation::ChangeKey { id, to } => {
                let moving = "UPDATE orders SET id = $2, version = version + 1 WHERE id = $1
                     AND NOT EXISTS (SELECT FROM orders WHERE id = $2)";
                self.one(moving, |query| query.bind(*id).bind(*to)).await.map(drop)
            }
            // Rows exchange their places, in one statement.
            Operation::SwapCodes { id, other } => {
                let exchange = "UPDATE orders AS o SET customer_id = p.customer_id, version = o.version + 1 FROM orders AS p
                     WHERE o.id IN ($1, $2) AND p.id IN ($1, $2) AND p.id <> o.id";
                self.one(exchange, |query| query.bind(*id).bind(*other)).await.map(drop)
            }
            // It is back under its key at once, in another partition as a rule.
            Operation::Replace { id, customer, .. } => {
                let customer = i64::try_from(*customer).expect("far below 2^63");
                let gone = self.one("DELETE FROM orders WHERE id = $1", |query| query.bind(*id)).await?;
                let back = "INSERT INTO orders (id, customer_id) SELECT $1, $2 WHERE $3 > 0";
                let gone = i64::try_from(gone).expect("one");
                self.one(back, |query| query.bind(*id).bind(customer).bind(gone)).await.map(drop)
            }
        }
    }

    async fn one<'q>(
        &mut self,
        statement: &str,
        bound: impl FnOnce(Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        let query = bound(sqlx::query(AssertSqlSafe(statement.to_owned())));
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }
}

fn touched(operation: &Operation) -> Vec<i64> {
    match operation {
        Operation::Insert { id, .. }
        | Operation::Update { id, .. }
        | Operation::Delete { id }
        | Operation::Replace { id, .. } => vec![*id],
        Operation::ChangeKey { id, to } => vec![*id, *to],
        Operation::SwapCodes { id, other } => vec![*id, *other],
    }
}

impl Client for Mover {
    async fn carry_out(&mut self, transaction: &Transaction) -> Outcome {
        let code = |error: &sqlx::Error| {
            error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
        };
        let was_direct = self.is_direct.load(Ordering::SeqCst);
        let done = self.body(transaction).await;
        // The switch may have been turned meanwhile.
        let may_miss = was_direct || self.is_direct.load(Ordering::SeqCst);
        match done {
            Err(error) => match (run(&mut self.connection, "ROLLBACK").await, code(&error).as_deref()) {
                (Ok(_), Some("40P01")) => Outcome::Deadlocked,
                // The partition is not there by this name.
                (Ok(_), Some("42P01")) if may_miss && self.missed < MISSED_MAX => {
                    self.missed += 1;
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Outcome::RolledBack
                }
                _ => Outcome::Failed(error.to_string()),
            },
            Ok(()) if transaction.rolls_back => match run(&mut self.connection, "ROLLBACK").await {
                Ok(_) => Outcome::RolledBack,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Ok(()) => match run(&mut self.connection, "COMMIT").await {
                Ok(_) => Outcome::Acknowledged,
                Err(error) => Outcome::Unknown(error.to_string()),
            },
        }
    }
}
