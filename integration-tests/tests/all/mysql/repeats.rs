//! What is done again: chunks whose sessions are killed or whose locks fail, values that must be converted once, and
//! runs that are ended after every chunk.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;

use super::cuts::holds;
use super::oracle::RETYPE;
use super::shapes::Twins;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::proxy::{Fault, Proxy, Trigger};
use crate::random::{Random, seed};
use crate::server::count_far;
use crate::stopped::Stopped;

const CHUNK: Trigger = |message| holds(message, "INSERT INTO") && holds(message, "_shadow` (");
const BATCH: Trigger = |message| message.get(5..) == Some(b"COMMIT");

/// What a run says when it had to mend rows that nobody changed.
const MENDED: &str = "differed without a change";

/// CRASH-06, by KILL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_sessions_that_are_killed_again_and_again_never_end_the_copy_early() {
    let test = "on_mysql_sessions_that_are_killed_again_and_again_never_end_the_copy_early";
    let table = Table::with_rows(20_000).await;
    let before = table.definition().await;
    let login = format!("k{}", table.name());
    table.execute(&format!("CREATE USER {login} IDENTIFIED BY 'replank'")).await;
    table.execute(&format!("GRANT ALL ON *.* TO {login}")).await;
    let url = table.url().replacen("root:", &format!("{login}:"), 1);
    let writers = Application::start(&table, seed(test), 2).await;
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=20"];
    let (mut connection, mut chance) = (table.connect().await, Random::new(seed(test), 0));
    let (mut killed, mut runs) = (0, 0);
    loop {
        runs += 1;
        assert!(runs < 9, "it never ends");
        let stopped = Stopped::at("chunk_committed", &apply).await;
        let run = tokio::spawn(async move { stopped.go_on().await });
        while !run.is_finished() && killed < 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let sessions = format!("SELECT id FROM information_schema.processlist WHERE user = '{login}'");
            let sessions: Vec<u64> = connection.query(&sessions).await.expect("listed");
            let drawn = usize::try_from(chance.below(sessions.len() as u64)).expect("small");
            if let Some(session) = sessions.get(drawn) {
                // It may have ended by itself.
                killed += u32::from(connection.query_drop(format!("KILL {session}")).await.is_ok());
            }
        }
        let ended = run.await.expect("joined");
        assert!(!ended.err.contains(MENDED), "{}", ended.err);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(table.definition().await, before, "swapped by halves: {}", ended.err);
        ended.exits(1).says("hint: ");
    }
    println!("{killed} sessions killed in {runs} runs");
    assert!(killed > 5, "next to nothing was killed");
    writers.write_on(20).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check_there_and_back(&journal, &before, RETYPE).await;
    table.execute(&format!("DROP USER {login}")).await;
}

/// CRASH-06, by errors 1213 and 1205 of a chunk: somebody else holds rows of the shadow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_chunk_that_loses_a_deadlock_or_waits_too_long_is_copied_again() {
    let table = Table::with_rows(3_000).await;
    let (url, before) = (table.url(), table.definition().await);
    let apply =
        ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=100", "copy_workers=1"];
    let stopped = Stopped::at("chunk_committed:2", &apply).await;
    let shadow = table.tables().await.into_iter().find(|name| name.ends_with("_shadow")).expect("a shadow");
    let row = |id: u32| format!("INSERT INTO `{shadow}` (id, customer_id) VALUES ({id}, 1)");
    let mut other = table.connect().await;
    // Heavier than a chunk: the server ends the lighter one of a deadlock.
    for statement in ["START TRANSACTION", "UPDATE audit SET tx = 'heavy'", &row(1_050), &row(2_950)] {
        other.query_drop(statement).await.expect(statement);
    }
    stopped.wake();
    await_chunk(&table, &shadow).await;
    // The chunk has this one, and waits for 1050.
    other.query_drop(row(1_010)).await.expect("the other one of a deadlock goes on");
    // It is tried again, and waits until the server tells it that it has waited for too long.
    await_chunk(&table, &shadow).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let copied =
        table.text(&format!("SELECT COUNT(*) FROM `{shadow}` WHERE id > 1000 AND customer_id <> 1")).await;
    assert_eq!(copied, "0", "what comes after a chunk that failed is not copied in its stead");
    assert_eq!(table.definition().await, before);
    other.query_drop("ROLLBACK").await.expect("let go");
    let ended = stopped.end().await.exits(0);
    assert!(!ended.err.contains(MENDED), "{}", ended.err);
    assert_eq!(table.text("SELECT COUNT(*) FROM orders WHERE customer_id = id % 1000").await, "3000");
    table.check_against_blocking(&before, RETYPE).await;
}

/// Until a statement on the shadow waits for a lock.
async fn await_chunk(table: &Table, shadow: &str) {
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE 'INSERT INTO%{shadow}%'"
    );
    let until = Instant::now() + Duration::from_secs(20);
    while table.text(&waiting).await == "0" {
        assert!(Instant::now() < until, "no chunk waits");
        // MariaDB's list stays as it is for whoever asks again within a tenth of a second.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// CRASH-14: an expression that must be applied to each row once, however often its chunk or batch is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_value_is_converted_once_however_often_its_chunk_is_repeated() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    let far = count_far();
    for statement in [
        "CREATE TABLE accounts (id INT PRIMARY KEY, balance INT NOT NULL, changes INT NOT NULL DEFAULT 0)",
        "INSERT INTO accounts (id, balance) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) SELECT i, i FROM n",
    ] {
        table.execute(&format!("{far}; {statement}")).await;
    }
    let apply = |url: &str| {
        let change = "ALTER TABLE accounts MODIFY balance BIGINT NOT NULL";
        let cents = ["forward=\"balance=balance * 100\"", "reverse=\"balance=balance / 100\""];
        [
            "apply",
            "-t",
            url,
            "-e",
            change,
            "-D",
            cents[0],
            "-D",
            cents[1],
            "--yes",
            "--throttle",
            "chunk_rows_max=20",
            "copy_workers=1",
        ]
        .map(ToOwned::to_owned)
    };
    let changed = async || {
        table
            .execute("UPDATE accounts SET balance = balance + 1, changes = changes + 1 WHERE id % 3 = 0")
            .await;
    };
    let (mut rounds, mut cuts) = (0, 0);
    // Those that need chunks come first: the rows may all be copied before the first batch is committed.
    for (trigger, kill) in [
        (CHUNK, "chunk_committed:2"),
        (BATCH, "chunk_committed:10"),
        (CHUNK, "chunk_committed:5"),
        (BATCH, "chunk_committed:10"),
        (CHUNK, "chunk_committed:9"),
        (BATCH, "batch_committed"),
        (BATCH, "batch_committed"),
        (BATCH, "batch_committed"),
    ] {
        changed().await;
        let proxy = Proxy::before(&url, trigger, Fault::CutAfter).await;
        let through = apply(&proxy.url(&url));
        let through: Vec<&str> = through.iter().map(String::as_str).collect();
        run_beside(&through, &[("REPLANK_KILL_AT", kill)]).await.was_killed();
        cuts += u32::from(proxy.has_struck());
        rounds += 1;
    }
    println!("{cuts} answers to a commit were lost in {rounds} rounds");
    assert!(cuts > 4, "hardly anything was cut");
    let last = apply(&url);
    let last: Vec<&str> = last.iter().map(String::as_str).collect();
    run_beside(&last, &[("REPLANK_KILL_AT", "verify_chunk_done")]).await.was_killed();
    let body = format!(
        "SELECT JSON_EXTRACT(body, '$.checkpoint.copied.rows') FROM `_replank_{}`.runs",
        table.name()
    );
    assert_eq!(table.text(&body).await, "9000", "rows that were copied, each counted once");
    changed().await;
    let ended = run_beside(&last, &[]).await.exits(0);
    assert!(!ended.err.contains(MENDED), "{}", ended.err);
    rounds += 1;
    let whole = |factor: u32, rounds: u32| {
        let changes = format!("changes = IF(id % 3 = 0, {rounds}, 0)");
        format!("SELECT COUNT(*) FROM accounts WHERE {changes} AND balance = (id + changes) * {factor}")
    };
    assert_eq!(table.text(&whole(100, rounds)).await, "9000");
    table
        .execute("UPDATE accounts SET balance = balance + 100, changes = changes + 1 WHERE id % 3 = 0")
        .await;
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0).says("9,000");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(&whole(1, rounds + 1)).await, "9000", "and back");
}

/// KEY-07: ended after every chunk of one row, with that row's key in the checkpoint; now and then without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_run_goes_on_from_every_key_whatever_is_in_it() {
    const TEXTS: [&str; 9] = [
        "CONCAT('a', CHAR(22), 'b')",
        "'q''q'",
        "'back\\\\slash'",
        "CONCAT('nul', CHAR(0), 'x')",
        "'\\n\\r\\t'",
        "'😀'",
        "'%_%'",
        "'\"{}\"'",
        "CONCAT(CHAR(127), CHAR(1))",
    ];
    const BYTES: [&str; 7] = ["x''", "x'00'", "x'0016'", "x'2227'", "x'5C'", "x'F09F98'", "x'FFFE00'"];
    for (kind, keys) in [("VARCHAR(40) COLLATE utf8mb4_bin", &TEXTS[..]), ("VARBINARY(40)", &BYTES[..])] {
        let table = Table::with_rows(1).await;
        let url = table.url();
        let twins = Twins::new(&table, &format!("k {kind} PRIMARY KEY, v VARCHAR(20) NOT NULL"), "k").await;
        // Each twice, next to itself: a chunk that was in flight when the run ended takes the next one along.
        for (at, key) in keys.iter().enumerate() {
            twins.both(&format!("INSERT INTO T VALUES ({key}, '{at}'), (CONCAT({key}, '!'), '{at}')")).await;
        }
        let apply = [
            "apply",
            "-t",
            &url,
            "-e",
            "ALTER TABLE Subject MODIFY v INT NOT NULL",
            "-D",
            "strategy=shadow",
            "--yes",
        ];
        let small = ["--throttle", "chunk_rows_max=1", "copy_workers=1"];
        let apply = [&apply[..], &small].concat();
        let saved = format!(
            "SELECT JSON_EXTRACT(body, '$.checkpoint.copied.rows') FROM `_replank_{}`.runs",
            table.name()
        );
        let (all, mut done) = (2 * keys.len(), 0);
        while done < all {
            let key = keys[done % keys.len()];
            if done % 3 == 2 {
                run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
                twins.both(&format!("UPDATE T SET v = v + 100 WHERE k = {key}")).await;
            }
            let stopped = Stopped::at("chunk_committed", &apply).await;
            stopped.signal("INT");
            stopped.go_on().await.exits(130);
            let now: usize = table.text(&saved).await.parse().expect("a number");
            // One, and what was on its way; hardly ever more, where the signal comes late.
            assert!(now > done, "{kind}: from {done} to {now}");
            done = now;
            twins.both(&format!("UPDATE T SET v = v + 10 WHERE k <> {key}")).await;
        }
        run_beside(&apply, &[]).await.exits(0);
        twins.both("UPDATE T SET v = v + 1").await;
        twins.check().await;
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        twins.check().await;
    }
}
