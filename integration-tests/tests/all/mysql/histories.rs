//! Histories of servers: another server behind the same address, a server that takes no writes for a while, one that
//! was restored; and what a position, a record and the log say of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::oracle::RETYPE;
use super::replicas::catch_up;
use super::shapes::Twins;
use super::table::{ROW, connect};
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{Database, OwnServer, is_mariadb, mysql_own_server, mysql_replica_of};
use crate::stopped::Stopped;

const SMALL: [&str; 2] = ["--throttle", "chunk_rows_max=100"];

/// An address that leads to one server, and later to another.
struct Address {
    port: u16,
    server: Arc<AtomicU16>,
    cuts: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Address {
    async fn of(first: &OwnServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = Arc::new(AtomicU16::new(port_of(first)));
        let (cuts, cut) = watch::channel(0);
        let present = Arc::clone(&server);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (present, mut cut) = (present.load(Ordering::SeqCst), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", present)).await else { return };
                    tokio::select! {
                        // A connection that ends, ends.
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, server, cuts, task }
    }

    /// Connections that are open stay where they are.
    fn lead_to(&self, server: &OwnServer) {
        self.server.store(port_of(server), Ordering::SeqCst);
    }

    fn cut_all(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The target by way of this address.
    fn url(&self, server: &OwnServer, table: &Table) -> String {
        table.url().replacen(&server.address(), &format!("127.0.0.1:{}", self.port), 1)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn port_of(server: &OwnServer) -> u16 {
    server.address().rsplit_once(':').expect("a port").1.parse().expect("a number")
}

/// Everything that a server has ever written to its log.
async fn history(server: &OwnServer) -> String {
    let position = if is_mariadb() { "SELECT @@gtid_binlog_pos" } else { "SELECT @@gtid_executed" };
    let mut connection = connect(&server.url_of("")).await;
    let position: Option<String> = connection.query_first(position).await.expect("a position");
    position.expect("a position").replace('\n', "")
}

/// CRASH-19: the other one was restored from an older copy, and would take every write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_another_server_behind_the_address_stops_the_run_and_is_never_written() {
    let (here, other) = tokio::join!(mysql_own_server(&[]), mysql_own_server(&["--server-id=7"]));
    let address = Address::of(&here).await;
    for is_cut in [true, false] {
        let table = Table::within(here.database().await, 2_000).await;
        let statement = format!("CREATE DATABASE {}", table.name());
        connect(&other.url_of("")).await.query_drop(&statement).await.expect("made");
        let old = Database { url: other.url_of(table.name()), name: table.name().to_owned() };
        drop(Table::within(old, 1_500).await);
        let untouched = history(&other).await;
        let (url, before) = (address.url(&here, &table), table.definition().await);
        let writers = Application::start(&table, seed("another server"), 2).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", SMALL[0], SMALL[1]];
        let stopped = Stopped::at("chunk_committed:3", &apply).await;
        address.lead_to(&other);
        if is_cut {
            address.cut_all();
        }
        stopped.go_on().await.exits(6).says("the address leads to another server now").says("replank resume");
        assert_eq!(history(&other).await, untouched, "the other server was written");
        assert_eq!(table.definition().await, before, "nothing is swapped by halves");
        address.lead_to(&here);
        address.cut_all();
        writers.write_on(20).await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let journal = writers.stop().await;
        judge("another server", &journal);
        table.check_there_and_back(&journal, &before, RETYPE).await;
    }
}

/// CRASH-19: the replica that took over has the same history, and numbers its tables by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_run_goes_on_where_a_replica_took_over_and_not_before() {
    let primary = mysql_own_server(&[]).await;
    let replica = mysql_replica_of(&primary).await;
    // Its numbers of the same tables must be others, or nothing is shown.
    let mut there = connect(&replica.url_of("")).await;
    there.query_drop("SET sql_log_bin = 0; CREATE DATABASE filler").await.expect("made");
    for number in 0..4 {
        there.query_drop(format!("CREATE TABLE filler.t{number} (id INT)")).await.expect("made");
    }
    let mut runs = Vec::new();
    for boundary in ["chunk_committed:3", "swap_sent", "swap_acknowledged", ""] {
        let table = Table::within(primary.database().await, 800).await;
        let (url, before) = (table.url(), table.definition().await);
        let writers = Application::start(&table, seed(boundary), 2).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", SMALL[0], SMALL[1]];
        match boundary {
            "" => run_beside(&apply, &[]).await.exits(0),
            _ => run_beside(&apply, &[("REPLANK_KILL_AT", boundary)]).await.was_killed(),
        };
        writers.write_on(10).await;
        let journal = writers.stop().await;
        judge(boundary, &journal);
        runs.push((boundary, table.name().to_owned(), before, journal));
    }
    catch_up(&mut connect(&primary.url_of("")).await, &mut there).await;
    let history_before = history(&replica).await;
    for (_, name, _, _) in &runs {
        let resume = ["resume", "last", "-t", &replica.url_of(name), "--yes"];
        run_beside(&resume, &[]).await.exits(3).says("the server replicates from");
    }
    assert_eq!(history(&replica).await, history_before, "the replica was written");
    primary.kill().await;
    let promotion = match is_mariadb() {
        true => "STOP SLAVE; RESET SLAVE ALL",
        false => "STOP REPLICA; RESET REPLICA ALL",
    };
    there.query_drop(promotion).await.expect(promotion);
    for (boundary, name, before, journal) in runs {
        println!("killed at `{boundary}`");
        let table = Table::seen(replica.url_of(&name), &name).await;
        table.execute("UPDATE orders SET note = 'late', version = version + 1 WHERE id % 3 = 0").await;
        table
            .execute(&format!(
                "INSERT INTO audit (tx, id, `row`) SELECT 'start', id, {ROW} FROM orders WHERE id % 3 = 0"
            ))
            .await;
        let url = table.url();
        if !boundary.is_empty() {
            run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        }
        table.check_there_and_back(&journal, &before, RETYPE).await;
    }
}

/// CRASH-19: whoever takes a server out of service sets it so, and some logins may write it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_server_that_takes_no_writes_is_waited_for_and_not_written() {
    let server = mysql_own_server(&[]).await;
    let mut root = connect(&server.url_of("")).await;
    let own = if is_mariadb() { "BINLOG MONITOR" } else { "XA_RECOVER_ADMIN" };
    for statement in [
        "CREATE USER plain IDENTIFIED BY 'plain'".to_owned(),
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, LOCK TABLES, TRIGGER ON *.* TO plain".to_owned(),
        format!("GRANT REPLICATION SLAVE, PROCESS, {own} ON *.* TO plain"),
    ] {
        root.query_drop(&statement).await.expect(&statement);
    }
    let mut runs = Vec::new();
    for login in ["root:replank", "plain:plain"] {
        let table = Table::within(server.database().await, 2_000).await;
        let (url, before) = (table.url().replacen("root:replank", login, 1), table.definition().await);
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", SMALL[0], SMALL[1]];
        runs.push((Stopped::at("chunk_committed:3", &apply).await, table, before));
    }
    root.query_drop("SET GLOBAL read_only = ON").await.expect("set");
    for (stopped, _, _) in &runs {
        stopped.wake();
    }
    // It is noticed with the next checkpoint.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let quiet = history(&server).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(history(&server).await, quiet, "a server that takes no writes was written");
    for (_, table, before) in &runs {
        assert_eq!(&table.definition().await, before);
    }
    root.query_drop("SET GLOBAL read_only = OFF").await.expect("set");
    for (stopped, table, before) in runs {
        stopped.end().await.exits(0).says("waiting for it");
        table.check_against_blocking(&before, RETYPE).await;
        assert_eq!(table.text("SELECT COUNT(*) FROM orders").await, "2000");
    }
}

/// CRASH-04: the server was restored, and the records were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_history_that_went_back_is_never_gone_on_with() {
    let server = mysql_own_server(&[]).await;
    let applied = Table::within(server.database().await, 500).await;
    let copied = Table::within(server.database().await, 500).await;
    let (restored, before) = (history(&server).await, copied.definition().await);
    let (url, url_of_copied) = (applied.url(), copied.url());
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    let apply = ["apply", "-t", &url_of_copied, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "swap_intended")]).await.was_killed();
    let statements = match is_mariadb() {
        true => ["RESET MASTER".to_owned(), format!("SET GLOBAL gtid_binlog_state = '{restored}'")],
        false => ["RESET BINARY LOGS AND GTIDS".to_owned(), format!("SET GLOBAL gtid_purged = '{restored}'")],
    };
    for statement in &statements {
        copied.execute(statement).await;
    }
    let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT(id, '=', customer_id)))) FROM orders";
    let kept = [copied.text(rows).await, applied.text(rows).await];
    // There is no way back, and the new table stays.
    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&revert, &[]).await.exits(1).says("not of this server's history").says("replank finalize");
    let resume = ["resume", "last", "-t", &url_of_copied, "--yes"];
    run_beside(&resume, &[]).await.exits(1).says("not of this server's history").says("replank abort");
    assert_eq!(copied.definition().await, before, "nothing was swapped");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["abort", "last", "-t", &url_of_copied, "--yes"], &[]).await.exits(0);
    for table in [&applied, &copied] {
        table.assert_no_helpers().await;
    }
    assert_eq!([copied.text(rows).await, applied.text(rows).await], kept);
    // What is offered works.
    run_beside(&apply, &[]).await.exits(0);
    copied.check_against_blocking(&before, RETYPE).await;
}

/// RACE-11: savepoints, an XA transaction and `CREATE TABLE … SELECT` beside a transaction that takes longer than a
/// checkpoint; killed whenever a checkpoint is saved in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_position_is_never_in_the_middle_of_a_transaction() {
    const ROWS: u32 = 120_000;
    // A server of its own: a prepared transaction anywhere stops everybody's runs.
    let server = mysql_own_server(&[]).await;
    let table = Table::within(server.database().await, 1).await;
    let url = table.url();
    let twins = Twins::new(&table, "id INT PRIMARY KEY, v VARCHAR(20) NOT NULL", "id").await;
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})");
    let far = crate::server::count_far();
    twins.both(&format!("{far}; INSERT INTO T {numbers} SELECT i, i FROM n")).await;
    table.execute("CREATE TABLE beside (id INT PRIMARY KEY, v INT)").await;
    let statement = "ALTER TABLE Subject MODIFY v INT NOT NULL";
    let apply = ["apply", "-t", &url, "-e", statement, "--yes", "--throttle", "chunk_rows_max=500"];
    // Most rows are copied, and the rest of the copy is a reason to save a checkpoint in the middle of what follows.
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed:220")]).await.was_killed();
    let mut connection = table.connect().await;
    for statement in [
        "CREATE TABLE made SELECT id, v FROM Subject WHERE id < 100",
        "XA START 'x'; INSERT INTO beside VALUES (1, 1); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
        "START TRANSACTION; UPDATE Subject SET v = 1000000 + id WHERE id <= 10; SAVEPOINT a;
         UPDATE Subject SET v = -2 WHERE id BETWEEN 5 AND 15; INSERT INTO Subject VALUES (-5, '5');
         ROLLBACK TO SAVEPOINT a; UPDATE Subject SET v = 3000000 + id WHERE id BETWEEN 8 AND 20000; SAVEPOINT b;
         INSERT INTO beside VALUES (2, 2); DELETE FROM Subject WHERE id = 7; RELEASE SAVEPOINT b;
         UPDATE Subject SET v = 4000000 + id WHERE id > 20000; COMMIT",
    ] {
        connection.query_drop(statement).await.expect(statement);
    }
    let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT(id, '=', v)))) FROM Subject";
    let (wanted, big) = (table.text(rows).await, history(&server).await);
    let mut in_the_middle = 0;
    for kill in ["checkpoint_saved:1", "batch_committed:3", "checkpoint_saved:2", "batch_committed:9"] {
        let ended = run_beside(&["resume", "last", "-t", &url, "--yes"], &[("REPLANK_KILL_AT", kill)]).await;
        assert!(!ended.err.contains("differed without a change"), "{}", ended.err);
        ended.was_killed();
        let shadow =
            table.tables().await.into_iter().find(|name| name.ends_with("_shadow")).expect("a shadow");
        let old = format!(
            "SELECT COUNT(*) FROM `{shadow}` AS w LEFT JOIN Subject AS s USING (id) WHERE NOT (w.v <=> s.v)"
        );
        let old = table.text(&old).await;
        let is_past = has_passed(&table, &big).await;
        println!("{kill}: {old} rows are as they were; the position has passed: {is_past}");
        assert!(!is_past || old == "0", "{kill}: the position has passed what is not applied");
        in_the_middle += u32::from(old != "0" && kill.starts_with("checkpoint"));
        if is_past {
            break;
        }
    }
    assert!(in_the_middle > 0, "no checkpoint was saved in the middle");
    let ended = run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert!(!ended.err.contains("differed without a change"), "{}", ended.err);
    assert_eq!(table.text(rows).await, wanted);
    assert_eq!(table.text("SELECT COUNT(*) FROM beside").await, "2");
    assert_eq!(table.text("SELECT COUNT(*) FROM made").await, "99");
}

/// Whether the position that is saved has passed all of a history.
async fn has_passed(table: &Table, history: &str) -> bool {
    let body = format!(
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(body, '$.checkpoint.position')) FROM `_replank_{}`.runs",
        table.name()
    );
    let saved = table.text(&body).await;
    if is_mariadb() {
        let number = |position: &str| position.rsplit('-').next().and_then(|it| it.parse::<u64>().ok());
        return number(&saved).expect("a number") >= number(history).expect("a number");
    }
    table.text(&format!("SELECT GTID_SUBSET('{history}', '{saved}')")).await == "1"
}

/// CRASH-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_run_is_gone_on_with_only_for_its_statement_its_table_and_its_format() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    let names = ["1", "2"].map(|end| format!("{}{end}", "n".repeat(63)));
    let statements = names.clone().map(|name| format!("ALTER TABLE {name} MODIFY v BIGINT NOT NULL"));
    for (name, sign) in names.iter().zip(["", "-"]) {
        table.execute(&format!("CREATE TABLE {name} (id INT PRIMARY KEY, v INT NOT NULL)")).await;
        table.execute(&format!("INSERT INTO {name} SELECT i, {sign}i FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n) AS n")).await;
    }
    let apply = |at: usize| ["apply", "-t", &url, "-e", &statements[at], "--yes", SMALL[0], SMALL[1]];
    for at in [0, 1] {
        run_beside(&apply(at), &[("REPLANK_KILL_AT", "chunk_committed:2")]).await.was_killed();
    }
    // Another statement.
    let other = format!("ALTER TABLE {} MODIFY v DECIMAL(10, 0) NOT NULL", names[0]);
    run_beside(&["apply", "-t", &url, "-e", &other, "--yes"], &[])
        .await
        .exits(3)
        .says("C032")
        .says("replank abort");
    // A record that a newer replank wrote.
    let runs = format!("`_replank_{}`.runs", table.name());
    let kept = table.text(&format!("SELECT MAX(body) FROM {runs} WHERE number = 1")).await;
    table
        .execute(&format!(
            "UPDATE {runs} SET body = JSON_SET(body, '$.format', 2, '$.more', 'unheard of') WHERE number = 1"
        ))
        .await;
    for command in ["resume", "abort"] {
        let ended = run_beside(&[command, "last", "-t", &url, "--yes"], &[]).await;
        ended.exits(1).says("cannot be read").says("format 2").says("a newer replank");
    }
    run_beside(&apply(0), &[]).await.exits(1).says("format 2");
    let mut connection = table.connect().await;
    connection
        .exec_drop(format!("UPDATE {runs} SET body = ? WHERE number = 1"), (kept,))
        .await
        .expect("put back");
    // Both at once, each its own.
    let (first, second) = (apply(0), apply(1));
    let (first, second) = tokio::join!(run_beside(&first, &[]), run_beside(&second, &[]));
    first.exits(0);
    second.exits(0);
    for (name, sum) in names.iter().zip(["500 125250", "500 -125250"]) {
        let found =
            table.text(&format!("SELECT CONCAT(COUNT(*), ' ', SUM(v)) FROM {name} WHERE ABS(v) = id")).await;
        assert_eq!(found, sum, "{name}");
        assert!(table.definition_of(name).await.contains("`v` bigint"), "{name}");
    }
}

/// RACE-01: a transaction is in the log for three seconds before anybody can see it, behind the copy's place and in
/// front of it: while rows are copied, while copying rests and each change is applied at once, and while rows are
/// compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_what_the_log_shows_before_it_is_visible_is_not_lost() {
    let server = mysql_own_server(&[]).await;
    if !is_mariadb() {
        let table = Table::within(server.database().await, 1).await;
        table.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'").await;
    }
    for (boundary, rests) in [
        ("feed_opened", false),
        ("chunk_committed:3", false),
        ("chunk_committed:3", true),
        ("verify_chunk_done:2", false),
    ] {
        unseen_at(&Table::within(server.database().await, 1).await, boundary, rests).await;
    }
}

async fn unseen_at(table: &Table, boundary: &str, rests: bool) {
    let url = table.url();
    let twins = Twins::new(table, "k INT PRIMARY KEY, v VARCHAR(20) NOT NULL", "k").await;
    twins.both("INSERT INTO T WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i * 10, i FROM n").await;
    let meanwhile = [
        "INSERT INTO T SELECT k + 5, 7 FROM (SELECT k FROM T WHERE k % 100 = 10) AS s",
        "UPDATE T SET v = 8 WHERE k % 100 = 20",
        "DELETE FROM T WHERE k % 100 = 30",
        "UPDATE T SET k = k + 5 WHERE k % 100 = 40",
    ];
    let held = meanwhile.map(|statement| Twins::of(statement, "Subject")).join("; ");
    for statement in meanwhile {
        table.execute(&Twins::of(statement, "Twin")).await;
    }
    let statement = "ALTER TABLE Subject MODIFY v INT NOT NULL";
    let apply = ["apply", "-t", &url, "-e", statement, "-D", "strategy=shadow", "--yes"];
    // All commits are held from then on, ours too: what is applied unseen is read by a feed that is open already.
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("wait");
    let wait_file = format!("wait_file={}", file.display());
    let small = ["--throttle", "chunk_rows_max=50", "--throttle", &wait_file];
    let stopped = Stopped::at(boundary, &[&apply[..], &small].concat()).await;
    if rests {
        std::fs::write(&file, "").expect("written");
        stopped.wake();
        // No chunk is under way by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let (prefix, nobody) = match is_mariadb() {
        true => ("rpl_semi_sync_master", "wait_no_slave"),
        false => ("rpl_semi_sync_source", "wait_no_replica"),
    };
    for setting in ["wait_point = 'AFTER_SYNC'", "timeout = 3000", &format!("{nobody} = ON"), "enabled = ON"]
    {
        table.execute(&format!("SET GLOBAL {prefix}_{setting}")).await;
    }
    let mut holder = table.connect().await;
    let began = Instant::now();
    let holding = tokio::spawn(async move {
        holder.query_drop(format!("START TRANSACTION; {held}; COMMIT")).await.expect("committed in the end");
        began.elapsed()
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen = table.text("SELECT COUNT(*) FROM Subject WHERE k = 15").await;
    assert_eq!(seen, "0", "{boundary}: nobody can see it yet");
    stopped.wake();
    let took = holding.await.expect("joined");
    assert!(took > Duration::from_secs(2), "{boundary}: the commit was not held: {took:?}");
    if rests {
        std::fs::remove_file(&file).expect("removed");
    }
    let ended = stopped.end().await.exits(0);
    assert!(!ended.err.contains("differed without a change"), "{boundary}: mended afterwards: {}", ended.err);
    table.execute(&format!("SET GLOBAL {prefix}_enabled = OFF")).await;
    let rows = "SELECT GROUP_CONCAT(k, '=', v ORDER BY k) FROM Subject WHERE k < 55";
    twins.check().await;
    assert_eq!(table.text(rows).await, "10=1,15=7,20=8,45=4,50=5");
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    twins.check().await;
    assert_eq!(table.text(rows).await, "10=1,15=7,20=8,45=4,50=5");
}
