//! Capture by a logical slot: the whole way under load, kills, what a slot tells too early, and slots that lose history.

use std::time::Duration;

use replank_core::engine::boundary::Boundary;
use sqlx::postgres::PgConnection;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::application::{Application, Orders, assert_same};
use super::oracle::RETYPE;
use super::table::{connect, run};
use crate::binary::{Ended, run_beside};
use crate::kills::{BETWEEN, FORWARD, go_on};
use crate::oracle::judge;
use crate::random::{Random, seed};
use crate::server::{Database, OwnServer, postgres_own_server};
use crate::stopped::Stopped;

const SLOTS: &[&str] = &["-c", "max_slot_wal_keep_size=4GB", "-c", "max_replication_slots=20"];

// A slot waits for every transaction of its server, and not for those of tests that leave some open.
static SERVER: OnceCell<OwnServer> = OnceCell::const_new();

async fn database() -> Database {
    SERVER.get_or_init(|| postgres_own_server(SLOTS)).await.database().await
}

async fn orders(rows: u64) -> Orders {
    Orders::within(database().await, rows).await
}

fn with_slot(url: &str) -> [&str; 8] {
    ["apply", "-t", url, "-e", RETYPE, "-D", "capture=slot", "--yes"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_a_slot_a_retype_and_its_revert_under_load_lose_nothing() {
    let test = "on_postgres_with_a_slot_a_retype_and_its_revert_under_load_lose_nothing";
    // A look reads what is written to the whole server: those who write much have one of their own.
    let server = postgres_own_server(SLOTS).await;
    let orders = Orders::within(server.database().await, 10_000).await;
    orders.execute("CREATE MATERIALIZED VIEW moment AS SELECT count(*) AS n, now() AS at FROM orders").await;
    let at = orders.text("SELECT at::text FROM moment").await;
    let before = orders.definition().await;
    let writers = Application::start(&orders, seed(test), 4).await;
    let url = orders.url();
    run_beside(&with_slot(&url), &[]).await.exits(0);
    assert_eq!(slots(&orders).await, "0", "no unread slot stays behind");
    assert_eq!(orders.text(&format!("SELECT (at > '{at}')::text FROM moment")).await, "true", "it is filled");
    writers.write_on(100).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}

async fn slots(orders: &Orders) -> String {
    orders.text("SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database()").await
}

/// A few of them each time; with triggers all are killed each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_a_slot_killed_at_a_boundary_it_goes_on_and_loses_nothing() {
    let mut random = Random::new(seed("boundaries"), 0);
    let mut boundaries = vec![Boundary::ShadowCreated, Boundary::SwapAcknowledged];
    while boundaries.len() < 4 {
        let at = usize::try_from(random.below(FORWARD.len() as u64)).expect("small");
        if !boundaries.contains(&FORWARD[at]) {
            boundaries.push(FORWARD[at]);
        }
    }
    let server = postgres_own_server(SLOTS).await;
    for boundary in boundaries {
        println!("{}", boundary.name());
        let orders = Orders::within(server.database().await, 2_000).await;
        let url = orders.url();
        let writers = Application::start(&orders, seed(boundary.name()), 3).await;
        run_beside(&with_slot(&url), &[("REPLANK_KILL_AT", boundary.name())]).await.was_killed();
        writers.write_on(BETWEEN).await;
        let mut again = go_on(&url, RETYPE, boundary);
        if again[0] == "apply" {
            // Where nothing was saved it is another run.
            again.extend(["-D", "capture=slot"]);
        }
        run_beside(&again, &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(boundary.name(), &journal);
        orders.check(&journal).await;
        orders.check_against_blocking(RETYPE, &[]).await;
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        orders.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_slot_never_stays_behind_when_a_run_is_given_up() {
    let orders = orders(500).await;
    let before = orders.names().await;
    let url = orders.url();
    let abort = ["abort", "last", "-t", &url, "--yes"];
    for boundary in ["shadow_created", "chunk_committed"] {
        run_beside(&with_slot(&url), &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
        assert_eq!(slots(&orders).await, "1", "it was made, and the journal does not know");
        for removal in ["drop_begun", "drop_done"] {
            run_beside(&abort, &[("REPLANK_KILL_AT", removal)]).await.was_killed();
        }
        run_beside(&abort, &[]).await.exits(0);
        assert_eq!(orders.names().await, before, "nothing is left but the records");
    }
    // In the middle of its making, too: it waits for a transaction that was there before.
    let mut older = orders.connect().await;
    run(&mut older, "BEGIN; CREATE TABLE unseen (id int)").await.expect("a transaction");
    let url_too = url.clone();
    let making = tokio::spawn(async move { run_beside(&with_slot(&url_too), &[]).await });
    let mut watcher = orders.connect().await;
    let waits =
        "SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database() AND active";
    until(&mut watcher, waits, "1").await;
    let pid = super::application::text(
        &mut watcher,
        "SELECT active_pid::text FROM pg_replication_slots WHERE database = current_database()",
    )
    .await;
    run(&mut watcher, &format!("SELECT pg_cancel_backend({pid})")).await.expect("canceled");
    sleep(Duration::from_millis(300)).await;
    run(&mut older, "ROLLBACK").await.expect("rolled back");
    making.await.expect("it ends").exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.names().await, before, "nothing is left but the records");
}

/// Waits until a query gives a text.
async fn until(connection: &mut PgConnection, sql: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = super::application::text(connection, sql).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {found}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// TRUNCATE names no keys, a long key is not said again when it stays, keys move, and what is rolled back is no change: a
/// savepoint of a transaction that is too large to be decoded in memory, and a prepared transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_a_slot_every_kind_of_change_arrives_and_nothing_that_was_rolled_back() {
    const INTO_TWIN: &str = "CREATE TABLE twin AS SELECT * FROM t";
    let same = "SELECT (SELECT count(*)::text FROM ((TABLE t EXCEPT SELECT a, k, v::int FROM twin)
                UNION ALL (SELECT a, k, v::int FROM twin EXCEPT TABLE t)) AS d)";
    let emptied = ["TRUNCATE t", "INSERT INTO t SELECT n, 'again', n FROM generate_series(1, 50) AS n"];
    let kinds = [
        "INSERT INTO t SELECT n, 'new', n FROM generate_series(6001, 6500) AS n",
        "UPDATE t SET v = '7' WHERE k = 'old' AND a < 500",
        "UPDATE t SET v = '8' WHERE a = 6000",
        "UPDATE t SET a = a + 100000 WHERE a BETWEEN 500 AND 900",
        "UPDATE t SET k = 'it''s' WHERE a BETWEEN 901 AND 950",
        "DELETE FROM t WHERE a BETWEEN 1000 AND 1500",
        "BEGIN; INSERT INTO t SELECT n, 'first', 1 FROM generate_series(200001, 205000) AS n; SAVEPOINT a;
         UPDATE t SET v = '66' WHERE a < 100; DELETE FROM t WHERE a > 3000; ROLLBACK TO a;
         INSERT INTO t SELECT n, 'second', 1 FROM generate_series(205001, 210000) AS n; COMMIT",
        "BEGIN; DELETE FROM t WHERE a BETWEEN 1600 AND 1700; PREPARE TRANSACTION 'gone_{}'",
        "ROLLBACK PREPARED 'gone_{}'",
        "BEGIN; DELETE FROM t WHERE a BETWEEN 1800 AND 1900; PREPARE TRANSACTION 'kept_{}'",
        "COMMIT PREPARED 'kept_{}'",
        "BEGIN; SET LOCAL session_replication_role = replica; UPDATE t SET v = '9' WHERE a BETWEEN 2000 AND 2010; COMMIT",
    ];
    for (identity, changes) in
        [("DEFAULT", &kinds[..]), ("FULL", &kinds[..]), ("USING INDEX t_key", &emptied[..])]
    {
        let database = database().await;
        let mut application = connect(&database.url).await;
        let keyed = if identity.starts_with("USING") { "UNIQUE" } else { "PRIMARY KEY" };
        let table = format!(
            "CREATE TABLE t (a int NOT NULL, k text COLLATE \"C\" NOT NULL, v varchar(10), CONSTRAINT t_key {keyed} (k, a));
             ALTER TABLE t REPLICA IDENTITY {identity}, ALTER k SET STORAGE EXTERNAL;
             ALTER DATABASE {0} SET logical_decoding_work_mem = '64kB';
             INSERT INTO t SELECT n, 'old', n FROM generate_series(1, 5999) AS n; INSERT INTO t VALUES (6000, repeat('x', 2500), '0')",
            database.name
        );
        run(&mut application, &table).await.expect("a table");
        let change = "ALTER TABLE t ALTER v TYPE int USING v::int";
        let url = database.url.clone();
        let apply = ["apply", "-t", &url, "-e", change, "-D", "capture=slot", "--yes"];
        let stopped = Stopped::at("chunk_committed", &apply).await;
        for statement in changes {
            for part in statement.replace("{}", &database.name).split("; ") {
                run(&mut application, part).await.unwrap_or_else(|error| panic!("{part}: {error}"));
            }
        }
        run(&mut application, INTO_TWIN).await.expect("a twin");
        stopped.go_on().await.exits(0);
        let differing = super::application::text(&mut application, same).await;
        assert_eq!(differing, "0", "{identity}");
        run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    }
}

/// Their commits are in the server's log before they are on its disk, from where the slot reads: the end of the capture
/// must be behind something of our own that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_a_slot_writers_that_do_not_wait_for_the_disk_lose_nothing() {
    let server = postgres_own_server(SLOTS).await;
    for round in 0..2 {
        let orders = Orders::within(server.database().await, 200).await;
        orders.execute(&format!("ALTER DATABASE {} SET synchronous_commit = off", orders.name())).await;
        let url = orders.url();
        let test = format!("no waiting {round}");
        let writers = Application::start(&orders, seed(&test), 4).await;
        run_beside(&with_slot(&url), &[]).await.exits(0);
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(&test, &journal);
        orders.check(&journal).await;
    }
}

/// A session of an application, whose commit hangs until it is canceled or a standby is not waited for any more.
struct Hanging {
    pid: String,
    task: JoinHandle<PgConnection>,
}

impl Hanging {
    async fn write(watcher: &mut PgConnection, url: &str, sql: &str) -> Self {
        let mut session = connect(url).await;
        let pid = super::application::text(&mut session, "SELECT pg_backend_pid()::text").await;
        let sql = sql.to_owned();
        let task = tokio::spawn(async move {
            run(&mut session, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            session
        });
        let hangs = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
        until(watcher, &hangs, "SyncRep").await;
        Self { pid, task }
    }

    /// Its commit stands, and is seen from now on.
    async fn end(self, watcher: &mut PgConnection) {
        run(watcher, &format!("SELECT pg_cancel_backend({})", self.pid)).await.expect("canceled");
        self.task.await.expect("the commit is acknowledged");
    }
}

const NOBODY: &str = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
const RELOAD: &str = "SELECT pg_reload_conf()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_commit_that_the_slot_tells_before_others_see_it_is_not_lost() {
    let server = postgres_own_server(SLOTS).await;
    let orders = Orders::within(server.database().await, 2_000).await;
    let url = orders.url();
    let mut watcher = orders.connect().await;
    run(&mut watcher, "SET synchronous_commit = local").await.expect("set");
    let stopped = Stopped::at("feed_opened", &with_slot(&url)).await;
    run(&mut watcher, NOBODY).await.expect("set");
    run(&mut watcher, RELOAD).await.expect("reloaded");
    let mut hanging = Vec::new();
    for sql in [
        "INSERT INTO orders (id, customer_id, note) VALUES (900001, 5, 'hung')",
        "UPDATE orders SET note = 'hung', version = 7 WHERE id = 1500",
        "DELETE FROM orders WHERE id = 3",
    ] {
        hanging.push(Hanging::write(&mut watcher, &url, sql).await);
    }
    stopped.wake();
    // The chunks are read, and changes are applied as far as they can be.
    sleep(Duration::from_secs(4)).await;
    run(&mut watcher, "ALTER SYSTEM RESET synchronous_standby_names").await.expect("reset");
    run(&mut watcher, RELOAD).await.expect("reloaded");
    for one in hanging {
        one.task.await.expect("the commit is acknowledged");
    }
    stopped.end().await.exits(0);
    let there = "SELECT string_agg(id || ' ' || note || ' ' || version, ', ' ORDER BY id) FROM orders WHERE note = 'hung' OR id = 3";
    assert_eq!(orders.text(there).await, "1500 hung 7, 900001 hung 0");
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
}

/// A commit may be in the log before the slot's beginning, and be seen only after it: of the slot nobody learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_commit_that_is_older_than_the_slot_and_seen_later_is_not_lost() {
    let server = postgres_own_server(SLOTS).await;
    let orders = Orders::within(server.database().await, 500).await;
    let url = orders.url();
    let mut watcher = orders.connect().await;
    run(&mut watcher, "SET synchronous_commit = local").await.expect("set");
    run(&mut watcher, NOBODY).await.expect("set");
    run(&mut watcher, RELOAD).await.expect("reloaded");
    let insert = |id: u32| format!("INSERT INTO orders (id, customer_id, note) VALUES ({id}, 5, 'hung')");
    // The slot waits for those that it meets, twice; the third commits in between.
    let waits = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
    let first = Hanging::write(&mut watcher, &url, "CREATE TABLE somewhere_else (id int)").await;
    let url_too = url.clone();
    let applying = tokio::spawn(async move { run_beside(&with_slot(&url_too), &[]).await });
    until(&mut watcher, waits, "1").await;
    let second = Hanging::write(&mut watcher, &url, &insert(900_001)).await;
    first.end(&mut watcher).await;
    sleep(Duration::from_millis(300)).await;
    until(&mut watcher, waits, "1").await;
    let third = Hanging::write(&mut watcher, &url, &insert(900_002)).await;
    second.end(&mut watcher).await;
    sleep(Duration::from_secs(3)).await;
    assert!(!applying.is_finished(), "it swapped while somebody held the table");
    run(&mut watcher, "ALTER SYSTEM RESET synchronous_standby_names").await.expect("reset");
    run(&mut watcher, RELOAD).await.expect("reloaded");
    third.task.await.expect("the commit is acknowledged");
    applying.await.expect("it ends").exits(0);
    assert_eq!(orders.text("SELECT count(*)::text FROM orders WHERE note = 'hung'").await, "2");
}

async fn stops(orders: &Orders, stopped: Stopped, why: &str) -> Ended {
    stopped.signal("KILL");
    drop(stopped.end().await);
    let url = orders.url();
    let ended = run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await;
    assert_ne!(ended.code, Some(0));
    let ended = ended.says(why).says("abort");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    orders.assert_no_helpers().await;
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_slot_that_has_lost_history_stops_the_run_and_is_never_made_anew() {
    let server = postgres_own_server(&["-c", "max_slot_wal_keep_size=16MB", "-c", "max_wal_size=64MB"]).await;
    let orders = Orders::within(server.database().await, 300).await;
    let url = orders.url();
    let name = "(SELECT slot_name FROM pg_replication_slots WHERE database = current_database())";
    // Given up by the server.
    let stopped = Stopped::at("chunk_committed", &with_slot(&url)).await;
    orders.execute("CREATE TABLE much (v text)").await;
    for _ in 0..4 {
        orders.execute("INSERT INTO much SELECT repeat('x', 1000) FROM generate_series(1, 50000)").await;
        orders.execute("CHECKPOINT").await;
    }
    stops(&orders, stopped, "the slot was given up by the server").await;
    // Dropped by a person.
    let stopped = Stopped::at("chunk_committed", &with_slot(&url)).await;
    with_the_slot(&orders, &format!("SELECT pg_drop_replication_slot({name})")).await;
    stops(&orders, stopped, "the slot is gone").await;
    // And made again under the same name.
    let stopped = Stopped::at("chunk_committed", &with_slot(&url)).await;
    let own = orders.text(&format!("SELECT {name}::text")).await;
    with_the_slot(&orders, &format!("SELECT pg_drop_replication_slot('{own}')")).await;
    orders.execute("UPDATE orders SET version = version + 1 WHERE id < 10").await;
    orders.execute(&format!("SELECT pg_create_logical_replication_slot('{own}', 'pgoutput')")).await;
    stops(&orders, stopped, "the slot is another one of the same name").await;
    // Read by somebody else.
    let stopped = Stopped::at("chunk_committed", &with_slot(&url)).await;
    orders.execute("UPDATE orders SET version = version + 1 WHERE id < 10").await;
    let read = format!(
        "SELECT count(*) FROM pg_logical_slot_get_binary_changes({name}, NULL, NULL, 'proto_version', '1',
         'publication_names', {name})"
    );
    with_the_slot(&orders, &read).await;
    stops(&orders, stopped, "somebody else reads it").await;
}

/// Once the server is through with what the runner asked of the slot before it was stopped.
async fn with_the_slot(orders: &Orders, sql: &str) {
    let mut connection = orders.connect().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = run(&mut connection, sql).await {
        assert!(
            error.to_string().contains("is active for PID") && Instant::now() < deadline,
            "{sql}: {error}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_replica_identity_that_is_taken_away_stops_the_run_and_writes_go_on() {
    for (change, back) in [
        ("ALTER TABLE orders REPLICA IDENTITY NOTHING", "ALTER TABLE orders REPLICA IDENTITY DEFAULT"),
        // Where only the key's columns are told, all columns are too many. Before 15 it is not a change that matters.
        ("ALTER TABLE orders REPLICA IDENTITY FULL", "ALTER TABLE orders REPLICA IDENTITY DEFAULT"),
        ("ALTER TABLE orders DROP CONSTRAINT orders_pkey", "ALTER TABLE orders ADD PRIMARY KEY (id)"),
    ] {
        let orders = orders(300).await;
        let url = orders.url();
        let stopped = Stopped::at("chunk_committed", &with_slot(&url)).await;
        orders.execute(change).await;
        let ended = stopped.go_on().await;
        assert_ne!(ended.code, Some(0));
        ended.says("replica identity was changed");
        orders.execute("UPDATE orders SET version = version + 1; DELETE FROM orders WHERE id = 3").await;
        orders.execute(back).await;
        run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        orders.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_slot_that_cannot_be_had_is_refused_with_what_to_type() {
    let server = postgres_own_server(&["-c", "max_replication_slots=1"]).await;
    let orders = Orders::within(server.database().await, 50).await;
    let url = orders.url();
    let before = orders.names().await;
    let refused =
        run_beside(&with_slot(&url), &[]).await.exits(3).says("ALTER SYSTEM SET max_slot_wal_keep_size");
    refused.says("refused P152");
    // More than the server would keep is copied: that is told, and not more.
    let plan = ["plan", "-t", &url, "-e", RETYPE, "-D", "capture=slot"];
    for (kept, is_told) in [("0", true), ("1GB", false)] {
        orders.execute(&format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{kept}'")).await;
        orders.execute(RELOAD).await;
        let planned = run_beside(&plan, &[]).await.exits(0);
        assert_eq!(planned.out.contains("P152"), is_told, "{}", planned.out);
    }
    orders.execute("SELECT pg_create_physical_replication_slot('other')").await;
    run_beside(&with_slot(&url), &[]).await.exits(3).says("ALTER SYSTEM SET max_replication_slots");
    orders.execute("SELECT pg_drop_replication_slot('other')").await;
    orders.execute("ALTER TABLE orders REPLICA IDENTITY NOTHING").await;
    run_beside(&with_slot(&url), &[]).await.exits(3).says("REPLICA IDENTITY DEFAULT");
    orders.execute("ALTER TABLE orders REPLICA IDENTITY DEFAULT").await;
    orders.execute("ALTER TABLE orders SET UNLOGGED").await;
    run_beside(&with_slot(&url), &[]).await.exits(3).says("UNLOGGED");
    orders.execute("ALTER TABLE orders SET LOGGED").await;
    let login = format!(
        "CREATE ROLE plain LOGIN PASSWORD 'plain' IN ROLE pg_read_all_stats; GRANT CREATE ON DATABASE {} TO plain;
         GRANT ALL ON SCHEMA public TO plain; ALTER TABLE orders OWNER TO plain",
        orders.name()
    );
    orders.execute(&login).await;
    let plain = url.replacen("postgres:replank@", "plain:plain@", 1);
    run_beside(&with_slot(&plain), &[]).await.exits(3).says("REPLICATION");
    orders.execute("ALTER ROLE plain REPLICATION").await;
    assert_eq!(orders.names().await, before, "nothing was made");
    run_beside(&with_slot(&plain), &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &plain, "--yes"], &[]).await.exits(0);
    orders.assert_no_helpers().await;
    let unknown = ["plan", "-t", &url, "-e", RETYPE, "-D", "capture=binlog"];
    run_beside(&unknown, &[]).await.exits(2).says("capture=slot");
}
