//! What has to follow the table's name: its own foreign keys, those of other tables, and its triggers.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::{Ended, run_beside};
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{is_mariadb, mysql_own_server};
use crate::stopped::Stopped;
use crate::workload::Writers;

/// `orders` with keys both ways and triggers that each write must fire once.
const SETUP: [&str; 14] = [
    "CREATE TABLE regions (id INT PRIMARY KEY)",
    "INSERT INTO regions VALUES (7), (8)",
    "ALTER TABLE orders ADD INDEX hidden (hidden)",
    "ALTER TABLE orders ADD CONSTRAINT orders_region FOREIGN KEY (hidden) REFERENCES regions (id) ON DELETE RESTRICT",
    "ALTER TABLE orders ADD FOREIGN KEY (hidden) REFERENCES regions (id)",
    "CREATE TABLE `lines` (id BIGINT AUTO_INCREMENT PRIMARY KEY, order_id BIGINT, hint BIGINT, KEY (hint),
     CONSTRAINT line_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE notes (id BIGINT AUTO_INCREMENT PRIMARY KEY, order_id BIGINT, FOREIGN KEY (order_id) REFERENCES orders (id)
     ON DELETE SET NULL ON UPDATE SET NULL)",
    "INSERT INTO `lines` (order_id) SELECT id FROM orders WHERE id % 7 = 0",
    "INSERT INTO notes (order_id) SELECT id FROM orders WHERE id % 50 = 0",
    "CREATE TABLE mirror (id BIGINT PRIMARY KEY, version INT NOT NULL, late INT NOT NULL DEFAULT 0)",
    "INSERT INTO mirror (id, version) SELECT id, version FROM orders",
    "CREATE TRIGGER orders_came AFTER INSERT ON orders FOR EACH ROW
     INSERT INTO mirror (id, version) VALUES (NEW.id, NEW.version) ON DUPLICATE KEY UPDATE late = late + 1",
    "CREATE TRIGGER orders_went AFTER DELETE ON orders FOR EACH ROW DELETE FROM mirror WHERE id = OLD.id",
    "CREATE TRIGGER orders_changed AFTER UPDATE ON orders FOR EACH ROW
     UPDATE IGNORE mirror SET id = NEW.id, version = version + 1 WHERE id = OLD.id",
];

/// Everything about the keys and triggers, and what else must be as it was.
const TRIGGERS: &str = "SELECT GROUP_CONCAT(CONCAT_WS('|', trigger_name, event_manipulation, action_timing, action_order,
     action_statement, sql_mode, definer, character_set_client, collation_connection) ORDER BY trigger_name SEPARATOR '\n')
     FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND event_object_table = 'orders'";

/// How many rows of `mirror` are not as the triggers should have left them: one that did not fire, or fired twice.
const OFF: &str = "SELECT (SELECT SUM(late) FROM mirror)
     + (SELECT COUNT(*) FROM orders o LEFT JOIN mirror m ON m.id = o.id WHERE NOT m.version <=> o.version)
     + (SELECT COUNT(*) FROM mirror m LEFT JOIN orders o ON o.id = m.id WHERE o.id IS NULL)";

/// How many rows name a parent that is not there.
const ORPHANS: &str = "SELECT (SELECT COUNT(*) FROM `lines` c LEFT JOIN orders p ON p.id = c.order_id WHERE c.order_id IS NOT NULL AND p.id IS NULL)
     + (SELECT COUNT(*) FROM notes c LEFT JOIN orders p ON p.id = c.order_id WHERE c.order_id IS NOT NULL AND p.id IS NULL)
     + (SELECT COUNT(*) FROM orders c LEFT JOIN regions p ON p.id = c.hidden WHERE c.hidden IS NOT NULL AND p.id IS NULL)";

/// What follows the name.
#[derive(Debug, PartialEq, Eq)]
pub struct Following {
    orders: String,
    lines: String,
    notes: String,
    triggers: String,
}

async fn joined(rows: u64) -> (Table, Following) {
    join(Table::with_rows(rows).await).await
}

/// Gives `orders` its keys and triggers.
pub async fn join(table: Table) -> (Table, Following) {
    for statement in SETUP {
        table.execute(statement).await;
    }
    // A second of one kind, with another mode: its text would be read otherwise in ours.
    let mut other = table.connect().await;
    for statement in [
        "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'",
        "CREATE TRIGGER orders_first BEFORE UPDATE ON orders FOR EACH ROW SET @last = \"new\".\"id\" || ' ' || OLD.id",
    ] {
        other.query_drop(statement).await.expect(statement);
    }
    let before = following(&table).await;
    (table, before)
}

/// What follows the name just now.
pub async fn following(table: &Table) -> Following {
    Following {
        orders: table.definition().await,
        lines: table.definition_of("`lines`").await,
        notes: table.definition_of("notes").await,
        triggers: table.text(TRIGGERS).await,
    }
}

impl Following {
    /// As it is with the change.
    pub fn changed(&self) -> Self {
        let int = if is_mariadb() { "`customer_id` int(11) NOT NULL" } else { "`customer_id` int NOT NULL" };
        let bigint =
            if is_mariadb() { "`customer_id` bigint(20) NOT NULL" } else { "`customer_id` bigint NOT NULL" };
        let orders = self.orders.replace(int, bigint);
        // MySQL writes keys over expressions last.
        let behind = if is_mariadb() { ",\n  CONSTRAINT " } else { ",\n  KEY `orders_note`" };
        let at = orders.find(behind).expect("a line");
        let orders = format!("{},\n  KEY `ix_c` (`customer_id`){}", &orders[..at], &orders[at..]);
        assert_ne!(orders, self.orders);
        Self { orders, lines: self.lines.clone(), notes: self.notes.clone(), triggers: self.triggers.clone() }
    }
}

/// Keeps adding lines to orders that are there, until told; counts, and fails at the first that is refused.
struct Clerk {
    task: tokio::task::JoinHandle<u64>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Clerk {
    async fn start(table: &Table) -> Self {
        let (stop, told) = tokio::sync::watch::channel(false);
        let mut connection = table.connect().await;
        let rows = table.rows;
        let task = tokio::spawn(async move {
            let mut written = 0;
            while !*told.borrow() {
                let id = (written * 7919) % rows + 1;
                let line = format!(
                    "INSERT INTO `lines` (order_id, hint) SELECT id, {id} FROM orders WHERE id = {id}"
                );
                match connection.query_drop(&line).await {
                    Err(mysql_async::Error::Server(error)) if matches!(error.code, 1213 | 1205) => {}
                    written_or_not => written_or_not.expect(&line),
                }
                written += 1;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            written
        });
        Self { task, stop }
    }

    async fn stop(self) -> u64 {
        self.stop.send(true).expect("it runs");
        self.task.await.expect("no line was refused")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_foreign_keys_and_triggers_follow_the_name_and_come_back_under_load() {
    let test = "on_mysql_foreign_keys_and_triggers_follow_the_name_and_come_back_under_load";
    let (table, before) = joined(6_000).await;
    let writers = Application::start(&table, seed(test), 3).await;
    let clerk = Clerk::start(&table).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    writers.write_on(60).await;
    assert_eq!(following(&table).await, before.changed());
    let refused = table.connect().await.query_drop("DELETE FROM regions WHERE id = 7").await;
    assert!(refused.is_err(), "the table's own key is on");
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(30).await;
    let journal = writers.stop().await;
    assert!(clerk.stop().await > 50, "the clerk wrote next to nothing");
    judge(test, &journal);
    table.check(&journal).await;
    assert_eq!(following(&table).await, before);
    assert_eq!(table.text(OFF).await, "0", "each write fires each trigger once");
    assert_eq!(table.text(ORPHANS).await, "0");
    table.assert_no_helpers().await;
}

/// What happens between the kill and the next command, and then that command. On MariaDB a key may have been off
/// meanwhile: rows without a parent are told, and the run goes on once they are gone.
async fn mended(table: &Table, writers: &Writers, command: &[&str]) -> Ended {
    writers.write_on(20).await;
    let ended = run_beside(command, &[]).await;
    if ended.code == Some(0) {
        return ended;
    }
    assert!(is_mariadb(), "{}", ended.err);
    let ended = ended.says("have no parent");
    println!("{}", ended.err);
    assert_ne!(table.text(ORPHANS).await, "0");
    table
        .execute_again("DELETE c FROM `lines` c LEFT JOIN orders p ON p.id = c.order_id WHERE p.id IS NULL")
        .await;
    table
        .execute_again("DELETE c FROM notes c LEFT JOIN orders p ON p.id = c.order_id WHERE p.id IS NULL")
        .await;
    run_beside(command, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_killed_at_every_step_of_moving_keys_and_triggers_all_are_mended() {
    let mut passage = 0;
    loop {
        passage += 1;
        let at = format!("moving:{passage}");
        let (table, before) = joined(700).await;
        let url = table.url();
        let writers = Application::start(&table, seed(&at), 2).await;
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        let first = run_beside(&apply, &[("REPLANK_KILL_AT", &at)]).await;
        if first.code.is_some() {
            first.exits(0);
            break;
        }
        mended(&table, &writers, &["resume", "last", "-t", &url, "--yes"]).await.exits(0);
        println!("{at}: forward");
        assert_eq!(following(&table).await, before.changed(), "{at}");
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_beside(&revert, &[("REPLANK_KILL_AT", &at)]).await.was_killed();
        mended(&table, &writers, &["resume", "last", "-t", &url, "--yes"]).await.exits(0);
        let journal = writers.stop().await;
        match journal.summary().failed {
            // Between the kill and the next command every key is on, and one of ours as well.
            Some(refused) if !is_mariadb() => {
                assert!(refused.contains("1452") && refused.contains("_rp_"), "{refused}")
            }
            _ => judge(&at, &journal),
        }
        table.check(&journal).await;
        assert_eq!(following(&table).await, before, "{at}");
        assert_eq!(table.text(ORPHANS).await, "0", "{at}");
        table.assert_no_helpers().await;
    }
    assert!(passage > 10, "{passage} steps are too few for three keys and four triggers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_killed_while_keys_and_triggers_move_an_abort_leaves_all_as_it_was() {
    for at in ["moving:1", "moving:3", "moving:5"] {
        let (table, before) = joined(500).await;
        let url = table.url();
        let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
        run_beside(&apply, &[("REPLANK_KILL_AT", at)]).await.was_killed();
        run_beside(&["status", "last", "-t", &url], &[]).await.exits(0).says("keys of `lines`, `notes`");
        run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(following(&table).await, before, "{at}");
        assert_eq!(table.text(ORPHANS).await, "0");
        table.assert_no_helpers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_the_server_killed_while_keys_and_triggers_move_loses_none() {
    let server = mysql_own_server(&[]).await;
    for at in ["moving:2", "moving:4", "moving:6", "moving:9"] {
        let (table, before) = join(Table::within(server.database().await, 500).await).await;
        let url = table.url();
        let stopped = Stopped::at(at, &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        stopped.end().await.exits(0);
        assert_eq!(following(&table).await, before.changed(), "{at}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(following(&table).await, before, "{at}");
        assert_eq!(table.text(OFF).await, "0");
    }
}

/// CUT-11: somebody is at a child for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_child_that_is_held_delays_the_swap_and_nothing_else() {
    let (table, before) = joined(2_000).await;
    let writers = Application::start(&table, seed("held"), 2).await;
    let url = table.url();
    let mut holder = table.connect().await;
    for statement in ["START TRANSACTION", "SELECT COUNT(*) FROM notes"] {
        holder.query_drop(statement).await.expect(statement);
    }
    let apply = tokio::spawn({
        let url = url.clone();
        async move { run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await }
    });
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        assert!(!apply.is_finished(), "it cannot swap while a child is held");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = following(&table).await;
    assert_eq!((&now.orders, &now.triggers), (&before.orders, &before.triggers), "nothing changed");
    holder.query_drop("COMMIT").await.expect("let go");
    apply.await.expect("it ends").exits(0);
    let journal = writers.stop().await;
    judge("held", &journal);
    assert!(journal.summary().longest < Duration::from_millis(2_500), "{:?}", journal.summary().longest);
    table.check(&journal).await;
    assert_eq!(following(&table).await, before.changed());
    assert_eq!((table.text(OFF).await.as_str(), table.text(ORPHANS).await.as_str()), ("0", "0"));
}

/// Shapes that names make difficult: a key to itself, two of one child, a child and a parent in another database, names of all kinds,
/// and a check with a name, which takes databases of our own for the tables that are not live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_keys_of_every_shape_follow_the_name() {
    let table = Table::with_rows(20).await;
    let elsewhere = format!("{}_e", table.name());
    let home = table.name().to_owned();
    for statement in [
        "CREATE TABLE `the top` (a INT, b INT, PRIMARY KEY (a, b))".to_owned(),
        format!("CREATE DATABASE `{elsewhere}`"),
        format!("CREATE TABLE `{elsewhere}`.node (id INT PRIMARY KEY)"),
        format!(
            "CREATE TABLE node (id INT PRIMARY KEY, up INT, a INT, b INT, v INT, u INT UNIQUE, f INT, KEY ab (a, b), KEY (up),
             CONSTRAINT `it's` FOREIGN KEY (up) REFERENCES node (id),
             CONSTRAINT away FOREIGN KEY (f) REFERENCES `{elsewhere}`.node (id),
             FOREIGN KEY (a, b) REFERENCES `the top` (a, b),
             CONSTRAINT node_v CHECK (v > 0))"
        ),
        "CREATE TABLE `le``af` (id INT PRIMARY KEY, n INT, m INT, FOREIGN KEY (n) REFERENCES node (id),
         CONSTRAINT `zwei` FOREIGN KEY (m) REFERENCES node (u) ON DELETE SET NULL)"
            .to_owned(),
        format!(
            "CREATE TABLE `{elsewhere}`.far (id INT PRIMARY KEY, n INT,
             CONSTRAINT `zwei` FOREIGN KEY (n) REFERENCES `{home}`.node (id))"
        ),
        "INSERT INTO `the top` VALUES (1, 1), (1, 2)".to_owned(),
        format!("INSERT INTO `{elsewhere}`.node VALUES (1)"),
        "INSERT INTO node VALUES (1, NULL, 1, 1, 5, 1, 1), (2, 1, 1, 2, 5, 2, NULL), (3, 3, NULL, 2, 5, NULL, NULL)".to_owned(),
        "INSERT INTO `le``af` VALUES (1, 1, 1), (2, 2, NULL)".to_owned(),
        format!("INSERT INTO `{elsewhere}`.far VALUES (1, 3)"),
        "CREATE TRIGGER `a trigger` BEFORE INSERT ON node FOR EACH ROW SET NEW.u = COALESCE(NEW.u, NEW.id)".to_owned(),
    ] {
        table.execute(&statement).await;
    }
    let all = || async {
        let far = table
            .text(&format!(
                "SELECT GROUP_CONCAT(CONCAT(constraint_name, ' ', referenced_table_name))
             FROM information_schema.referential_constraints WHERE constraint_schema = '{elsewhere}'"
            ))
            .await;
        [table.definition_of("node").await, table.definition_of("`le``af`").await, far]
    };
    let before = all().await;
    let url = table.url();
    let statement = "ALTER TABLE node MODIFY v BIGINT";
    run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
    let int = if is_mariadb() { "`v` int(11)" } else { "`v` int " };
    let bigint = if is_mariadb() { "`v` bigint(20)" } else { "`v` bigint " };
    let mut changed = before.clone();
    changed[0] = changed[0].replace(int, bigint);
    assert_ne!(changed, before);
    assert_eq!(all().await, changed);
    table.execute("INSERT INTO node (id, up, a, b, v) VALUES (4, 4, 1, 1, 6)").await;
    assert_eq!(table.text("SELECT u FROM node WHERE id = 4").await, "4", "the trigger fires");
    for refused in [
        "INSERT INTO node (id, up) VALUES (9, 77)",
        "INSERT INTO node (id, a, b) VALUES (9, 8, 8)",
        "INSERT INTO node (id, f) VALUES (9, 2)",
        "INSERT INTO `le``af` VALUES (9, 99, NULL)",
        "DELETE FROM node WHERE id = 3",
        "DELETE FROM `the top` WHERE b = 2",
    ] {
        assert!(table.connect().await.query_drop(refused).await.is_err(), "{refused}");
    }
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(all().await, before);
    assert_eq!(table.text("SELECT COUNT(*) FROM node").await, "4");
    table.assert_no_helpers().await;
    table.execute(&format!("SET foreign_key_checks = 0; DROP DATABASE `{elsewhere}`")).await;
}

/// RACE-15: what a cascade does to the table is in the log, or the rebuild is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_cascades_into_the_table_are_followed_or_refused() {
    let table = Table::with_rows(20).await;
    for statement in [
        "CREATE TABLE owner (id INT PRIMARY KEY)",
        "INSERT INTO owner WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n",
        "CREATE TABLE owned (id INT PRIMARY KEY, o INT, up INT, v INT, KEY (up),
         CONSTRAINT owned_o FOREIGN KEY (o) REFERENCES owner (id) ON DELETE CASCADE ON UPDATE CASCADE,
         CONSTRAINT owned_up FOREIGN KEY (up) REFERENCES owned (id) ON DELETE CASCADE)",
        "INSERT INTO owned SELECT id, id, IF(id % 10 = 0, id - 5, NULL), id FROM owner",
    ] {
        table.execute(statement).await;
    }
    let url = table.url();
    let apply = ["apply", "-t", &url, "-e", "ALTER TABLE owned MODIFY v BIGINT", "--yes"];
    if is_mariadb() {
        run_beside(&apply, &[]).await.exits(3).says("M208").says("MariaDB does not log");
        // What the server does itself needs no log.
        run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE owned ADD COLUMN w INT", "--yes"], &[])
            .await
            .exits(0);
        return;
    }
    let before = table.definition_of("owned").await;
    let stopped = Stopped::at("chunk_committed", &apply).await;
    for statement in [
        "DELETE FROM owner WHERE id < 100",
        "UPDATE owner SET id = id + 10000 WHERE id BETWEEN 200 AND 300",
        "DELETE FROM owned WHERE id = 805",
    ] {
        table.execute(statement).await;
    }
    stopped.go_on().await.exits(0);
    let state = "SELECT CONCAT_WS(' ', COUNT(*), SUM(o > 10000), SUM(id IN (805, 810)), MIN(id)) FROM owned";
    assert_eq!(table.text(state).await, "798 101 0 101");
    table.execute("DELETE FROM owner WHERE id = 500").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(state).await, "797 101 0 101");
    assert_eq!(table.definition_of("owned").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_foreign_key_is_added_online_and_only_where_every_row_has_its_parent() {
    let table = Table::with_rows(3_000).await;
    let url = table.url();
    table.execute("CREATE TABLE customers (id INT PRIMARY KEY)").await;
    table
        .execute("INSERT INTO customers SELECT DISTINCT customer_id FROM orders WHERE customer_id <> 5")
        .await;
    let before = table.definition().await;
    let add = "ALTER TABLE orders ADD CONSTRAINT orders_customer FOREIGN KEY (customer_id) REFERENCES customers (id)";
    let apply = ["apply", "-t", &url, "-e", add, "--yes"];
    run_beside(&apply, &[]).await.exits(3).says("C007").says("orders_customer");
    table.execute("INSERT INTO customers VALUES (5)").await;
    // An orphan that comes between the plan and the key.
    let stopped = Stopped::at("run_saved", &apply).await;
    table.execute("UPDATE orders SET customer_id = 5000 WHERE id = 17").await;
    stopped.go_on().await.exits(3).says("5000").says("taken off again");
    assert!(!table.definition().await.contains("orders_customer"));
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    table.execute("UPDATE orders SET customer_id = 5 WHERE id = 17").await;
    run_beside(&apply, &[("REPLANK_KILL_AT", "step_done")]).await.was_killed();
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert!(table.definition().await.contains("CONSTRAINT `orders_customer` FOREIGN KEY"));
    let refused =
        table.connect().await.query_drop("UPDATE orders SET customer_id = 5000 WHERE id = 17").await;
    assert!(refused.is_err(), "the key is on");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    // And one that goes comes back with a look.
    run_beside(&apply, &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let with = table.definition().await;
    let drop = ["apply", "-t", &url, "-e", "ALTER TABLE orders DROP FOREIGN KEY orders_customer", "--yes"];
    run_beside(&drop, &[]).await.exits(0);
    table.execute("UPDATE orders SET customer_id = 5000 WHERE id = 17").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(3).says("5000");
    table.execute("UPDATE orders SET customer_id = 5 WHERE id = 17").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, with);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_what_cannot_follow_the_name_is_refused_with_the_reason() {
    let (table, before) = joined(100).await;
    let url = table.url();
    table.execute("ALTER TABLE orders ADD COLUMN memo VARCHAR(10)").await;
    table.execute("CREATE TRIGGER memo_set BEFORE INSERT ON orders FOR EACH ROW SET NEW.memo = 'x'").await;
    for (statement, says) in [
        ("ALTER TABLE orders MODIFY customer_id BIGINT NOT NULL, DROP COLUMN memo", "M209"),
        ("ALTER TABLE orders MODIFY customer_id BIGINT NOT NULL, DROP FOREIGN KEY orders_region", "M208"),
        (
            "ALTER TABLE orders MODIFY customer_id BIGINT NOT NULL, ADD CONSTRAINT n FOREIGN KEY (hidden) REFERENCES regions (id)",
            "M208",
        ),
        ("ALTER TABLE orders MODIFY id INT NOT NULL AUTO_INCREMENT", "foreign key"),
    ] {
        println!("{statement}");
        let ended = run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await;
        assert!(matches!(ended.code, Some(2 | 3)), "{}", ended.err);
        ended.says(says);
    }
    table.execute("DROP TRIGGER memo_set").await;
    table.execute("ALTER TABLE orders DROP COLUMN memo").await;
    assert_eq!(following(&table).await, before);
    table.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_login_that_may_not_make_a_trigger_is_told_before_anything_is_begun() {
    let (table, before) = joined(50).await;
    let name = table.name().to_owned();
    let user = format!("u{}", &name[name.len().saturating_sub(12)..]);
    let global = if is_mariadb() { "BINLOG MONITOR" } else { "XA_RECOVER_ADMIN" };
    let all = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, LOCK TABLES";
    let (elsewhere, state) = (format!("{name}_e"), format!("\\_replank\\_{name}%"));
    for statement in [
        format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret-word'"),
        format!("GRANT REPLICATION SLAVE, PROCESS, {global} ON *.* TO '{user}'@'%'"),
        format!("GRANT {all} ON `{name}`.* TO '{user}'@'%'"),
        format!("GRANT {all} ON `{state}`.* TO '{user}'@'%'"),
        format!("GRANT SELECT ON performance_schema.* TO '{user}'@'%'"),
    ] {
        table.execute(&statement).await;
    }
    let url = table.url().replacen("root:replank", &format!("{user}:secret-word"), 1);
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    for privilege in ["TRIGGER", "REFERENCES"] {
        run_beside(&apply, &[]).await.exits(3).says("M251").says(&format!("GRANT {privilege}"));
        for on in [&name, &state] {
            table.execute(&format!("GRANT {privilege} ON `{on}`.* TO '{user}'@'%'")).await;
        }
    }
    // A trigger of another definer, in the server's own words.
    run_beside(&apply, &[]).await.exits(3).says("M209").says("SUPER");
    // A key of a table that the login cannot see is not overlooked.
    for statement in [
        format!("CREATE DATABASE `{elsewhere}`"),
        format!("CREATE TABLE `{elsewhere}`.c (o BIGINT, FOREIGN KEY (o) REFERENCES `{name}`.orders (id))"),
    ] {
        table.execute(&statement).await;
    }
    run_beside(&apply, &[]).await.exits(3).says("M208").says("may not see its table");
    table.execute(&format!("DROP DATABASE `{elsewhere}`")).await;
    assert_eq!(following(&table).await, before);
    table.assert_no_helpers().await;
    table.execute(&format!("DROP USER '{user}'@'%'")).await;
}
