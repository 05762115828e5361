//! What a rebuild into partitions, or out of them, cannot do is told before anything is made; a row that no partition takes, at
//! the latest when it is written.

use super::application::{Orders, assert_same};
use super::partitioned::{File, whole};
use super::table::{connect, run};
use crate::binary::run_beside;
use crate::server::postgres_database;

const COLUMNS: &str = "id bigint, at date NOT NULL, n int, code text";

/// `events` with rows of three years, as the file gives it.
fn divided(key: &str, by: &str, more: &str) -> String {
    format!("CREATE TABLE events ({COLUMNS}, PRIMARY KEY ({key})) PARTITION BY {by}; {more}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_partitions_that_cannot_be_made_are_refused_with_what_to_write() {
    let database = postgres_database().await;
    let mut connection = connect(&database.url).await;
    let made = "CREATE TABLE events (id bigint PRIMARY KEY, at date, n int, code text);
         INSERT INTO events SELECT n, date '2024-01-01' + n, n, 'c' || n FROM generate_series(1, 900) AS n;
         CREATE TABLE events_taken (id int)";
    run(&mut connection, made).await.expect(made);
    let year = |name: &str, from: u32, to: u32| {
        format!("CREATE TABLE {name} PARTITION OF events FOR VALUES FROM ('{from}-01-01') TO ('{to}-01-01');")
    };
    let all = format!("{}{}", year("events_2024", 2024, 2026), year("events_2026", 2026, 2030));
    let url = database.url.clone();
    let told = async |shape: &str, exit: i32, says: &str, more: &[&str]| {
        let file = File::of(shape);
        let path = file.path();
        let mut rebuild = vec!["rebuild", "events", "--as", &path, "-t", &url, "--yes"];
        rebuild.extend(more);
        run_beside(&rebuild, &[]).await.exits(exit).says(says);
    };
    // The key grows by a column that takes NULL.
    told(&divided("id, at", "RANGE (at)", &all), 3, "ALTER COLUMN \"at\" SET NOT NULL", &[]).await;
    let strict = "ALTER TABLE events ALTER at SET NOT NULL; CREATE TABLE child (id bigint REFERENCES events)";
    run(&mut connection, strict).await.expect(strict);
    told(&divided("id, at", "RANGE (at)", &all), 3, "the foreign key child_id_fkey of public.child", &[])
        .await;
    run(
        &mut connection,
        "DROP TABLE child; CREATE PUBLICATION told FOR TABLE events WITH (publish = 'insert')",
    )
    .await
    .expect("made");
    told(&divided("id, at", "RANGE (at)", &all), 3, "publish_via_partition_root = true", &[]).await;
    run(&mut connection, "DROP PUBLICATION told; CLUSTER events USING events_pkey").await.expect("made");
    told(&divided("id, at", "RANGE (at)", &all), 3, "SET WITHOUT CLUSTER", &[]).await;
    run(&mut connection, "ALTER TABLE events SET WITHOUT CLUSTER").await.expect("set");
    for (shape, exit, says) in [
        // Rows would be looked up by a column that no index begins with.
        (divided("at, id", "RANGE (at)", &all), 3, "begin its primary key with it"),
        (divided("id", "RANGE (at)", &all), 3, "partition"),
        (
            divided("id, at", "RANGE (at)", &year("events_taken", 2024, 2030)),
            3,
            "names that others have: events_taken",
        ),
        (
            divided("id, at", "RANGE (at)", &year("other.events_2024", 2024, 2030)),
            3,
            "in the table's own schema, public",
        ),
        (
            divided("id, at", "RANGE (at)", "CREATE TABLE p PARTITION OF q DEFAULT"),
            3,
            "the file does not make before it",
        ),
        (
            divided("id, at", "RANGE (at)", "CREATE TABLE p PARTITION OF events (UNIQUE (n)) DEFAULT"),
            3,
            "an index of its own",
        ),
        // 2026 is missing: from 2026-01-01 to 2026-06-18.
        (
            divided("id, at", "RANGE (at)", &year("events_2024", 2024, 2026)),
            3,
            "170 rows do not fit any partition of the new shape, which needs one more for them or a DEFAULT (first keys: id = 731, at = \
             2026-01-01",
        ),
        (divided("id, at", "RANGE (at)", ""), 3, "900 rows do not fit any partition"),
        (
            divided(
                "id",
                "HASH (id)",
                "CREATE TABLE h PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            ),
            3,
            "rows do not fit any partition",
        ),
        (
            divided(
                "id, n",
                "LIST (n)",
                "CREATE TABLE l PARTITION OF events DEFAULT PARTITION BY RANGE (id);
                 CREATE TABLE m PARTITION OF l FOR VALUES FROM (1) TO (900)",
            ),
            3,
            "takes NULL",
        ),
    ] {
        told(&shape, exit, says, &[]).await;
    }
    // What is partitioned is rebuilt as a whole shape only; and a slot tells of partitions.
    let parts = divided("id, at", "RANGE (at)", &all);
    let file = File::of(&parts);
    run_beside(
        &["rebuild", "events", "--as", &file.path(), "-t", &database.url, "--yes", "--no-revert"],
        &[],
    )
    .await
    .exits(0);
    run_beside(&["rebuild", "events", "-t", &database.url, "--yes"], &[]).await.exits(3).says("--as FILE");
    let plain = format!("CREATE TABLE events ({COLUMNS}, PRIMARY KEY (id))");
    told(&plain, 3, "leave out -D capture=slot", &["-D", "capture=slot"]).await;
    for (hangs, says, off) in [
        (
            "CREATE VIEW v AS SELECT * FROM events_2024",
            "the partition public.events_2024, which a view, a rule or a function uses by its own name",
            "DROP VIEW v",
        ),
        (
            "CREATE TRIGGER t BEFORE TRUNCATE ON events_2026 FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "which has triggers of its own",
            "DROP TRIGGER t ON events_2026",
        ),
        ("ALTER TABLE events_2026 SET UNLOGGED", "which is UNLOGGED", "ALTER TABLE events_2026 SET LOGGED"),
        (
            "ALTER TABLE events_2026 REPLICA IDENTITY FULL",
            "whose replica identity is not the primary key",
            "ALTER TABLE events_2026 REPLICA IDENTITY DEFAULT",
        ),
        (
            "INSERT INTO events VALUES (1, '2029-01-01')",
            // The plain table's key would not tell the two rows apart.
            "values are not unique under `id` (first: 1: 1, 2024-01-02; 1, 2029-01-01)",
            "DELETE FROM events WHERE at = '2029-01-01'",
        ),
    ] {
        run(&mut connection, hangs).await.expect(hangs);
        told(&plain, 3, says, &[]).await;
        run(&mut connection, off).await.expect(off);
    }
    told(&plain, 0, "", &[]).await;
}

/// A row that no partition takes comes while rows are copied, or in front of the way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_row_that_no_partition_takes_stops_the_run_and_is_named() {
    let orders = Orders::with_rows(2_000).await;
    let url = orders.url();
    let before = whole(&mut orders.connect().await).await;
    let shape = "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, amount numeric(12, 2), note varchar(40) DEFAULT 'none',
         code varchar(40) , version int NOT NULL DEFAULT 0, total int GENERATED ALWAYS AS (version * 10) STORED)
         PARTITION BY RANGE (id); CREATE TABLE orders_few PARTITION OF orders FOR VALUES FROM (0) TO (10000)";
    let file = File::of(shape);
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    let resume = ["resume", "last", "-t", &url, "--yes"];
    // It comes behind what was copied, and by the log.
    for at in ["shadow_created", "chunk_committed"] {
        run_beside(&rebuild, &[("REPLANK_KILL_AT", at)]).await.was_killed();
        orders.execute("INSERT INTO orders (id, customer_id) VALUES (-7, 1), (77777, 1)").await;
        let stopped = run_beside(&resume, &[]).await;
        assert_ne!(stopped.code, Some(0), "{}", stopped.err);
        let stopped = stopped.says("no partition takes").says("resume");
        assert!(stopped.err.contains("-7") || stopped.err.contains("77777"), "{}", stopped.err);
        assert_same(&whole(&mut orders.connect().await).await, &before, "the table is as it was");
        assert_eq!(orders.text("SELECT count(*)::text FROM orders").await, "2002");
        orders.execute("DELETE FROM orders WHERE id IN (-7, 77777)").await;
        run_beside(&resume, &[]).await.exits(0);
        assert_eq!(orders.text("SELECT count(*)::text FROM orders_few").await, "2000");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    }
    // Given up, nothing is left of it.
    let names = orders.names().await;
    run_beside(&rebuild, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    assert_ne!(orders.names().await, names);
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.names().await, names);
    // The other way round: the plain table takes what its partitions did not.
    run_beside(&rebuild, &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let divided = whole(&mut orders.connect().await).await;
    let (plain, _) = shape.split_once("PARTITION BY").expect("it has partitions");
    let file = File::of(plain);
    run_beside(&["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"], &[]).await.exits(0);
    orders.execute("INSERT INTO orders (id, customer_id) VALUES (88888, 1), (5000, 1)").await;
    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&revert, &[]).await.exits(3).says("id = 88888");
    orders.execute("UPDATE orders SET id = 8888 WHERE id = 88888").await;
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(
        orders.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders WHERE id > 2000").await,
        "5000 8888"
    );
    assert_same(&whole(&mut orders.connect().await).await, &divided, "the partitions, before and after");
    orders.assert_no_helpers().await;
}
