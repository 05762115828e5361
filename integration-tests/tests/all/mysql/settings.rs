//! Servers that are set up unusually, and logins of every kind.

use mysql_async::prelude::Queryable as _;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{is_mariadb, mysql_own_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_log_of_an_unusual_kind_is_read_to_the_last_row() {
    let kinds = match is_mariadb() {
        false => [
            [
                "--binlog-transaction-compression=ON",
                "--binlog-row-image=NOBLOB",
                "--binlog-order-commits=OFF",
            ],
            [
                "--binlog-row-value-options=PARTIAL_JSON",
                "--binlog-checksum=NONE",
                "--binlog-row-metadata=FULL",
            ],
        ],
        true => [
            ["--binlog-row-image=NOBLOB", "--binlog-annotate-row-events=OFF", "--gtid-domain-id=7"],
            ["--binlog-checksum=NONE", "--binlog-row-metadata=FULL", "--innodb-autoinc-lock-mode=2"],
        ],
    };
    for arguments in kinds {
        let server = mysql_own_server(&arguments).await;
        let table = Table::within(server.database().await, 3_000).await;
        table.execute("ALTER TABLE orders ADD COLUMN doc JSON, ADD COLUMN bytes BLOB").await;
        table.execute("UPDATE orders SET doc = JSON_OBJECT('n', id, 'text', REPEAT('x', 200)), bytes = REPEAT('y', 300)").await;
        let before = table.definition().await;
        let writers = Application::start(&table, seed(arguments[0]), 3).await;
        let documents = {
            let mut connection = table.connect().await;
            tokio::spawn(async move {
                for id in 1..400 {
                    let sql =
                        format!("UPDATE orders SET doc = JSON_SET(doc, '$.n', {id} + 5) WHERE id = {id}");
                    connection.query_drop(&sql).await.expect(&sql);
                }
            })
        };
        let url = table.url();
        run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
        documents.await.expect("written");
        writers.write_on(50).await;
        run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let journal = writers.stop().await;
        judge(arguments[0], &journal);
        table.check(&journal).await;
        assert_eq!(table.definition().await, before);
        let wrong = "SELECT COUNT(*) FROM orders WHERE id < 400 AND JSON_EXTRACT(doc, '$.n') <> id + 5
             AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.id = orders.id AND tx <> 'start')";
        assert_eq!(table.text(wrong).await, "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_login_works_with_and_without_tls_also_the_first_one() {
    let table = Table::with_rows(50).await;
    // MariaDB before 11.4 makes no certificate of its own.
    let ssl = "SELECT COALESCE(MAX(variable_value), 'YES') FROM information_schema.global_variables
               WHERE variable_name = 'have_ssl'";
    let required = if is_mariadb() && table.text(ssl).await != "YES" { 2 } else { 0 };
    for (mode, exit) in [("DISABLED", 0), ("PREFERRED", 0), ("REQUIRED", required), ("VERIFY_CA", 2)] {
        // New each time: the server's cache of passwords does not know it.
        let user = format!("u{mode}");
        table.execute(&format!("DROP USER IF EXISTS '{user}'@'%'")).await;
        table.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'pass word%/@'")).await;
        table.execute(&format!("GRANT ALL ON *.* TO '{user}'@'%'")).await;
        let login = format!("{user}:pass%20word%25%2F%40");
        let url = table.url().replacen("root:replank", &login, 1);
        let url = format!("{url}?ssl-mode={mode}");
        let ended = run_beside(&["plan", "-t", &url, "-e", RETYPE], &[]).await;
        println!("{mode}: {:?} {}", ended.code, ended.err.trim());
        ended.exits(exit);
        table.execute(&format!("DROP USER '{user}'@'%'")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_statements_and_names_in_any_script_are_no_trouble() {
    let table = Table::with_rows(50).await;
    let url = table.url();
    // While such a statement runs, information_schema.processlist cannot be read.
    let mut sleeper = table.connect().await;
    let asleep = tokio::spawn(async move {
        sleeper.query_drop("SELECT SLEEP(8) /* 😀 */").await.expect("slept");
    });
    for name in ["注文", "größe", "Ünïcödé-1", "a b`c", "заказы", "tab$le", "1st"] {
        let quoted = format!("`{}`", name.replace('`', "``"));
        for statement in [
            format!("CREATE TABLE {quoted} (`ключ` INT PRIMARY KEY, `wert ß` INT, KEY `índice` (`wert ß`))"),
            format!("INSERT INTO {quoted} VALUES (1, 2), (3, 4)"),
        ] {
            table.execute(&statement).await;
        }
        let statement = format!("ALTER TABLE {quoted} MODIFY `wert ß` BIGINT NOT NULL COMMENT 'жук 😀'");
        run_beside(&["apply", "-t", &url, "-e", &statement, "--yes"], &[]).await.exits(0);
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let sum = format!("SELECT SUM(`ключ` * 10 + `wert ß`) FROM {quoted}");
        assert_eq!(table.text(&sum).await, "46", "{name}");
    }
    asleep.await.expect("slept");
    table.assert_no_helpers().await;
    // The database's own name is spelt by InnoDB as well.
    let database = format!("größe_{}", table.name());
    for statement in [
        format!("CREATE DATABASE `{database}`"),
        format!("CREATE TABLE `{database}`.`été` (id INT PRIMARY KEY, v INT)"),
        format!("INSERT INTO `{database}`.`été` VALUES (1, 2)"),
    ] {
        table.execute(&statement).await;
    }
    let statement = format!("ALTER TABLE `{database}`.`été` MODIFY v BIGINT NOT NULL");
    run_beside(&["apply", "-t", &url, "-e", &statement, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(&format!("SELECT v FROM `{database}`.`été`")).await, "2");
    table.execute(&format!("DROP DATABASE `{database}`")).await;
}
