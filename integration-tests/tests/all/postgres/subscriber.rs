//! Somebody else follows the table through a publication.

use std::time::{Duration, Instant};

use super::application::{Application, Orders, text};
use super::oracle::RETYPE;
use super::table::{Table, connect, run};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::postgres_database;

const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(concat_ws('|', id, customer_id, amount, note, code, version), ',' ORDER BY id))
     FROM orders";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_subscriber_follows_through_the_swap_and_back() {
    let test = "on_postgres_a_subscriber_follows_through_the_swap_and_back";
    let orders = Orders::with_rows(4_000).await;
    let (url, slot) = (orders.url(), format!("follows_{}", orders.name()));
    // Two databases of one server: the slot cannot be made by CREATE SUBSCRIPTION, which would wait for itself.
    // https://www.postgresql.org/docs/current/sql-createsubscription.html
    orders.execute("CREATE PUBLICATION told FOR TABLE orders").await;
    orders.execute(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    let follower = postgres_database().await;
    let mut following = connect(&follower.url).await;
    let made = "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, amount numeric(12, 2), note varchar(40),
                                     code varchar(40), version int NOT NULL)";
    run(&mut following, made).await.expect(made);
    let subscription = format!(
        "CREATE SUBSCRIPTION follows CONNECTION 'host=127.0.0.1 port=5432 user=postgres password=replank dbname={}'
         PUBLICATION told WITH (create_slot = false, slot_name = '{slot}')",
        orders.name()
    );
    run(&mut following, &subscription).await.expect(&subscription);

    // What the subscription writes there is seen by no trigger.
    let there = ["plan", "-t", &follower.url, "-e", "ALTER TABLE orders ALTER version TYPE bigint"];
    run_beside(&there, &[]).await.exits(3).says("refused P151");

    let writers = Application::start(&orders, seed(test), 3).await;
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;

    let (wanted, until) = (orders.text(ROWS).await, Instant::now() + Duration::from_secs(20));
    let mut there = text(&mut following, ROWS).await;
    while there != wanted && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        there = text(&mut following, ROWS).await;
    }
    assert_eq!(there, wanted, "the follower's rows, and the table's");
    for end in [
        "ALTER SUBSCRIPTION follows DISABLE",
        "ALTER SUBSCRIPTION follows SET (slot_name = NONE)",
        "DROP SUBSCRIPTION follows",
    ] {
        run(&mut following, end).await.expect(end);
    }
    let dropping = format!("SELECT pg_drop_replication_slot('{slot}')");
    let until = Instant::now() + Duration::from_secs(20);
    // Its sender ends by itself.
    while let Err(error) = run(&mut orders.connect().await, &dropping).await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Replank's own records would be sent: a person may know that nobody minds. The rows of a new table, and the log, are never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_beside_a_publication_of_all_tables_the_server_changes_what_it_can_where_that_is_waived()
{
    let table = Table::with_rows(20).await;
    let url = table.url();
    table.execute("CREATE PUBLICATION everything FOR ALL TABLES").await;
    let waived = ["-D", "waive=P154 reason=\"the follower has a list of tables\""];
    let add = ["apply", "-t", &url, "-e", "ALTER TABLE orders ADD COLUMN more int", "--yes"];
    run_beside(&add, &[]).await.exits(3).says("refused P154").says("publication everything is of all tables");
    run_beside(&[&add[..], &waived[..]].concat(), &[]).await.exits(0);
    let index = ["apply", "-t", &url, "-e", "CREATE INDEX by_id ON orders (id, id)", "--yes"];
    run_beside(&[&index[..], &waived[..]].concat(), &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let rebuild = ["rebuild", "orders", "-t", &url, "--yes"];
    run_beside(&[&rebuild[..], &waived[..]].concat(), &[])
        .await
        .exits(3)
        .says("the publication everything, which is of all tables");
}

/// Without what a subscriber tells rows by, the next UPDATE of an application fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_a_subscriber_tells_rows_by_does_not_go() {
    let table = Table::with_rows(10).await;
    let url = table.url();
    table
        .execute(
            "CREATE TABLE told (id int CONSTRAINT first PRIMARY KEY, code int NOT NULL, note text);
             CREATE UNIQUE INDEX twin ON told (id);
             CREATE UNIQUE INDEX told_code ON told (code);
             CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1);
             INSERT INTO told VALUES (1, 1, ''); CREATE PUBLICATION telling FOR TABLE told, parts",
        )
        .await;
    let refused = async |statement: &str| {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[])
            .await
            .exits(3)
            .says("telling needs its replica identity");
        table.execute("UPDATE told SET note = 'written'; UPDATE parts SET id = id").await;
    };
    for statement in [
        "ALTER TABLE told DROP CONSTRAINT first",
        "ALTER TABLE told DROP COLUMN id",
        "ALTER TABLE told REPLICA IDENTITY NOTHING",
        "ALTER TABLE parts DROP CONSTRAINT parts_pkey",
    ] {
        refused(statement).await;
    }
    let done = async |statement: &str| {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes", "--no-revert"], &[]).await.exits(0);
    };
    done("ALTER TABLE told REPLICA IDENTITY USING INDEX told_code").await;
    refused("DROP INDEX told_code").await;
    done("ALTER TABLE told DROP CONSTRAINT first").await;
    refused("ALTER TABLE told REPLICA IDENTITY DEFAULT").await;
    let rename = ["apply", "-t", &url, "-e", "ALTER TABLE told RENAME code TO number", "--yes"];
    run_beside(&[&rename[..], &["-D", "waive=C004 reason=\"nobody reads it\""]].concat(), &[]).await.exits(0);
    let version = table.text("SELECT current_setting('server_version_num')").await;
    if version.parse::<u32>().expect("a number") >= 150_000 {
        table
            .execute("DROP PUBLICATION telling; CREATE PUBLICATION telling FOR TABLE told (id, number)")
            .await;
        let full =
            ["apply", "-t", &url, "-e", "ALTER TABLE told REPLICA IDENTITY FULL", "--yes", "--no-revert"];
        run_beside(&full, &[]).await.exits(3).says("do not go with that replica identity");
    }
}
