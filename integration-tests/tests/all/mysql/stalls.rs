//! What stands still, or would if nobody looked: a lock that cannot be had, a backlog that grows, a replica that says
//! nothing, an idle session, an error that cannot be written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use serde_json::Value as Json;
use tokio::task::JoinHandle;

use super::cuts::holds;
use super::oracle::RETYPE;
use super::table::connect;
use super::{Application, Table};
use crate::binary::{Ended, run_beside};
use crate::oracle::judge;
use crate::proxy::{Fault, Proxy, Trigger};
use crate::random::{Random, seed};
use crate::server::{is_mariadb, mysql_own_server, mysql_replica_of};
use crate::stopped::Stopped;

fn beside(args: &[&str]) -> JoinHandle<Ended> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::spawn(async move {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_beside(&args, &[]).await
    })
}

/// Waits until a query gives just this.
async fn until(table: &Table, query: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = table.text(query).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{query}: {found}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many entries of a kind the record has, by what is in them.
fn noted(table: &Table, kind: &str, text: &str) -> String {
    format!(
        "SELECT COUNT(*) FROM `_replank_{}`.events WHERE kind = '{kind}' AND body LIKE '%{text}%'",
        table.name()
    )
}

async fn shadow_of(table: &Table) -> String {
    let all = table.tables().await;
    all.into_iter().find(|name| name.ends_with("_shadow")).expect("a shadow")
}

/// CUT-03, and the alarm of STALL-06.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_backlog_that_cannot_be_drained_keeps_the_lock_away_and_is_told() {
    let test = "on_mysql_a_backlog_that_cannot_be_drained_keeps_the_lock_away_and_is_told";
    let table = Table::with_rows(3_000).await;
    let (url, before) = (table.url(), table.definition().await);
    let writers = Application::start(&table, seed(test), 4).await;
    let apply =
        beside(&["apply", "-t", &url, "-e", RETYPE, "--yes", "--cutover", "2099-01-01T00:00:00+00:00"]);
    let made = format!(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '_replank_{}' AND table_name = 'objects'",
        table.name()
    );
    until(&table, &made, "1").await;
    until(&table, &format!("SELECT LEAST(1, ({}))", noted(&table, "phase", "waiting_cutover")), "1").await;

    // Nothing can be applied from here on, and the backlog grows beyond what the budget can drain.
    let mut holder = table.connect().await;
    let shadow = shadow_of(&table).await;
    // Whoever locks so much may lose a deadlock to a batch.
    for tries in 0.. {
        assert!(tries < 20, "the rows cannot be held");
        holder.query_drop("START TRANSACTION").await.expect("begun");
        if holder.query_drop(format!("SELECT COUNT(*) FROM `{shadow}` FOR UPDATE")).await.is_ok() {
            break;
        }
    }
    writers.write_on(1_000).await;
    run_beside(&["cutover", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    until(&table, &noted(&table, "stalled", "backlog"), "1").await;
    // Longer than a batch waits for its rows: between two tries nothing is under way that would keep the lock away.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!apply.is_finished(), "it swaps although nothing can be applied");
    assert_eq!(table.text(&noted(&table, "phase", "cutting_over")).await, "0", "the lock was asked for");
    assert_eq!(table.text(&noted(&table, "attempt", "")).await, "0");
    holder.query_drop("ROLLBACK").await.expect("released");

    apply.await.expect("it ends").exits(0).says("nothing has been applied for");
    let attempts: u32 = table.text(&noted(&table, "phase", "cutting_over")).await.parse().expect("a number");
    println!("{attempts} times the lock was asked for");
    assert!((1..=10).contains(&attempts), "{attempts} times");
    let journal = writers.stop().await;
    judge(test, &journal);
    let longest = journal.summary().longest;
    assert!(longest < Duration::from_secs(2), "a writer waited for {longest:?}");
    table.check_there_and_back(&journal, &before, RETYPE).await;
}

/// CUT-15, and that the pauses of CUT-03 grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_attempts_that_time_out_are_forgotten_and_no_event_after_the_swap_is_misread() {
    let test = "on_mysql_attempts_that_time_out_are_forgotten_and_no_event_after_the_swap_is_misread";
    let table = Table::with_rows(2_000).await;
    table.execute("ALTER TABLE orders ADD COLUMN memo VARCHAR(40) AFTER customer_id").await;
    table.execute("UPDATE orders SET memo = CONCAT('memo ', id)").await;
    let (url, before) = (table.url(), table.definition().await);
    let writers = Application::start(&table, seed(test), 3).await;
    let statement = "ALTER TABLE orders DROP COLUMN memo";
    let apply = ["apply", "-t", &url, "-e", statement, "-D", "strategy=shadow", "--yes"];
    // Whoever begins after the look at the holders makes the lock itself time out.
    let stopped = Stopped::at("swap_intended", &apply).await;
    let mut holder = table.connect().await;
    holder.query_drop("START TRANSACTION").await.expect("begun");
    holder.query_drop("SELECT COUNT(*) FROM orders").await.expect("held");
    stopped.wake();
    let attempts = noted(&table, "attempt", "");
    until(&table, &format!("SELECT LEAST(6, ({attempts}))"), "6").await;
    assert_ne!(table.text(&noted(&table, "attempt", "not granted within")).await, "0");
    holder.query_drop("COMMIT").await.expect("released");
    let ended = stopped.end().await.exits(0);
    assert!(!ended.err.contains("lost"), "{}", ended.err);
    let mut records = table.connect().await;
    let attempts: Vec<(i64, i64)> = records
        .query(format!(
            "SELECT at_ms, JSON_EXTRACT(body, '$.pause_ms') FROM `_replank_{}`.events WHERE kind = 'attempt' ORDER BY seq",
            table.name()
        ))
        .await
        .expect("the record");
    println!("attempts, and the pauses after them, in ms: {attempts:?}");
    // By half each time, give or take a quarter: from about 380 to 1,900. What an attempt takes comes on top.
    assert!(attempts[4].1 > 2 * attempts[0].1, "they do not grow: {attempts:?}");
    let are_kept = attempts.windows(2).all(|pair| pair[1].0 - pair[0].0 >= pair[0].1);
    assert!(are_kept, "they are not kept: {attempts:?}");

    // All of these events have the new layout.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for command in ["verify", "revert"] {
        let ended = run_beside(&[command, "last", "-t", &url, "--yes"], &[]).await.exits(0);
        // That somebody holds the table may be said again.
        assert!(!ended.err.contains("differ without") && !ended.err.contains("error"), "{}", ended.err);
    }
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    assert_eq!(table.definition().await, before);
    // Rows that nobody touched have their own memo, and no row has another's.
    let wrong = "SELECT COUNT(*) FROM orders AS o WHERE COALESCE(memo, '') <> CONCAT('memo ', id)
         AND (memo IS NOT NULL OR NOT EXISTS (SELECT 1 FROM audit WHERE audit.id = o.id AND tx <> 'start'))
         AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.id = o.id AND tx <> 'start')";
    assert_eq!(table.text(wrong).await, "0");
    table.assert_no_helpers().await;
}

/// STALL-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_replica_that_falls_silent_in_the_middle_holds_the_copy_back() {
    let primary = mysql_own_server(&[]).await;
    let replica = mysql_replica_of(&primary).await;
    let table = Table::within(primary.database().await, 20_000).await;
    let before = table.definition().await;
    let proxy = Proxy::of_port(replica.port()).await;
    let url = format!("{}?ssl-mode=DISABLED", table.url());
    let replicas = format!("lag_replicas={}", proxy.address());
    let apply = beside(&[
        "apply",
        "-t",
        &url,
        "-e",
        RETYPE,
        "--yes",
        "--throttle",
        &replicas,
        "lag_max_ms=5000",
        "chunk_rows_max=2",
    ]);
    until(&table, "SELECT LEAST(1, COUNT(*)) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%\\_shadow'", "1").await;
    let copied = format!("SELECT COUNT(*) FROM `{}`", shadow_of(&table).await);
    until(&table, &format!("SELECT ({copied}) > 200"), "1").await;
    proxy.set_open(false);
    // Looked at every second, and an answer is waited for no longer than three.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let there = table.text(&copied).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(table.text(&copied).await, there, "the copy goes on, and nobody knows how far the replica is");
    assert_ne!(there, "20000", "the copy was faster than the test");
    println!("{there} rows were copied before");
    proxy.set_open(true);
    until(&table, &format!("SELECT ({copied}) > {there}"), "1").await;
    run_beside(&["throttle", "last", "-t", &url, "chunk_rows_max=1000"], &[]).await.exits(0);
    apply.await.expect("it ends").exits(0).says("replica_lag_ms cannot be read");
    table.check_against_blocking(&before, RETYPE).await;
}

/// Every client's own count of what was acknowledged.
async fn count_up(table: &Table, number: u64, stop: Arc<AtomicBool>) -> BTreeMap<u64, u64> {
    let (mut connection, mut random) = (table.connect().await, Random::new(seed("updates"), number));
    let mut counted = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) {
        let id = 1 + random.below(20_000);
        let sql = format!("UPDATE texts SET v = v + 1 WHERE id = CONCAT('k\u{e9}y ', {id})");
        match connection.query_drop(&sql).await {
            Ok(()) => *counted.entry(id).or_insert(0) += 1,
            Err(mysql_async::Error::Server(error)) if matches!(error.code, 1205 | 1213) => {}
            Err(error) => panic!("{sql}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    counted
}

const REMOVED: Trigger =
    |message| holds(message, "DELETE FROM") && holds(message, "_rp_") && holds(message, " IN (");
const BROUGHT: Trigger =
    |message| holds(message, "INSERT INTO") && holds(message, "_rp_") && holds(message, " IN (");

/// Fails unless a statement finds its rows by the primary key.
async fn uses_the_key(table: &Table, proxy: &Proxy, running: JoinHandle<Ended>) {
    while !proxy.has_struck() {
        if running.is_finished() {
            panic!("nothing was replayed: {:?}", running.await);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let statement = proxy.struck();
    // MySQL's default is another form, which MariaDB has not.
    let form = if is_mariadb() { "" } else { "FORMAT=TRADITIONAL" };
    let plan: Vec<mysql_async::Row> =
        table.connect().await.query(format!("EXPLAIN {form} {statement}")).await.expect("explained");
    let word =
        |row: &mysql_async::Row, name: &str| row.get::<Option<String>, _>(name).flatten().unwrap_or_default();
    let steps: Vec<(String, String)> = plan
        .iter()
        // What is written has no condition; of the parked rows, which are few, all may be read.
        .filter(|row| word(row, "select_type") != "INSERT" && word(row, "table") != "p")
        .map(|row| (word(row, "type"), word(row, "key")))
        .collect();
    println!("{steps:?}: {}", statement.chars().take(120).collect::<String>());
    assert!(!steps.is_empty());
    for (kind, key) in steps {
        assert!(
            ["const", "eq_ref", "ref", "range"].contains(&kind.as_str()) && key == "PRIMARY",
            "{kind} {key}"
        );
    }
    running.await.expect("it ends").exits(0);
}

/// STALL-06: a text key is found by its index whatever the session's character set; a key that gets another one is
/// refused, since equal values may not stay equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_replayed_change_finds_its_row_by_a_key_of_another_character_set() {
    let table = Table::with_rows(20_000).await;
    let url = table.url();
    table
        .execute(
            "CREATE TABLE texts (id VARCHAR(128) PRIMARY KEY, v INT, words VARCHAR(64)) CHARACTER SET latin1",
        )
        .await;
    table.execute("INSERT INTO texts SELECT CONCAT('k\u{e9}y ', id), 0, 'caf\u{e9}' FROM turns").await;
    // The server chooses by what it knows of the table.
    table.text("ANALYZE TABLE texts").await;
    let convert = ["apply", "-t", &url, "-e", "ALTER TABLE texts CONVERT TO CHARACTER SET utf8mb4", "--yes"];
    run_beside(&convert, &[])
        .await
        .exits(3)
        .says("latin1_swedish_ci to")
        .says("equal values may not stay equal");
    assert!(!table.tables().await.iter().any(|name| name.contains("_rp_")), "something was begun");
    let stop = Arc::new(AtomicBool::new(false));
    let table = Arc::new(table);
    let writers: Vec<_> = (0..2)
        .map(|number| {
            let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
            tokio::spawn(async move { count_up(&table, number, stop).await })
        })
        .collect();
    let statement = "ALTER TABLE texts MODIFY words VARCHAR(80) CHARACTER SET utf8mb4";
    let proxy = Proxy::before(&url, REMOVED, Fault::Late).await;
    let through = proxy.url(&url);
    let apply = beside(&[
        "apply",
        "-t",
        &through,
        "-e",
        statement,
        "-D",
        "strategy=shadow",
        "--yes",
        "--throttle",
        "chunk_rows_max=500",
    ]);
    uses_the_key(&table, &proxy, apply).await;
    table.text("ANALYZE TABLE texts").await;
    let proxy = Proxy::before(&url, BROUGHT, Fault::Late).await;
    let through = proxy.url(&url);
    let revert = beside(&["revert", "last", "-t", &through, "--yes"]);
    uses_the_key(&table, &proxy, revert).await;
    stop.store(true, Ordering::SeqCst);
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for writer in writers {
        for (id, count) in writer.await.expect("it writes") {
            *expected.entry(id).or_insert(0) += count;
        }
    }
    let rows: Vec<(u64, u64)> = table
        .connect()
        .await
        .query("SELECT CAST(SUBSTRING(id, 5) AS UNSIGNED), v FROM texts")
        .await
        .expect("the table");
    assert_eq!(rows.len(), 20_000);
    for (id, v) in rows {
        assert_eq!(v, expected.get(&id).copied().unwrap_or_default(), "row {id}");
    }
    println!("{} updates", expected.values().sum::<u64>());
}

/// STALL-09: nothing is compared for longer than the server waits, and whatever was idle is ended besides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_comparison_that_pauses_for_longer_than_the_servers_patience_goes_on() {
    let test = "on_mysql_a_comparison_that_pauses_for_longer_than_the_servers_patience_goes_on";
    let server = mysql_own_server(&["--wait-timeout=10", "--interactive-timeout=10"]).await;
    let table = Table::within(server.database().await, 3_000).await;
    let before = table.definition().await;
    table.execute("CREATE USER runner IDENTIFIED BY 'replank'").await;
    table.execute("GRANT ALL ON *.* TO runner").await;
    let url = table.url().replacen("root:", "runner:", 1);
    let writers = Application::start(&table, seed(test), 2).await;
    let mut apply = vec!["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=100"];
    apply.push("copy_workers=8");
    let stopped = Stopped::at("verify_chunk_done:5", &apply).await;
    let pause = beside(&["pause", "last", "-t", &url]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stopped.wake();
    pause.await.expect("it ends").exits(0);
    // Where nobody writes there is nothing to apply, and what has said nothing for so long is in the middle of nothing.
    let mut root = table.connect().await;
    root.query_drop("LOCK TABLES orders READ").await.expect("locked");
    // How many there are depends on how many chunks were compared at once. The writers themselves wait for five seconds.
    tokio::time::sleep(Duration::from_millis(3_800)).await;
    let idle = "SELECT id FROM information_schema.processlist WHERE user = 'runner' AND command = 'Sleep' AND time >= 3";
    let sessions: Vec<u64> = root.query(idle).await.expect("listed");
    assert!(!sessions.is_empty(), "none was idle");
    for session in sessions {
        root.query_drop(format!("KILL {session}")).await.expect("it is there");
    }
    root.query_drop("UNLOCK TABLES").await.expect("unlocked");
    tokio::time::sleep(Duration::from_secs(8)).await;
    let compared = format!(
        "SELECT JSON_VALUE(body, '$.checkpoint.verified.rows') FROM `_replank_{}`.runs",
        table.name()
    );
    let rows = async || table.text(&compared).await.parse::<u64>().expect("a number");
    let before_pause = rows().await;
    // Chunks were compared: it was stopped at the fifth. What is saved may still wait for a row of the first that is written.
    assert!(before_pause < 3_000, "{before_pause} rows were compared before the pause");
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let ended = tokio::spawn(stopped.end());
    let mut last = before_pause;
    // After the swap another comparison may begin.
    while table.text(&noted(&table, "phase", "waiting_cutover")).await == "0" {
        let now = rows().await;
        assert!(now >= last, "{now} rows are compared after {last}");
        last = now;
        assert!(!ended.is_finished(), "it ended in the comparison");
    }
    let ended = ended.await.expect("it ends").exits(0);
    assert!(!ended.err.contains("lost"), "{}", ended.err);
    assert_eq!(table.text(&noted(&table, "phase", "comparing every row")).await, "1", "it was begun again");
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check_there_and_back(&journal, &before, RETYPE).await;
}

/// STALL-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_an_error_with_bytes_that_are_no_text_is_recorded_and_ends_the_run() {
    let table = Table::with_rows(500).await;
    let (url, before) = (table.url(), table.definition().await);
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=50"];
    let stopped = Stopped::at("chunk_committed:2", &apply).await;
    // What the log cannot show row by row is an error, which quotes the statement.
    let mut writer = connect(&table.url()).await;
    writer.query_drop("SET SESSION binlog_format = 'STATEMENT'").await.expect("set");
    let mut statement = b"UPDATE orders SET version = version + 1 WHERE id = 7 AND _binary'".to_vec();
    statement.extend((0..=255_u8).filter(|byte| ![b'\'', b'\\'].contains(byte)));
    statement.extend(vec![b'x'; 1 << 20]);
    statement.extend(b"' <> ''");
    writer.query_drop(statement).await.expect("written");
    let ended = stopped.go_on().await.exits(1);
    assert!(ended.err.len() < 20_000, "{} bytes are shown", ended.err.len());
    let record = format!("`_replank_{}`", table.name());
    assert_eq!(table.text(&format!("SELECT state FROM {record}.runs")).await, "failed");
    let body = table.text(&format!("SELECT body FROM {record}.runs")).await;
    let run: Json = serde_json::from_str(&body).expect("the record is JSON");
    let note = run["note"].as_str().expect("why it failed");
    println!("{note}");
    assert!(note.contains("id = 7") && note.contains("\\u{0}"), "{note}");
    assert!(!note.chars().any(char::is_control), "{note:?}");
    assert!(note.chars().count() <= 4_200, "{} characters", note.chars().count());
    assert_eq!(table.text(&noted(&table, "ended", "id = 7")).await, "1");
    let status =
        run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says("failed").says("id = 7");
    assert!(!status.out.chars().any(|c| c.is_control() && c != '\n'), "{:?}", status.out);
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    assert_eq!(table.text("SELECT version FROM orders WHERE id = 7").await, "1");
    table.assert_no_helpers().await;
}
