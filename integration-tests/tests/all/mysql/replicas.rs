//! A primary and a replica: what arrives there, and how far it may fall behind.

use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::following::{Following, following, join};
use super::oracle::RETYPE;
use super::table::connect;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{OwnServer, is_mariadb, mysql_own_server, mysql_replica_of};
use crate::stopped::Stopped;

/// Waits until the replica has everything, and compares every table with the primary's.
async fn equal(table: &Table, replica: &OwnServer, expected: &Following) {
    let mut there = connect(&replica.url_of(table.name())).await;
    let mut here = table.connect().await;
    catch_up(&mut here, &mut there).await;
    let tables: Vec<String> = here.query("SHOW TABLES").await.expect("tables");
    assert_eq!(there.query::<String, _>("SHOW TABLES").await.expect("tables"), tables);
    for name in tables {
        // Not CHECKSUM TABLE: on MariaDB it also depends on how rows are stored.
        let sql = format!("SELECT * FROM `{name}` ORDER BY 1");
        let shown = |rows: Vec<mysql_async::Row>| {
            rows.into_iter().map(|row| format!("{:?}", row.unwrap())).collect::<Vec<_>>()
        };
        let primary = shown(here.query(&sql).await.expect("rows"));
        let rows = shown(there.query(&sql).await.expect("rows"));
        assert_eq!(rows.len(), primary.len(), "{name}");
        if let Some((at, row)) = primary.iter().enumerate().find(|(at, row)| rows[*at] != **row) {
            panic!("{name}: {row} here, {} there", rows[at]);
        }
    }
    let replicated = Table::seen(replica.url_of(table.name()), table.name()).await;
    assert_eq!(&following(&replicated).await, expected);
}

/// Waits until the replica has everything.
pub async fn catch_up(here: &mut Conn, there: &mut Conn) {
    let (position, wait) = if is_mariadb() {
        ("SELECT @@gtid_binlog_pos", "MASTER_GTID_WAIT")
    } else {
        ("SELECT @@gtid_executed", "WAIT_FOR_EXECUTED_GTID_SET")
    };
    let position: Option<String> = here.query_first(position).await.expect("a position");
    let wait = format!("SELECT {wait}('{}', 60)", position.expect("a position").replace('\n', ""));
    let answer: Option<Option<i64>> = there.query_first(&wait).await.expect(&wait);
    assert_eq!(answer, Some(Some(0)), "the replica did not catch up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_replica_ends_with_the_same_and_holds_the_copy_back_while_it_lags() {
    let test = "on_mysql_a_replica_ends_with_the_same_and_holds_the_copy_back_while_it_lags";
    let primary = mysql_own_server(&[]).await;
    let replica = mysql_replica_of(&primary).await;
    let (table, before) = join(Table::within(primary.database().await, 2_000).await).await;
    // What cascades from replaced rows does not arrive as it was on MySQL 9.7, with or without a run: no rows for that.
    table.execute("DELETE FROM `lines`").await;
    table.execute("DELETE FROM notes").await;
    equal(&table, &replica, &before).await;
    let mut there = connect(&replica.url_of("")).await;
    let (stop, start) = if is_mariadb() {
        ("STOP SLAVE SQL_THREAD", "START SLAVE SQL_THREAD")
    } else {
        ("STOP REPLICA SQL_THREAD", "START REPLICA SQL_THREAD")
    };
    there.query_drop(stop).await.expect(stop);
    let writers = Application::start(&table, seed(test), 3).await;
    let url = table.url();
    let replicas = format!("lag_replicas={}", replica.address());
    let apply = tokio::spawn({
        let url = url.clone();
        async move {
            run_beside(
                &["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", &replicas, "lag_max_ms=5000"],
                &[],
            )
            .await
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!apply.is_finished(), "it does not wait for the replica");
    there.query_drop(start).await.expect(start);
    apply.await.expect("it ends").exits(0).says("replica_lag_ms cannot be read");
    writers.write_on(30).await;
    let changed = following(&table).await;
    assert_eq!(changed, before.changed());
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    equal(&table, &replica, &before).await;
    // A replica that the server knows of is found by itself.
    let apply = tokio::spawn({
        let url = url.clone();
        async move {
            run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "copy_workers=0"], &[])
                .await
        }
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    there.query_drop(stop).await.expect(stop);
    tokio::time::sleep(Duration::from_secs(3)).await;
    run_beside(&["throttle", "last", "-t", &url, "copy_workers=2"], &[]).await.exits(0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!apply.is_finished(), "it does not wait for the replica that it has found");
    there.query_drop(start).await.expect(start);
    apply.await.expect("it ends").exits(0).says("replica_lag_ms cannot be read");
    equal(&table, &replica, &before.changed()).await;
}

/// The server's own disk and network are spared. What somebody wrote on the replica alone is nothing of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_changes_are_read_from_the_log_of_a_replica() {
    let test = "on_mysql_changes_are_read_from_the_log_of_a_replica";
    let primary = mysql_own_server(&[]).await;
    let replica = mysql_replica_of(&primary).await;
    let table = Table::within(primary.database().await, 3_000).await;
    let (before, own) = (table.definition().await, table.url());
    let url = format!("{own}?log-of={}", replica.address());
    let mut there = connect(&replica.url_of("")).await;
    let word = if is_mariadb() { "SLAVE" } else { "REPLICA" };
    if is_mariadb() {
        there.query_drop("SET SESSION gtid_domain_id = 99").await.expect("a domain of its own");
    }
    there.query_drop("CREATE DATABASE elsewhere").await.expect("written there alone");
    let plan = async |url: &str, says: &str| {
        run_beside(&["plan", "-t", url, "-e", RETYPE], &[]).await.exits(3).says("M250").says(says);
    };
    plan(&format!("{own}?log-of={}", primary.address()), "follows nobody").await;
    let filter = match is_mariadb() {
        true => {
            ["SET GLOBAL replicate_wild_ignore_table = 'x.%'", "SET GLOBAL replicate_wild_ignore_table = ''"]
        }
        false => [
            "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('x.%')",
            "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ()",
        ],
    };
    for statement in [format!("STOP {word}"), filter[0].to_owned()] {
        there.query_drop(&statement).await.expect(&statement);
    }
    plan(&url, "Replicate_Wild_Ignore_Table").await;
    plan(&url, "START REPLICA there").await;
    for statement in [filter[1].to_owned(), format!("START {word}")] {
        there.query_drop(&statement).await.expect(&statement);
    }
    let mut here = table.connect().await;
    catch_up(&mut here, &mut there).await;

    let readers = "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    let writers = Application::start(&table, seed(test), 3).await;
    let stopped = Stopped::at("chunk_committed:2", &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
    // A replica that has not come to where the feed begins is waited for before its log is read.
    catch_up(&mut here, &mut there).await;
    there.query_drop(format!("STOP {word} SQL_THREAD")).await.expect("it stands still");
    stopped.wake();
    let until = Instant::now() + Duration::from_secs(10);
    while there.query_first::<u64, _>(readers).await.expect("a list") != Some(1) {
        if Instant::now() > until {
            let list = "SELECT id, command, time, state FROM information_schema.processlist";
            let sessions: Vec<mysql_async::Row> = there.query(list).await.expect("a list");
            stopped.signal("KILL");
            let ended = stopped.end().await;
            panic!("the replica's log is not read:\n{sessions:?}\n{}\n{}", ended.out, ended.err);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(table.text(readers).await, "1", "by the replica alone is the server's own read");
    tokio::time::sleep(Duration::from_secs(4)).await;
    there.query_drop("CREATE DATABASE more").await.expect("written there alone");
    there.query_drop(format!("START {word} SQL_THREAD")).await.expect("it goes on");
    stopped.end().await.exits(0);
    writers.write_on(50).await;
    assert_ne!(table.definition().await, before);
    // Numbers of transactions are the same in both logs.
    let killed = [("REPLANK_KILL_AT", "swap_intended")];
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &killed).await.was_killed();
    writers.write_on(30).await;
    run_beside(&["resume", "last", "-t", &own, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    assert_eq!(table.definition().await, before);
    table.assert_no_helpers().await;
}
