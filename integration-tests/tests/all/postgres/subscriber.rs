//! Somebody else follows the table through a publication.

use std::time::{Duration, Instant};

use super::application::{Application, Orders, text};
use super::oracle::RETYPE;
use super::table::{connect, run};
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
