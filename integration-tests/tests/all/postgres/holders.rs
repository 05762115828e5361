//! Those who hold a table for long, and those who must not wait because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Table;
use super::table::run;
use crate::binary::run_beside;
use crate::server::postgres_own_server;
use crate::stopped::Stopped;

const RETYPE: &str = "ALTER TABLE orders ALTER customer TYPE bigint";
const KIND: &str = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute
     WHERE attrelid = 'orders'::regclass AND attname = 'customer'";
/// Two lock budgets, and the noise of a small machine; whoever holds a table here does so for longer.
const LONGEST: Duration = Duration::from_millis(1_500);
const HELD: Duration = Duration::from_millis(1_800);

/// Short statements on both tables, one after another: reads and writes.
struct Probe {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Duration>,
}

impl Probe {
    async fn start(table: &Table) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut connection, is_stopped) = (table.connect().await, Arc::clone(&is_over));
        let task = tokio::spawn(async move {
            let (mut longest, mut at) = (Duration::ZERO, 0);
            while !is_stopped.load(Ordering::Relaxed) {
                for sql in [
                    "SELECT count(*) FROM customers",
                    "SELECT count(*) FROM orders WHERE id < 9",
                    &format!(
                        "INSERT INTO orders (id, customer) VALUES ((SELECT max(id) + 1 FROM orders), {})",
                        at % 90
                    ),
                    "UPDATE customers SET id = id WHERE id = 95",
                ] {
                    let began = Instant::now();
                    run(&mut connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                    longest = longest.max(began.elapsed());
                }
                at += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            longest
        });
        Self { is_over, task }
    }

    async fn longest(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.expect("no statement fails")
    }
}

/// CUT-05: whatever a step needs, it does not make others wait for somebody who reads the table for long, nor for one who
/// reads the table that it refers to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_who_reads_for_long_delays_every_step_and_nobody_else() {
    let table = Table::with_rows(500).await;
    let url = table.url();
    table
        .execute("ALTER TABLE orders ADD CONSTRAINT by FOREIGN KEY (customer) REFERENCES customers (id)")
        .await;
    for args in [
        &["apply", "-e", "ALTER TABLE orders ADD COLUMN extra int"][..],
        &["apply", "-e", "ALTER TABLE orders ADD CONSTRAINT small CHECK (customer < 1000)"],
        &[
            "apply",
            "-e",
            "ALTER TABLE orders ADD CONSTRAINT again FOREIGN KEY (customer) REFERENCES customers (id)",
        ],
        &["apply", "-e", "ALTER TABLE orders DROP CONSTRAINT again"],
        &["apply", "-e", "CREATE INDEX orders_customer ON orders (customer)"],
        &["apply", "-e", RETYPE],
        &["revert", "last"],
        &["rebuild", "orders"],
        &["finalize", "last"],
    ] {
        let mut holder = table.connect().await;
        run(&mut holder, "BEGIN; SELECT count(*) FROM orders, customers").await.expect("held");
        let probe = Probe::start(&table).await;
        let args: Vec<String> =
            args.iter().copied().chain(["-t", &url, "--yes"]).map(ToOwned::to_owned).collect();
        let step = tokio::spawn(async move {
            run_beside(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await
        });
        tokio::time::sleep(HELD).await;
        let waits = !step.is_finished();
        run(&mut holder, "COMMIT").await.expect("let go");
        let ended = step.await.expect("it ends").exits(0);
        let longest = probe.longest().await;
        println!(
            "{}: waited {waits}, probes at most {} ms",
            ended.out.lines().next().unwrap_or_default(),
            longest.as_millis()
        );
        assert!(longest < LONGEST, "others waited for {} ms: {}", longest.as_millis(), ended.out);
    }
}

/// CUT-07: nobody sees it among the sessions, and nobody can end it but by its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_prepared_transaction_that_holds_the_table_is_named() {
    let table = Table::with_rows(500).await;
    let url = table.url();
    for boundary in ["run_saved", "verify_chunk_done"] {
        let stopped = Stopped::at(boundary, &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
        let name = format!("{boundary} {}", std::process::id());
        table
            .execute(&format!("BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION '{name}'"))
            .await;
        let probe = Probe::start(&table).await;
        stopped.wake();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(table.text(KIND).await, "integer", "{boundary}: it does not wait");
        table.execute(&format!("COMMIT PREPARED '{name}'")).await;
        stopped.end().await.exits(0).says(&format!("prepared {name}"));
        let longest = probe.longest().await;
        println!("{boundary}: probes at most {} ms", longest.as_millis());
        assert!(longest < LONGEST, "others waited for {} ms", longest.as_millis());
        assert_eq!(table.text(KIND).await, "bigint");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    }
}

/// CUT-07: a vacuum of the server's own that does not give way to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_vacuum_against_wraparound_that_holds_the_table_is_named() {
    let server =
        postgres_own_server(&["-c", "autovacuum_freeze_max_age=100000", "-c", "autovacuum_naptime=1s"]).await;
    let table = Table::within(server.database().await, 8_000).await;
    let url = table.url();
    // Slow enough to be met; and with work to do, whatever an ordinary vacuum has frozen before.
    table
        .execute(
            "ALTER TABLE orders SET (autovacuum_enabled = off,
                                     autovacuum_vacuum_cost_delay = 20, autovacuum_vacuum_cost_limit = 1);
             UPDATE orders SET customer = customer",
        )
        .await;
    let stopped = Stopped::at("verify_chunk_done", &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
    // Whatever may be rolled back by itself, and writes, has a number of a transaction of its own.
    table
        .execute(
            "CREATE TEMPORARY TABLE many (); DO 'BEGIN FOR n IN 1..110000 LOOP BEGIN INSERT INTO many DEFAULT VALUES;
             EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END'",
        )
        .await;
    let vacuum =
        "SELECT coalesce(min(pid), 0)::text FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'
         AND datname = current_database() AND query LIKE '%public.orders (to prevent wraparound)'";
    let until = Instant::now() + Duration::from_secs(30);
    while table.text(vacuum).await == "0" {
        assert!(Instant::now() < until, "no vacuum comes");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pid = table.text(vacuum).await;
    let probe = Probe::start(&table).await;
    stopped.wake();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(table.text(KIND).await, "integer", "the swap waits for the vacuum");
    let longest = probe.longest().await;
    assert_eq!(table.text(vacuum).await, pid, "the vacuum was ended");
    stopped.end().await.exits(0).says("to prevent wraparound").says(&pid);
    assert!(longest < LONGEST, "others waited for {} ms", longest.as_millis());
    assert_eq!(table.text(KIND).await, "bigint");
}
