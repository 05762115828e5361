//! Trouble with the server itself: a log that was purged, a full disk, records that somebody removed.

use mysql_async::prelude::Queryable as _;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{mysql_on_a_small_disk, mysql_own_server};
use crate::stopped::Stopped;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_purged_log_stops_the_run_and_never_skips_a_change() {
    // A server of its own: a purge is felt by every run on it.
    let server = mysql_own_server(&[]).await;
    let table = Table::within(server.database().await, 3_000).await;
    let url = table.url();
    let purge = async || {
        table.execute("UPDATE orders SET note = 'unheard', version = version + 1 WHERE id = 5").await;
        table.execute("FLUSH BINARY LOGS").await;
        // MariaDB first sees to it that it will not need them itself.
        let mut connection = table.connect().await;
        loop {
            table.execute("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 SECOND").await;
            let left: Vec<mysql_async::Row> = connection.query("SHOW BINARY LOGS").await.expect("listed");
            if left.len() == 1 {
                return;
            }
        }
    };
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "verify_chunk_done")]).await.was_killed();
    purge().await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(1).says("purged");
    assert_eq!(table.text("SELECT note FROM orders WHERE id = 5").await, "unheard");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.assert_no_helpers().await;

    // The way back needs the log as well, and says so before anything is swapped.
    run_beside(&apply, &[]).await.exits(0);
    table.execute("INSERT INTO orders (id, customer_id, amount) VALUES (900001, 1, 1)").await;
    purge().await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(1).says("purged");
    assert_eq!(table.text("SELECT customer_id FROM orders WHERE id = 900001").await, "1");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT COUNT(*) FROM orders").await, "3001");
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_full_disk_stops_the_run_which_goes_on_when_there_is_room() {
    let server = mysql_on_a_small_disk(420).await;
    let table = Table::within(server.database().await, 60_000).await;
    let before = table.definition().await;
    let url = table.url();
    server.shell("fallocate -l $(( $(df --output=avail -B1 /var/lib/mysql | tail -1) - 6000000 )) /var/lib/mysql/filler");
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    let ended = run_beside(&apply, &[]).await;
    println!("exit {:?}: {}", ended.code, ended.err.trim());
    ended.exits(1).says("full").says("replank resume");
    assert_eq!(table.text("SELECT COUNT(*) FROM orders").await, "60000");
    assert_eq!(table.definition().await, before);
    server.shell("rm /var/lib/mysql/filler");
    let writers = Application::start(&table, seed("full disk"), 3).await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(30).await;
    let journal = writers.stop().await;
    judge("full disk", &journal);
    table.check(&journal).await;
    table.check_against_blocking(&before, RETYPE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_leftovers_without_records_are_named_and_in_nobodys_way() {
    let table = Table::with_rows(500).await;
    let (url, records) = (table.url(), format!("_replank_{}", table.name()));
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    table.execute(&format!("DROP DATABASE `{records}`")).await;
    let leftover = table.tables().await.into_iter().find(|name| name.contains("_rp_")).expect("a shadow");
    run_beside(&["doctor", "-t", &url], &[])
        .await
        .says(&format!("DROP TABLE `{}`.`{leftover}`", table.name()));
    run_beside(&apply, &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.execute(&format!("DROP TABLE `{leftover}`")).await;
    table.assert_no_helpers().await;
    let ended = run_beside(&["doctor", "-t", &url], &[]).await.exits(0);
    assert!(!ended.out.contains("_rp_"), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_names_as_long_as_the_server_takes_them_are_no_trouble() {
    let table = Table::with_rows(50).await;
    let url = table.url();
    let (name, key, column, index) = ("t".repeat(64), "k".repeat(64), "c".repeat(64), "i".repeat(64));
    table
        .execute(&format!(
            "CREATE TABLE {name} ({key} INT PRIMARY KEY, {column} INT, INDEX {index} ({column}))"
        ))
        .await;
    table.execute(&format!("INSERT INTO {name} VALUES (1, 2), (3, 4)")).await;
    let statement = format!("ALTER TABLE {name} MODIFY {column} BIGINT NOT NULL");
    let stopped = Stopped::at("chunk_committed", &["apply", "-t", &url, "-e", &statement, "--yes"]).await;
    table.execute(&format!("UPDATE {name} SET {key} = 5, {column} = 6 WHERE {key} = 3")).await;
    stopped.go_on().await.exits(0);
    let sum = format!("SELECT GROUP_CONCAT({key}, {column} ORDER BY 1) FROM {name}");
    assert_eq!(table.text(&sum).await, "12,56");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(&sum).await, "12,56");
    table.assert_no_helpers().await;
}
