//! What only MariaDB has: the swap by two sessions, types and tables of its own. `REPLANK_TEST_SERVER` has to name one.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;

use super::cuts::{broken_at, holds};
use super::oracle::RETYPE;
use super::shapes::Twins;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::proxy::{Fault, Trigger};
use crate::random::seed;
use crate::server::mysql_own_server;
use crate::stopped::Stopped;

const DISMISSAL: Trigger = |message| holds(message, "DROP TABLE") && holds(message, "_retired");
const RELEASE: Trigger = |message| message.get(5..) == Some(b"UNLOCK TABLES");
const RENAME: Trigger = |message| holds(message, "RENAME TABLE");

/// The session that holds the lock, or the one that renames, dies at each step between them, or goes silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_a_swap_of_two_sessions_survives_the_loss_of_either() {
    for (name, trigger) in [("rename", RENAME), ("dismissal", DISMISSAL), ("release", RELEASE)] {
        for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Silence] {
            broken_at(name, trigger, fault).await;
        }
    }
}

/// Whoever reads the shadow must not make the rename wait for anything but the live table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_a_reader_of_the_shadow_delays_the_swap_and_loses_nothing() {
    let table = Table::with_rows(3_000).await;
    let (url, before) = (table.url(), table.definition().await);
    let writers = Application::start(&table, seed("reader"), 6).await;
    let stopped = Stopped::at("swap_intended", &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
    let shadow = table.tables().await.into_iter().find(|name| name.ends_with("_shadow")).expect("a shadow");
    let mut reader = table.connect().await;
    for statement in ["START TRANSACTION".to_owned(), format!("SELECT COUNT(*) FROM `{shadow}`")] {
        reader.query_drop(&statement).await.expect(&statement);
    }
    stopped.wake();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(table.definition().await, before, "nothing is swapped while somebody reads the shadow");
    reader.query_drop("COMMIT").await.expect("let go");
    stopped.end().await.exits(0);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge("reader", &journal);
    table.check_there_and_back(&journal, &before, RETYPE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_columns_of_its_own_are_carried_over() {
    let table = Table::with_rows(1).await;
    table.execute("CREATE SEQUENCE numbers START WITH 100").await;
    let columns = "id INT NOT NULL DEFAULT NEXTVAL(numbers) PRIMARY KEY, v VARCHAR(20) NOT NULL, u UUID, a INET6,
         j JSON, checked INT CHECK (checked > 0), g VARCHAR(30) AS (CONCAT(v, '!')) VIRTUAL,
         s INT AS (checked * 2) PERSISTENT, z DECIMAL(65, 38), KEY by_u (u), KEY by_g (g), KEY gone (checked) IGNORED,
         CONSTRAINT low CHECK (checked < 1000)";
    let twins = Twins::new(&table, columns, "id, HEX(u), a, j, checked, g, s, z").await;
    for (id, v) in [(1, 1), (2, 2), (3, 3)] {
        twins
            .both(&format!(
                "INSERT INTO T (id, v, u, a, j, checked, z) VALUES ({id}, '{v}', '123e4567-e89b-12d3-a456-42665544000{id}',
                 '2001:db8::ff00:42:832{id}', '{{\"a\": 1.0, \"b\": [18446744073709551615, \"é\"]}}', {v}, 0.1)"
            ))
            .await;
    }
    let meanwhile = [
        "UPDATE T SET u = NULL, a = '::1', z = -0.00000000000000000000000000000000000001 WHERE id = 1"
            .to_owned(),
        "UPDATE T SET id = 7, j = NULL WHERE id = 2".to_owned(),
        "DELETE FROM T WHERE id = 3".to_owned(),
        "INSERT INTO T (id, v, checked) VALUES (9, '9', 9)".to_owned(),
    ];
    twins.change("ALTER TABLE T MODIFY v INT NOT NULL", &meanwhile).await;
    assert_eq!(table.text("SELECT NEXTVAL(numbers)").await, "100", "nobody but the application counts");
    for refused in
        ["INSERT INTO Subject (v, checked) VALUES ('1', 0)", "INSERT INTO Subject (v, j) VALUES ('1', '{')"]
    {
        table.connect().await.query_drop(refused).await.expect_err(refused);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_tables_that_cannot_be_followed_are_refused_with_the_reason() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for statement in [
        "CREATE TABLE versioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING",
        "CREATE SEQUENCE numbers",
        "CREATE TABLE packed (id INT PRIMARY KEY, v INT, t TEXT COMPRESSED)",
    ] {
        table.execute(statement).await;
    }
    let before = table.tables().await;
    for (statement, says) in [
        ("ALTER TABLE versioned MODIFY v BIGINT", "history"),
        ("ALTER TABLE numbers ADD COLUMN v INT", "sequence"),
        ("ALTER TABLE packed MODIFY v BIGINT", "COMPRESSED"),
    ] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(3).says(says);
    }
    assert_eq!(table.tables().await, before);
}

/// The setting is looked at before a run begins; somebody may turn it on later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_packed_events_in_the_log_stop_the_run_and_no_change_is_passed_over() {
    let server = mysql_own_server(&[]).await;
    let table = Table::within(server.database().await, 2_000).await;
    let (url, before) = (table.url(), table.definition().await);
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=50"];
    let stopped = Stopped::at("chunk_committed", &apply).await;
    for statement in [
        "SET GLOBAL log_bin_compress_min_len = 10",
        "SET GLOBAL log_bin_compress = ON",
        "UPDATE orders SET note = REPEAT('long ', 12) WHERE id = 7",
        "SET GLOBAL log_bin_compress = OFF",
    ] {
        table.execute(statement).await;
    }
    stopped.go_on().await.exits(1).says("compressed events").says("replank abort");
    run_beside(&apply, &[]).await.exits(1).says("compressed events");
    assert_eq!(table.definition().await, before, "nothing is swapped");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&apply, &[]).await.exits(0);
    assert_eq!(table.text("SELECT note FROM orders WHERE id = 7").await, "long ".repeat(12));
}
