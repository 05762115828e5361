//! The table that an application lives on, and the application: every write of it is journalled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Postgres, Row as _};
use tokio::time::{Instant, timeout};

use super::catalogue::described;
use super::table::{connect, query, run};
use crate::binary::run_beside;
use crate::server::{Database, OwnServer, postgres_database};
use crate::workload::{Client, Journal, Operation, Outcome, Transaction, Writers};

/// What each row is, in every shape that the tests give the table.
pub const ROW: &str =
    "jsonb_build_array(ltrim(customer_id::text, 'c'), trim_scale(amount), note, code, version)::text";

const ORDERS: &str = "CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id int NOT NULL,
    amount numeric(12, 2),
    note varchar(40) DEFAULT 'none',
    code varchar(40) UNIQUE,
    version int NOT NULL DEFAULT 0,
    total int GENERATED ALWAYS AS (version * 10) STORED);
CREATE INDEX orders_amount ON orders (amount);
CREATE INDEX orders_silent ON orders (version) WHERE note IS NULL;
CREATE INDEX orders_note ON orders (lower(note));
COMMENT ON COLUMN orders.note IS 'what the clerk said'";

/// A database with `orders`, and the tables beside it.
pub struct Orders {
    database: Database,
    /// Shared keys are `1..=rows`.
    pub rows: u64,
    /// The statements that made the table what it is.
    made: Vec<String>,
}

impl Orders {
    /// `rows` rows, in a database of their own.
    pub async fn with_rows(rows: u64) -> Self {
        Self::within(postgres_database().await, rows).await
    }

    /// The same in this database.
    pub async fn within(database: Database, rows: u64) -> Self {
        let orders = Self { database, rows, made: vec![ORDERS.to_owned()] };
        for statement in [
            ORDERS.to_owned(),
            "CREATE TABLE audit (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tx text NOT NULL, id bigint NOT NULL, \"row\" text)"
                .to_owned(),
            "CREATE TABLE committed (tx text PRIMARY KEY)".to_owned(),
            // Whoever writes a shared row locks it here first, in the order of the keys: the writers do not deadlock with
            // each other over rows.
            "CREATE TABLE turns (id bigint PRIMARY KEY)".to_owned(),
            format!("INSERT INTO turns SELECT generate_series(1, {rows})"),
            "INSERT INTO orders (id, customer_id, amount, note, code)
             SELECT id, id % 1000, round(id::numeric / 4, 2), CASE WHEN id % 3 <> 0 THEN 'row ' || id END, 'c' || id FROM turns"
                .to_owned(),
            format!("INSERT INTO audit (tx, id, \"row\") SELECT 'start', id, {ROW} FROM orders"),
            "ANALYZE orders, turns".to_owned(),
        ] {
            orders.execute(&statement).await;
        }
        orders
    }

    /// The same tables on a server that has taken the place of theirs.
    pub fn now_at(mut self, server: &OwnServer) -> Self {
        self.database.url = server.url_of(&self.database.name);
        self
    }

    /// Changes the table before a test, and its blocking twin as well.
    pub async fn alter(&mut self, statement: &str) {
        self.execute(statement).await;
        self.made.push(statement.to_owned());
    }

    /// The target, as a person types it.
    pub fn url(&self) -> String {
        self.database.url.clone()
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.database.name
    }

    /// Removes the database, whoever is still connected.
    pub async fn drop_database(&self) {
        let url = self.database.url.replacen(&format!("/{}", self.database.name), "/postgres", 1);
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database.name);
        run(&mut connect(&url).await, &drop).await.expect("dropped");
    }

    /// A connection as an application opens it.
    pub async fn connect(&self) -> PgConnection {
        connect(&self.database.url).await
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        run(&mut connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One value as text; empty for NULL, and for no row.
    pub async fn text(&self, sql: &str) -> String {
        text(&mut self.connect().await, sql).await
    }

    /// What the catalogue says of `orders`.
    pub async fn definition(&self) -> Vec<String> {
        described(&mut self.connect().await, "public", "orders").await
    }

    /// The names of all relations, functions, triggers, publications and slots outside our records.
    pub async fn names(&self) -> Vec<String> {
        let sql = "SELECT * FROM (
             SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', '_replank') AND n.nspname NOT LIKE 'pg\\_temp%'
             AND n.nspname NOT LIKE 'pg\\_toast\\_temp%'
             UNION ALL
             SELECT n.nspname || '.' || p.proname || '()' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', '_replank')
             UNION ALL
             SELECT t.tgrelid::regclass || ' ' || t.tgname FROM pg_trigger t WHERE NOT t.tgisinternal
             UNION ALL
             SELECT o.conrelid::regclass || ' ' || o.conname FROM pg_constraint o WHERE o.conrelid <> 0
             AND o.connamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', '_replank'))
             UNION ALL
             SELECT s.stxnamespace::regnamespace || ' ' || s.stxname FROM pg_statistic_ext s
             UNION ALL
             SELECT 'publication ' || p.pubname FROM pg_publication p
             UNION ALL
             SELECT 'slot ' || s.slot_name FROM pg_replication_slots s WHERE s.database = current_database()
             ) AS all_names ORDER BY 1";
        query(&mut self.connect().await, sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// Fails if replank left anything but its records.
    pub async fn assert_no_helpers(&self) {
        let left: Vec<String> = self.names().await.into_iter().filter(|name| name.contains("_rp_")).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Compares the table, row by row, with what its audit records and the writers' journal say: as a scan finds it, and
    /// as its indexes do.
    ///
    /// # Panics
    /// At the first difference, with the row.
    pub async fn check(&self, journal: &Journal) {
        let mut connection = self.connect().await;
        let mut expected = BTreeMap::new();
        for record in query(&mut connection, "SELECT id, \"row\" FROM audit ORDER BY seq").await {
            let id: i64 = record.get(0);
            match record.get::<Option<String>, _>(1) {
                Some(row) => expected.insert(id, row),
                None => expected.remove(&id),
            };
        }
        let committed = query(&mut connection, "SELECT tx FROM committed").await;
        journal.hold_against(&committed.iter().map(|row| row.get(0)).collect::<BTreeSet<String>>());
        let rows = query(&mut connection, &format!("SELECT id, {ROW} FROM orders")).await;
        let actual: BTreeMap<i64, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rows.len(), actual.len(), "a key is there twice");
        for (id, row) in &expected {
            assert_eq!(actual.get(id), Some(row), "row {id}");
        }
        for id in actual.keys() {
            assert!(expected.contains_key(id), "row {id} was invented");
        }
        self.check_indexes(&mut connection, actual.len()).await;
    }

    /// The same, then against the server's own ALTER, and after the way back.
    ///
    /// # Panics
    /// When anything is not as it must be.
    pub async fn check_there_and_back(&self, journal: &Journal, before: &[String], statement: &str) {
        self.check(journal).await;
        self.check_against_blocking(statement, &[]).await;
        run_beside(&["revert", "last", "-t", &self.url(), "--yes"], &[]).await.exits(0);
        self.check(journal).await;
        assert_same(&self.definition().await, before, "the definition, before and after");
        self.assert_no_helpers().await;
    }

    /// Every index has every row, and the computed column its value.
    async fn check_indexes(&self, connection: &mut PgConnection, rows: usize) {
        let computed = "SELECT count(*)::text FROM orders WHERE total IS DISTINCT FROM version * 10";
        assert_eq!(text(connection, computed).await, "0", "computed values");
        run(connection, "SET enable_seqscan = off").await.expect("set");
        for sql in [
            "SELECT count(*)::text FROM (SELECT id FROM orders ORDER BY id) AS o",
            "SELECT count(*)::text FROM (SELECT code FROM orders ORDER BY code) AS o",
            "SELECT count(*)::text FROM (SELECT amount FROM orders ORDER BY amount) AS o",
            "SELECT count(*)::text FROM (SELECT 1 FROM orders ORDER BY lower(note)) AS o",
        ] {
            let plan = query(connection, &format!("EXPLAIN {sql}")).await;
            let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
            assert!(plan.iter().any(|line| line.contains("Index")), "{plan:?}");
            assert_eq!(text(connection, sql).await, rows.to_string(), "{sql}");
        }
    }

    /// Makes the same change by the server's own ALTER of a twin that was made as the table was, and compares definitions
    /// and rows. Nobody writes meanwhile. `random` are columns whose values are nobody's to foresee.
    ///
    /// # Panics
    /// When they differ.
    pub async fn check_against_blocking(&self, statement: &str, random: &[&str]) {
        let mut connection = self.connect().await;
        let made = self.made.join("; ");
        run(&mut connection, &format!("CREATE SCHEMA twin; SET search_path = twin; {made}"))
            .await
            .expect("a twin");
        let columns = "SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
             WHERE a.attrelid = 'twin.orders'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             AND a.attname IN (SELECT b.attname FROM pg_attribute b WHERE b.attrelid = 'public.orders'::regclass AND NOT b.attisdropped)";
        let columns = text(&mut connection, columns).await;
        // Keys are as they were, whatever the change made of them.
        let values = columns.replace("customer_id", "ltrim(customer_id::text, 'c')::int");
        for sql in [
            format!("INSERT INTO orders ({columns}) SELECT {values} FROM public.orders"),
            statement.to_owned(),
            "SET search_path = public".to_owned(),
        ] {
            run(&mut connection, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let twin = described(&mut connection, "twin", "orders").await;
        let twin: Vec<String> = twin.into_iter().map(|line| line.replace("twin.", "public.")).collect();
        assert_same(&self.definition().await, &twin, "the definitions, online and blocking");
        let all = query(
            &mut connection,
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'twin.orders'::regclass AND attnum > 0 AND NOT attisdropped
             ORDER BY attnum",
        )
        .await;
        let all: Vec<String> = all.iter().map(|row| row.get(0)).collect();
        let all: Vec<String> = all
            .into_iter()
            .filter(|name| !random.contains(&name.as_str()))
            // What a writer gave after the swap is not in the form that the change gave to what was there.
            .map(|name| {
                if name == "customer_id" {
                    "ltrim(customer_id::text, 'c')".to_owned()
                } else {
                    format!("{name}::text")
                }
            })
            .collect();
        let row = format!(
            "SELECT concat_ws('|', {})",
            all.iter().map(|one| format!("coalesce({one}, '-')")).collect::<Vec<_>>().join(", ")
        );
        let differing = format!(
            "SELECT concat_ws(' ', count(*), min(r)) FROM (
             ({row} AS r FROM public.orders EXCEPT ALL {row} AS r FROM twin.orders)
             UNION ALL ({row} AS r FROM twin.orders EXCEPT ALL {row} AS r FROM public.orders)) AS d"
        );
        assert_eq!(text(&mut connection, &differing).await, "0", "online and blocking, rows differ");
        run(&mut connection, "DROP SCHEMA twin CASCADE").await.expect("dropped");
    }
}

/// Fails with what only one of the two has.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn assert_same(left: &[String], right: &[String], what: &str) {
    let of_left: Vec<&String> = left.iter().filter(|line| !right.contains(line)).collect();
    let of_right: Vec<&String> = right.iter().filter(|line| !left.contains(line)).collect();
    assert!(
        of_left.is_empty() && of_right.is_empty(),
        "{what}: only the first has {of_left:#?}, only the second {of_right:#?}"
    );
    assert_eq!(left.len(), right.len(), "{what}: something is there twice");
}

/// One value as text; empty for NULL, and for no row.
pub async fn text(connection: &mut PgConnection, sql: &str) -> String {
    let rows = query(connection, sql).await;
    let value = rows.first().and_then(|row| row.try_get::<Option<String>, _>(0).expect("a text"));
    value.unwrap_or_default()
}

/// An application on PostgreSQL.
pub struct Application {
    url: String,
    connection: PgConnection,
    shared: i64,
    /// Until what it wrote is on the disk.
    waits: bool,
}

impl Application {
    /// Starts `count` writers.
    pub async fn start(orders: &Orders, seed: u64, count: u64) -> Writers {
        Self::start_as(orders, &orders.url(), seed, count).await
    }

    /// The same under a login of their own.
    pub async fn start_as(orders: &Orders, url: &str, seed: u64, count: u64) -> Writers {
        Writers::start(Self::clients(orders, url, count, true).await, seed, orders.rows)
    }

    /// As many again that do not wait for the disk, nor for a standby: what those are told is no promise.
    pub async fn start_with_careless(orders: &Orders, seed: u64, count: u64) -> Writers {
        let mut clients = Self::clients(orders, &orders.url(), count, true).await;
        clients.extend(Self::clients(orders, &orders.url(), count, false).await);
        Writers::start(clients, seed, orders.rows)
    }

    /// With time in between: for many tables at once on one server.
    pub async fn at_leisure(orders: &Orders, seed: u64, count: u64) -> Writers {
        Writers::resting(Self::clients(orders, &orders.url(), count, true).await, seed, orders.rows, 60)
    }

    async fn clients(orders: &Orders, url: &str, count: u64, waits: bool) -> Vec<Self> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let connection = Self::open(url, waits).await.expect("the server takes a connection");
            let shared = i64::try_from(orders.rows).expect("a small table");
            clients.push(Self { url: url.to_owned(), connection, shared, waits });
        }
        clients
    }

    /// What any application does when its server was restarted.
    async fn connect_again(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match Self::open(&self.url, self.waits).await {
                Ok(connection) => {
                    self.connection = connection;
                    return;
                }
                Err(error) => assert!(Instant::now() < deadline, "the server does not come back: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn open(url: &str, waits: bool) -> Result<PgConnection, sqlx::Error> {
        let opening = PgConnection::connect(url);
        let mut connection = timeout(Duration::from_secs(5), opening).await.unwrap_or_else(|_elapsed| {
            Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the server did not answer",
            )))
        })?;
        run(&mut connection, "SET lock_timeout = '5s'; SET default_transaction_isolation = 'read committed'")
            .await?;
        if !waits {
            run(&mut connection, "SET synchronous_commit = off").await?;
        }
        Ok(connection)
    }

    async fn body(&mut self, transaction: &Transaction) -> Result<(), sqlx::Error> {
        run(&mut self.connection, "BEGIN").await?;
        self.take_turns(transaction).await?;
        let tx = &transaction.id;
        self.one("INSERT INTO committed (tx) VALUES ($1)", |query| query.bind(tx.clone())).await?;
        for (operation, is_undone) in &transaction.operations {
            if *is_undone {
                run(&mut self.connection, "SAVEPOINT part").await?;
            }
            self.apply(operation, tx).await?;
            if *is_undone {
                run(&mut self.connection, "ROLLBACK TO SAVEPOINT part").await?;
            }
        }
        Ok(())
    }

    /// Locks the turns of all shared rows that the transaction may write, in the order of the keys.
    async fn take_turns(&mut self, transaction: &Transaction) -> Result<(), sqlx::Error> {
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
            self.one("SELECT id FROM turns WHERE id = $1 FOR UPDATE", |query| query.bind(id)).await?;
        }
        Ok(())
    }

    /// The same is written in several ways, by the key: an application has many hands.
    async fn apply(&mut self, operation: &Operation, tx: &str) -> Result<(), sqlx::Error> {
        match operation {
            Operation::Insert { id, customer } => self.insert(tx, *id, *customer).await,
            Operation::Update { id, customer } => self.update(tx, *id, *customer).await,
            Operation::Delete { id } if id % 2 == 0 => {
                let statement = "WITH gone AS (DELETE FROM orders WHERE id = $1 RETURNING id)
                     INSERT INTO audit (tx, id, \"row\") SELECT $2, id, NULL FROM gone";
                self.one(statement, |query| query.bind(*id).bind(tx.to_owned())).await.map(drop)
            }
            Operation::Delete { id } => {
                self.one("DELETE FROM orders WHERE id = $1", |query| query.bind(*id)).await?;
                self.gone(tx, *id).await
            }
            Operation::ChangeKey { id, to } => {
                let taken = "SELECT id FROM orders WHERE id = $1";
                if self.one(taken, |query| query.bind(*to)).await? > 0 {
                    return Ok(());
                }
                let moving = "UPDATE orders SET id = $2, version = version + 1 WHERE id = $1";
                if self.one(moving, |query| query.bind(*id).bind(*to)).await? > 0 {
                    self.gone(tx, *id).await?;
                    self.put(tx, *to).await?;
                }
                Ok(())
            }
            Operation::SwapCodes { id, other } => self.swap_codes(tx, *id, *other).await,
            Operation::Replace { id, victim, customer } => self.replace(tx, *id, *victim, *customer).await,
        }
    }

    async fn insert(&mut self, tx: &str, id: i64, customer: u64) -> Result<(), sqlx::Error> {
        // Own keys come in eights, of which four are drawn.
        let (more, statement) = match id % 3 {
            0 => (
                id + 4,
                "INSERT INTO orders (id, customer_id, amount, code)
                 VALUES ($1, $3, round($1::numeric / 8, 2), 'n' || $1), ($2, $3, NULL, 'n' || $2)",
            ),
            1 => (
                id,
                "INSERT INTO orders (id, customer_id, amount, code) VALUES ($1, $3, round($2::numeric / 8, 2), 'n' || $1)
                 ON CONFLICT (id) DO UPDATE SET version = orders.version + 1",
            ),
            _ => (
                id,
                "INSERT INTO orders (id, customer_id, amount, code)
                 SELECT n, $3, round(n::numeric / 8, 2), 'n' || n FROM generate_series($1, $2) AS n",
            ),
        };
        self.one(statement, |query| query.bind(id).bind(more).bind(number(customer))).await?;
        self.put(tx, id).await?;
        if more == id { Ok(()) } else { self.put(tx, more).await }
    }

    async fn update(&mut self, tx: &str, id: i64, customer: u64) -> Result<(), sqlx::Error> {
        let customer = number(customer);
        match id % 3 {
            0 => {
                let statement = format!(
                    "WITH changed AS (
                         UPDATE orders SET customer_id = $2, amount = COALESCE(amount, 0) + 0.25, note = 'by ' || $3,
                                version = version + 1 WHERE id = $1 RETURNING id, {ROW} AS now)
                     INSERT INTO audit (tx, id, \"row\") SELECT $3, id, now FROM changed"
                );
                self.one(&statement, |query| query.bind(id).bind(customer).bind(tx.to_owned()))
                    .await
                    .map(drop)
            }
            1 => {
                let statement = "INSERT INTO orders AS o (id, customer_id, note) VALUES ($1, $2, 'by ' || $3)
                     ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, amount = COALESCE(o.amount, 0) + 0.25,
                     note = excluded.note, version = o.version + 1";
                self.one(statement, |query| query.bind(id).bind(customer).bind(tx.to_owned())).await?;
                self.put(tx, id).await
            }
            _ => {
                let statement = "UPDATE orders SET customer_id = $2, amount = COALESCE(amount, 0) + 0.25, note = 'by ' || $3,
                     version = version + 1 WHERE id = $1";
                self.one(statement, |query| query.bind(id).bind(customer).bind(tx.to_owned())).await?;
                self.put(tx, id).await
            }
        }
    }

    async fn swap_codes(&mut self, tx: &str, id: i64, other: i64) -> Result<(), sqlx::Error> {
        // The server refuses a prepared query whose result would have another type or collation, whoever changed the table.
        let found = sqlx::query("SELECT id, code::text COLLATE \"C\" FROM orders WHERE id IN ($1, $2)")
            .bind(id)
            .bind(other)
            .fetch_all(&mut self.connection)
            .await?;
        let codes: Vec<(i64, Option<String>)> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
        let [(first, first_code), (second, second_code)] = codes.as_slice() else { return Ok(()) };
        for (row, code) in [(first, None), (second, first_code.clone()), (first, second_code.clone())] {
            let statement = "UPDATE orders SET code = $2, version = version + 1 WHERE id = $1";
            self.one(statement, |query| query.bind(*row).bind(code)).await?;
        }
        self.put(tx, *first).await?;
        self.put(tx, *second).await
    }

    /// The victim goes and another row takes its code, in one statement.
    async fn replace(&mut self, tx: &str, id: i64, victim: i64, customer: u64) -> Result<(), sqlx::Error> {
        let statement = "WITH gone AS (DELETE FROM orders WHERE id = $2 AND code IS NOT NULL RETURNING code)
             INSERT INTO orders (id, customer_id, amount, code, version) SELECT $1, $3, NULL, code, 1 FROM gone
             ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, amount = NULL, note = excluded.note,
             code = excluded.code, version = 1";
        if self.one(statement, |query| query.bind(id).bind(victim).bind(number(customer))).await? == 0 {
            return Ok(());
        }
        if victim != id {
            self.gone(tx, victim).await?;
        }
        self.put(tx, id).await
    }

    /// Records what a row is now; nothing if it is not there.
    async fn put(&mut self, tx: &str, id: i64) -> Result<(), sqlx::Error> {
        let statement =
            format!("INSERT INTO audit (tx, id, \"row\") SELECT $2, id, {ROW} FROM orders WHERE id = $1");
        self.one(&statement, |query| query.bind(id).bind(tx.to_owned())).await.map(drop)
    }

    async fn gone(&mut self, tx: &str, id: i64) -> Result<(), sqlx::Error> {
        let statement = "INSERT INTO audit (tx, id, \"row\") VALUES ($2, $1, NULL)";
        self.one(statement, |query| query.bind(id).bind(tx.to_owned())).await.map(drop)
    }

    /// One statement in the prepared form: its plan outlives the table.
    async fn one<'q>(
        &mut self,
        statement: &str,
        bound: impl FnOnce(Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        let query = bound(sqlx::query(AssertSqlSafe(statement.to_owned())));
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }
}

fn number(customer: u64) -> i64 {
    i64::try_from(customer).expect("far below 2^63")
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "40P01")
}

/// The server is gone, or ends the session: class 57P.
fn is_lost(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(said) => said.code().is_some_and(|code| code.starts_with("57P")),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)),
    }
}

impl Client for Application {
    async fn carry_out(&mut self, transaction: &Transaction) -> Outcome {
        match self.body(transaction).await {
            Err(error) if is_lost(&error) => {
                self.connect_again().await;
                Outcome::Failed(format!("the connection was lost: {error}"))
            }
            Err(error) => match run(&mut self.connection, "ROLLBACK").await {
                Ok(_) if is_deadlock(&error) => Outcome::Deadlocked,
                rolled_back => Outcome::Failed(format!("{error} (rollback: {})", rolled_back.is_ok())),
            },
            Ok(()) if transaction.rolls_back => match run(&mut self.connection, "ROLLBACK").await {
                Ok(_) => Outcome::RolledBack,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Ok(()) => match run(&mut self.connection, "COMMIT").await {
                Ok(_) if self.waits => Outcome::Acknowledged,
                Ok(_) => Outcome::Unknown("it did not wait for the disk".to_owned()),
                Err(error) => {
                    self.connect_again().await;
                    Outcome::Unknown(error.to_string())
                }
            },
        }
    }
}
