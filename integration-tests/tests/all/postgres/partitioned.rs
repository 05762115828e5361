//! `replank rebuild --as` into partitions, out of them, and into others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::application::{Orders, ROW, assert_same};
use super::catalogue::described;
use super::movers::{BY_CUSTOMER, Mover, PLAIN};
use super::table::{connect, query, run};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{postgres_database, postgres_own_server};
use sqlx::Row as _;

/// Indexes of the table that stand behind no constraint, which stay.
pub const STAYS: &str = "CREATE INDEX orders_amount ON orders (amount);
    CREATE INDEX orders_silent ON orders (version) WHERE note IS NULL;
    CREATE INDEX orders_note ON orders (lower(note));
    COMMENT ON COLUMN orders.note IS 'what the clerk said'";

/// A file with a shape.
pub struct File {
    folder: TempDir,
}

impl File {
    /// With this in it.
    pub fn of(shape: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(file.folder.path().join("shape.sql"), shape).expect("written");
        file
    }

    /// Its path.
    pub fn path(&self) -> String {
        self.folder.path().join("shape.sql").to_str().expect("a path").to_owned()
    }
}

/// A table with all its partitions: how they are divided, what they are called, and so their indexes; without helpers.
pub async fn whole(connection: &mut sqlx::postgres::PgConnection) -> Vec<String> {
    let mut all = described(connection, "public", "orders").await;
    let sql = "WITH RECURSIVE d AS (SELECT 'orders'::regclass::oid AS oid, NULL::oid AS parent
             UNION ALL SELECT h.inhrelid, h.inhparent FROM pg_inherits h JOIN d ON h.inhparent = d.oid)
         SELECT concat_ws(' ', d.oid::regclass, 'of', d.parent::regclass, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid),
                array_to_string(c.reloptions, ','),
                (SELECT string_agg(pg_get_indexdef(i.indexrelid), '; ' ORDER BY i.indexrelid::regclass::text) FROM pg_index i
                 WHERE i.indrelid = d.oid),
                (SELECT string_agg(o.conname || ' ' || pg_get_constraintdef(o.oid), '; ' ORDER BY o.conname) FROM pg_constraint o
                 WHERE o.conrelid = d.oid))
         FROM d JOIN pg_class c ON c.oid = d.oid ORDER BY 1";
    all.extend(query(connection, sql).await.iter().map(|row| row.get::<String, _>(0)));
    all
}

/// What the server makes of statements in an empty database.
pub async fn made_of(statements: &str) -> Vec<String> {
    let twin = postgres_database().await;
    let mut connection = connect(&twin.url).await;
    run(&mut connection, statements).await.expect("a twin");
    whole(&mut connection).await
}

async fn whole_of(orders: &Orders) -> Vec<String> {
    whole(&mut orders.connect().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_plain_table_is_partitioned_and_comes_back_under_load() {
    let test = "on_postgres_a_plain_table_is_partitioned_and_comes_back_under_load";
    let orders = Orders::with_rows(6_000).await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let file = File::of(BY_CUSTOMER);
    let is_direct = Arc::new(AtomicBool::new(false));
    let writers = Mover::start(&orders, seed(test), 3, &is_direct).await;
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    run_beside(&rebuild, &[]).await.exits(0).says("was unique index orders_code_key");
    is_direct.store(true, Ordering::SeqCst);
    let wanted = made_of(&format!("{BY_CUSTOMER}; {STAYS}")).await;
    assert_same(&whole_of(&orders).await, &wanted, "the shape, and what the server makes of the file");
    writers.write_on(200).await;
    for part in ["orders_low", "orders_mid_0", "\"Orders mid 1\"", "orders_rest"] {
        assert_ne!(orders.text(&format!("SELECT count(*)::text FROM {part}")).await, "0", "{part} has rows");
    }
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    // Some write straight to partitions to the last moment.
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    is_direct.store(false, Ordering::SeqCst);
    // Whatever was tried once can be tried again, and made final.
    run_beside(&rebuild, &[]).await.exits(0);
    is_direct.store(true, Ordering::SeqCst);
    writers.write_on(50).await;
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(20).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&whole_of(&orders).await, &wanted, "the shape, made final");
    orders.assert_no_helpers().await;
    assert_ne!(before, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partitioned_table_that_is_written_directly_becomes_plain_and_comes_back() {
    let test = "on_postgres_a_partitioned_table_that_is_written_directly_becomes_plain_and_comes_back";
    let orders = Orders::with_rows(6_000).await;
    divided(&orders).await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let file = File::of(PLAIN);
    let is_direct = Arc::new(AtomicBool::new(true));
    let writers = Mover::start(&orders, seed(test), 3, &is_direct).await;
    writers.write_on(50).await;
    let is_read = Arc::new(AtomicBool::new(true));
    let reader = tokio::spawn(reading(orders.connect().await, Arc::clone(&is_read)));
    let straight = tokio::spawn(writing_straight(orders.connect().await, Arc::clone(&is_read)));
    let (path, budget) = (file.path(), "1s");
    run_beside(&["rebuild", "orders", "--as", &path, "-t", &url, "--yes", "--lock-budget", budget], &[])
        .await
        .exits(0);
    is_read.store(false, Ordering::SeqCst);
    reader.await.expect("it reads");
    assert!(straight.await.expect("it writes") > 50);
    let wanted = made_of(&format!("{PLAIN}; {STAYS}")).await;
    assert_same(&whole_of(&orders).await, &wanted, "the shape, and what the server makes of the file");
    is_direct.store(false, Ordering::SeqCst);
    writers.write_on(150).await;
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    is_direct.store(true, Ordering::SeqCst);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&whole_of(&orders).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}

/// Reads all the time, so that the swap waits for its second lock: whoever was not kept out by the first writes meanwhile.
async fn reading(mut connection: sqlx::postgres::PgConnection, is_read: Arc<AtomicBool>) {
    while is_read.load(Ordering::SeqCst) {
        let read = "BEGIN; SELECT FROM orders LIMIT 1; SELECT pg_sleep(0.25); COMMIT";
        run(&mut connection, read).await.expect("read");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Writes one partition alone, and never the table, for as long as it is there.
async fn writing_straight(mut connection: sqlx::postgres::PgConnection, is_written: Arc<AtomicBool>) -> i64 {
    let mut written = 0;
    while is_written.load(Ordering::SeqCst) {
        let id = -1 - written;
        let write = format!(
            "BEGIN; INSERT INTO orders_low (id, customer_id) VALUES ({id}, 1);
             INSERT INTO audit (tx, id, \"row\") SELECT 'straight', id, {ROW} FROM orders_low WHERE id = {id}; COMMIT"
        );
        if run(&mut connection, &write).await.is_err() {
            break;
        }
        written += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written
}

/// Makes the table partitioned by the server's own means.
async fn divided(orders: &Orders) {
    orders
        .execute(&format!(
            "ALTER TABLE orders RENAME TO was; {BY_CUSTOMER}; INSERT INTO orders (id, customer_id, amount, note, code, version)
             SELECT id, customer_id, amount, note, code, version FROM was; DROP TABLE was; {STAYS};
             UPDATE orders SET customer_id = 300000 WHERE id % 5 = 0; UPDATE orders SET customer_id = 900000 WHERE id % 7 = 0;
             DELETE FROM audit; INSERT INTO audit (tx, id, \"row\") SELECT 'start', id, {} FROM orders; ANALYZE orders",
            ROW
        ))
        .await;
}

/// Other bounds, under names of which some are those of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_partitions_become_others_of_the_same_names_and_come_back() {
    let test = "on_postgres_partitions_become_others_of_the_same_names_and_come_back";
    let orders = Orders::with_rows(4_000).await;
    divided(&orders).await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let (columns, _) = BY_CUSTOMER.split_once("PARTITION BY").expect("it has partitions");
    let shape = format!(
        "{columns} PARTITION BY LIST (customer_id);
         CREATE TABLE orders_low PARTITION OF orders FOR VALUES IN (300000, 900000);
         CREATE TABLE orders_rest PARTITION OF orders DEFAULT PARTITION BY RANGE (id);
         CREATE TABLE orders_mid PARTITION OF orders_rest FOR VALUES FROM (MINVALUE) TO (2000);
         CREATE TABLE orders_high PARTITION OF orders_rest FOR VALUES FROM (2000) TO (MAXVALUE);
         CREATE INDEX orders_code ON orders (code)"
    );
    let file = File::of(&shape);
    let is_direct = Arc::new(AtomicBool::new(false));
    let writers = Mover::start(&orders, seed(test), 3, &is_direct).await;
    run_beside(&["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"], &[]).await.exits(0);
    let wanted = made_of(&format!("{shape}; {STAYS}")).await;
    assert_same(&whole_of(&orders).await, &wanted, "the shape, and what the server makes of the file");
    writers.write_on(100).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(30).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&whole_of(&orders).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}

/// TRUNCATE of one partition, of one that is divided itself, and of the whole; each calls no trigger for a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_partitions_that_are_emptied_after_the_swap_are_empty_after_the_way_back() {
    let orders = Orders::with_rows(2_000).await;
    orders.execute("UPDATE orders SET customer_id = 300000 WHERE id % 5 = 0").await;
    orders.execute("UPDATE orders SET customer_id = 900000 WHERE id % 7 = 0").await;
    let url = orders.url();
    let file = File::of(BY_CUSTOMER);
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    let rows = "SELECT md5(string_agg(o::text, ';' ORDER BY id)) FROM orders AS o";
    for emptied in ["orders_rest", "orders_mid_0", "orders_mid", "orders"] {
        run_beside(&rebuild, &[]).await.exits(0);
        assert_ne!(orders.text(&format!("SELECT count(*)::text FROM {emptied}")).await, "0");
        // All rows were compared by then: what follows is known from the log alone.
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_beside(&revert, &[("REPLANK_KILL_AT", "swap_intended")]).await.was_killed();
        orders
            .execute(&format!(
                "BEGIN; INSERT INTO orders (id, customer_id) SELECT n, n * 100 FROM generate_series(100000, 100100) AS n;
                 TRUNCATE {emptied}; INSERT INTO orders (id, customer_id) VALUES (3000000, 900001); COMMIT;
                 DELETE FROM orders WHERE id = 11"
            ))
            .await;
        let wanted = orders.text(rows).await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(orders.text(rows).await, wanted, "{emptied} was emptied");
        orders
            .execute(
                "DELETE FROM orders WHERE id > 2000; INSERT INTO orders (id, customer_id) VALUES (11, 5)",
            )
            .await;
        orders
            .execute(
                "INSERT INTO orders (id, customer_id) SELECT n, CASE WHEN n % 7 = 0 THEN 900000 ELSE 300000 END
                 FROM generate_series(1, 2000) AS n ON CONFLICT DO NOTHING",
            )
            .await;
    }
    orders.assert_no_helpers().await;
}

/// A partition that comes or goes takes rows with it that no trigger tells of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partition_that_comes_or_goes_stops_the_way_back_until_it_is_as_it_was() {
    let orders = Orders::with_rows(1_000).await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let ranges = "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, amount numeric(12, 2), note varchar(40), code varchar(40),
         version int NOT NULL DEFAULT 0, total int GENERATED ALWAYS AS (version * 10) STORED) PARTITION BY RANGE (id);
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (MINVALUE) TO (500);
         CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (500) TO (10000)";
    let file = File::of(ranges);
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&rebuild, &[]).await.exits(0);
    orders
        .execute(
            "CREATE TABLE more (LIKE orders INCLUDING ALL); INSERT INTO more (id, customer_id) VALUES (20000, 7);
             ALTER TABLE orders ATTACH PARTITION more FOR VALUES FROM (10000) TO (30000)",
        )
        .await;
    let rows = "SELECT md5(string_agg(o::text, ';' ORDER BY id)) FROM orders AS o";
    let kept = orders.text(rows).await;
    run_beside(&revert, &[])
        .await
        .exits(1)
        .says("came or went")
        .says("more FOR VALUES")
        .says("DETACH PARTITION");
    assert_eq!(orders.text(rows).await, kept, "the new table stays, and all its rows");
    // What was written to it meanwhile goes with it.
    orders.execute("INSERT INTO orders (id, customer_id) VALUES (20001, 8), (9000, 9); DELETE FROM orders WHERE id = 3").await;
    orders.execute("ALTER TABLE orders DETACH PARTITION more").await;
    let kept = orders.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM orders").await;
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(orders.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM orders").await, kept);
    orders.execute("DROP TABLE more; DELETE FROM orders WHERE id = 9000").await;
    assert_same(&whole_of(&orders).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;

    run_beside(&rebuild, &[]).await.exits(0);
    let kept = orders.text(rows).await;
    orders
        .execute("ALTER TABLE orders DETACH PARTITION orders_2; ALTER TABLE orders ATTACH PARTITION orders_2 FOR VALUES FROM (500) TO (10000)")
        .await;
    run_beside(&revert, &[]).await.exits(1).says("taken out and put back");
    orders.execute("ALTER TABLE orders DETACH PARTITION orders_2").await;
    run_beside(&revert, &[]).await.exits(1).says("orders_2 FOR VALUES").says("finalize");
    orders.execute("ALTER TABLE orders ATTACH PARTITION orders_2 FOR VALUES FROM (500) TO (10000)").await;
    assert_eq!(orders.text(rows).await, kept);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.text(rows).await, kept);
    orders.assert_no_helpers().await;
}

/// The same while a partitioned table is read: it is never swapped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partition_that_comes_while_rows_are_copied_stops_the_run() {
    let orders = Orders::with_rows(3_000).await;
    divided(&orders).await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let file = File::of(PLAIN);
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    for change in [
        "ALTER TABLE orders DETACH PARTITION orders_low",
        "CREATE TABLE orders_new PARTITION OF orders FOR VALUES FROM (500000) TO (500001)",
    ] {
        run_beside(&rebuild, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
        let ids = orders.text("SELECT count(*)::text FROM orders").await;
        orders.execute(change).await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[])
            .await
            .says("came or went")
            .says("replank abort");
        assert_eq!(
            orders.text("SELECT relkind::text FROM pg_class WHERE oid = 'orders'::regclass").await,
            "p"
        );
        run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        orders
            .execute(if change.contains("DETACH") {
                "ALTER TABLE orders ATTACH PARTITION orders_low FOR VALUES FROM (MINVALUE) TO (250000)"
            } else {
                "DROP TABLE orders_new"
            })
            .await;
        assert_eq!(orders.text("SELECT count(*)::text FROM orders").await, ids);
        assert_same(&whole_of(&orders).await, &before, "the shape, before and after");
        orders.assert_no_helpers().await;
    }
}

/// What hangs on the table follows it into its partitions, and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_hangs_on_a_table_follows_it_into_partitions_and_back() {
    let orders = Orders::with_rows(1_000).await;
    orders
        .execute(
            "CREATE TABLE log (id bigint, what text); CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO log VALUES (NEW.id, TG_OP); RETURN NEW; END $$;
             CREATE TRIGGER noted BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION noted();
             CREATE SEQUENCE counted OWNED BY orders.id; ALTER TABLE orders ALTER id SET DEFAULT nextval('counted');
             SELECT setval('counted', 5000);
             CREATE VIEW seen AS SELECT id, note FROM orders;
             COMMENT ON TABLE orders IS 'all of them'; COMMENT ON COLUMN orders.code IS 'theirs';
             CREATE STATISTICS pairs ON customer_id, version FROM orders; GRANT SELECT ON orders TO PUBLIC;
             ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id > 0);
             CREATE PUBLICATION told FOR TABLE orders WITH (publish_via_partition_root = true)",
        )
        .await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let shape = "CREATE TABLE orders (id bigint PRIMARY KEY DEFAULT nextval('counted'), customer_id int NOT NULL, amount numeric(12, 2),
         note varchar(40) DEFAULT 'none', code varchar(40), version int NOT NULL DEFAULT 0,
         total int GENERATED ALWAYS AS (version * 10) STORED) PARTITION BY HASH (id);
         CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1)";
    let file = File::of(shape);
    run_beside(&["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"], &[]).await.exits(0);
    let hanging = |lines: Vec<String>| -> Vec<String> {
        let what = ["trigger ", "policy ", "statistics ", "sequence ", "publication ", "view "];
        lines.into_iter().filter(|line| what.iter().any(|kind| line.starts_with(kind))).collect()
    };
    assert_same(&hanging(whole_of(&orders).await), &hanging(before.clone()), "what hangs on it");
    orders
        .execute(
            "INSERT INTO orders (customer_id) VALUES (1), (2); UPDATE orders SET note = 'x' WHERE id = 5",
        )
        .await;
    assert_eq!(
        orders.text("SELECT string_agg(id || what, ' ' ORDER BY id) FROM log").await,
        "5UPDATE 5001INSERT 5002INSERT"
    );
    assert_eq!(orders.text("SELECT count(*)::text FROM seen").await, "1002");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&whole_of(&orders).await, &before, "all of it, before and after");
    assert_eq!(
        orders.text("SELECT count(*)::text FROM log").await,
        "3",
        "triggers are called once for each write"
    );
    orders.assert_no_helpers().await;
}

/// Before PostgreSQL 18 the server would look at every row under the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_foreign_key_follows_into_partitions_where_the_server_can_and_is_refused_elsewhere() {
    let orders = Orders::with_rows(1_000).await;
    orders
        .execute(
            "CREATE TABLE kinds (version int PRIMARY KEY); INSERT INTO kinds VALUES (0), (1);
             ALTER TABLE orders ADD CONSTRAINT kind FOREIGN KEY (version) REFERENCES kinds",
        )
        .await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let file = File::of(BY_CUSTOMER);
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    let version: u32 =
        orders.text("SELECT current_setting('server_version_num')").await.parse().expect("a number");
    if version < 180_000 {
        run_beside(&rebuild, &[]).await.exits(3).says("the foreign key kind: before PostgreSQL 18");
        return;
    }
    run_beside(&rebuild, &[]).await.exits(0);
    let valid = "SELECT bool_and(convalidated)::text FROM pg_constraint WHERE starts_with(conname, 'kind') AND contype = 'f'";
    assert_eq!(orders.text(valid).await, "true");
    let mut writer = orders.connect().await;
    for statement in [
        "INSERT INTO orders (id, customer_id, version) VALUES (5000, 600000, 7)",
        "INSERT INTO orders_rest (id, customer_id, version) VALUES (5000, 600000, 7)",
        "DELETE FROM kinds WHERE version = 0",
    ] {
        run(&mut writer, statement).await.expect_err(statement);
    }
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&whole_of(&orders).await, &before, "all of it, before and after");
    orders.assert_no_helpers().await;
}

/// The slot tells of the plain table; the way back, by triggers, of the partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_slot_follows_a_plain_table_into_partitions_that_its_key_decides() {
    let server = postgres_own_server(&["-c", "max_slot_wal_keep_size=1GB"]).await;
    let orders = Orders::within(server.database().await, 3_000).await;
    let (url, before) = (orders.url(), whole_of(&orders).await);
    let by_slot = |path: &str| {
        ["rebuild", "orders", "--as", path, "-t", &url, "--yes", "-D", "capture=slot"].map(ToOwned::to_owned)
    };
    let file = File::of(BY_CUSTOMER);
    let rebuild = by_slot(&file.path());
    let words: Vec<&str> = rebuild.iter().map(String::as_str).collect();
    run_beside(&words, &[]).await.exits(3).says("the key grows");
    let (columns, _) = PLAIN.split_once(");").expect("it ends");
    let file = File::of(&format!(
        "{columns}) PARTITION BY HASH (id); CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    ));
    let rebuild = by_slot(&file.path());
    let words: Vec<&str> = rebuild.iter().map(String::as_str).collect();
    run_beside(&words, &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    let rows = "SELECT md5(string_agg(o::text, ';' ORDER BY id)) FROM orders AS o";
    orders
        .execute(
            "BEGIN; TRUNCATE orders; INSERT INTO orders (id, customer_id) SELECT n, 1 FROM generate_series(2990, 3100) AS n; COMMIT;
             DELETE FROM orders WHERE id = 3000",
        )
        .await;
    let wanted = orders.text(rows).await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.text(rows).await, wanted);
    orders.execute("TRUNCATE orders_0; UPDATE orders_1 SET note = 'direct' WHERE id < 3050").await;
    let wanted = orders.text(rows).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.text(rows).await, wanted);
    assert_same(&whole_of(&orders).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}
