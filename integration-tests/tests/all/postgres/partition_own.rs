//! What a partition has by itself.

use super::application::{Orders, assert_same};
use super::partitioned::{File, made_of, whole};
use super::table::run;
use crate::binary::run_beside;

const COLUMNS: &str = "id bigint PRIMARY KEY, customer_id int NOT NULL, amount numeric(12, 2), note varchar(40) DEFAULT 'none', code varchar(40),
    version int NOT NULL DEFAULT 0, total int GENERATED ALWAYS AS (version * 10) STORED";

/// With a CHECK that has no name, and one that has.
fn divided() -> String {
    format!(
        "CREATE TABLE orders ({COLUMNS}) PARTITION BY RANGE (id);
         CREATE TABLE orders_low PARTITION OF orders (CHECK (id < 5000), CHECK (version >= 0), CONSTRAINT few CHECK (customer_id < 900))
             FOR VALUES FROM (MINVALUE) TO (100);
         CREATE TABLE orders_high PARTITION OF orders (note DEFAULT 'high') FOR VALUES FROM (100) TO (MAXVALUE);
         CREATE INDEX orders_code ON orders (code)"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_checks_of_partitions_get_the_names_that_the_server_would_have_given() {
    let mut orders = Orders::with_rows(500).await;
    orders.alter("UPDATE orders SET customer_id = 7").await;
    let (url, before) = (orders.url(), whole(&mut orders.connect().await).await);
    let file = File::of(&divided());
    run_beside(&["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"], &[]).await.exits(0);
    let stays = super::partitioned::STAYS;
    let wanted = made_of(&format!("{}; {stays}", divided())).await;
    assert_same(
        &whole(&mut orders.connect().await).await,
        &wanted,
        "the shape, and what the server makes of the file",
    );
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}

/// What rejects rows must be in the new shape, and the rest is told. An index that is made anew under its name is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_a_partition_has_by_itself_is_refused_or_told_on_the_way_out() {
    let orders = Orders::with_rows(10).await;
    let divided = divided();
    orders
        .execute(&format!(
            "DROP TABLE orders; {divided}; INSERT INTO orders (id, customer_id) SELECT n, 7 FROM generate_series(1, 300) AS n;
             CREATE TABLE kinds (version int PRIMARY KEY); INSERT INTO kinds VALUES (0);
             CREATE UNIQUE INDEX only_here ON orders_high (id, note); CREATE INDEX seldom ON orders_low (note); GRANT SELECT ON orders_low TO PUBLIC"
        ))
        .await;
    let url = orders.url();
    let plain = |more: &str| format!("CREATE TABLE orders ({COLUMNS}{more})");
    let checks = ", CHECK (id < 5000), CHECK (version >= 0), CHECK (customer_id < 900)";
    let out = async |shape: &str, more: &[&str], environment: &[(&str, &str)]| {
        let file = File::of(shape);
        let path = file.path();
        run_beside(&[&["rebuild", "orders", "--as", &path, "-t", &url, "--yes"], more].concat(), environment)
            .await
    };
    out(&plain(""), &[], &[])
        .await
        .exits(3)
        .says("partition orders_low takes only rows that meet few, CHECK ((customer_id < 900))");
    let before = whole(&mut orders.connect().await).await;
    let left = out(&plain(checks), &[], &[("REPLANK_KILL_AT", "chunk_committed")]).await.was_killed();
    left.says("loses only_here of partition orders_high: UNIQUE USING btree (id, note)")
        .says("make it afterwards")
        .says("loses seldom of partition orders_low")
        .says("loses the rights of PUBLIC of partition orders_low: SELECT")
        .says("loses the default of column note of partition orders_high");
    let mut connection = orders.connect().await;
    for index in ["orders_low_pkey", "orders_low_code_idx", "seldom"] {
        run(&mut connection, &format!("REINDEX INDEX CONCURRENTLY {index}")).await.expect("made anew");
    }
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, before and after");
    // A foreign key could not come back into partitions, and that is all.
    orders.execute("ALTER TABLE orders ADD CONSTRAINT kind FOREIGN KEY (version) REFERENCES kinds").await;
    let version: u32 =
        orders.text("SELECT current_setting('server_version_num')").await.parse().expect("a number");
    if version < 180_000 {
        out(&plain(checks), &[], &[]).await.exits(3).says("the foreign key kind").says("--no-revert");
    }
    out(&plain(checks), &["--no-revert"], &[]).await.exits(0);
    let valid = "SELECT conrelid::regclass || ' ' || convalidated FROM pg_constraint WHERE conname = 'kind'";
    assert_eq!(orders.text(valid).await, "orders true");
    orders.assert_no_helpers().await;
}

/// No shape can say either of a partition. On the way back the index is there, and values that it takes once were exchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_unique_index_of_one_partition_and_a_check_of_its_bounds_do_not_keep_others_from_being_made()
 {
    let orders = Orders::with_rows(10).await;
    orders
        .execute(&format!(
            "DROP TABLE orders; CREATE TABLE orders ({COLUMNS}) PARTITION BY RANGE (id);
             CREATE TABLE low (LIKE orders INCLUDING ALL, CHECK (id >= 0 AND id < 100), CONSTRAINT wider CHECK (id IS NOT NULL AND id < 150));
             ALTER TABLE orders ATTACH PARTITION low FOR VALUES FROM (0) TO (100);
             CREATE TABLE high PARTITION OF orders (CONSTRAINT less CHECK (id < 100000)) FOR VALUES FROM (100) TO (MAXVALUE);
             INSERT INTO orders (id, customer_id) SELECT n, n FROM generate_series(1, 300) AS n;
             CREATE UNIQUE INDEX only_here ON high (customer_id)"
        ))
        .await;
    let url = orders.url();
    let file = File::of(&format!(
        "CREATE TABLE orders ({COLUMNS}) PARTITION BY HASH (id); CREATE TABLE one PARTITION OF orders FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    ));
    let path = file.path();
    let rebuild = ["rebuild", "orders", "--as", &path, "-t", &url, "--yes"];
    let told = run_beside(&rebuild, &[]).await.exits(3).says("partition high takes only rows that meet less");
    assert!(!told.err.contains("partition low"), "{}", told.err);
    orders.execute("ALTER TABLE high DROP CONSTRAINT less").await;
    let before = whole(&mut orders.connect().await).await;
    orders.execute("ALTER TABLE high ADD CONSTRAINT late UNIQUE (version, id) DEFERRABLE").await;
    run_beside(&rebuild, &[]).await.exits(3).says("partition high has late").says("may be deferred");
    orders.execute("ALTER TABLE high DROP CONSTRAINT late").await;
    run_beside(&rebuild, &[]).await.exits(0).says("loses only_here of partition high");
    orders
        .execute(
            "UPDATE orders SET customer_id = 501 - customer_id WHERE id IN (250, 251); UPDATE orders SET customer_id = 120 WHERE id = 121;
             UPDATE orders SET customer_id = 121 WHERE id = 120",
        )
        .await;
    let rows = "SELECT md5(string_agg(o::text, ';' ORDER BY id)) FROM orders AS o";
    let wanted = orders.text(rows).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(orders.text(rows).await, wanted);
    assert_same(&whole(&mut orders.connect().await).await, &before, "the shape, before and after");
    orders.assert_no_helpers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_triggers_and_statements_that_partitions_break_are_named() {
    let orders = Orders::with_rows(50).await;
    let made = "CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.customer_id := 600000; RETURN NEW; END $$;
         CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'n'; RETURN NEW; END $$;
         CREATE TRIGGER noting BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION notes();
         CREATE TRIGGER moving BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION moves()";
    orders.execute(made).await;
    orders.execute("DROP INDEX orders_amount").await;
    let url = orders.url();
    // What is left out comes back by the key, which is another one than a person would think.
    let file = File::of(&super::movers::BY_CUSTOMER.replace("amount numeric(12, 2),", ""));
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    run_beside(&rebuild, &[])
        .await
        .says("amount comes back for rows whose key (id, customer_id) did not change since")
        .exits(3)
        .says("refused P138")
        .says("trigger moving: moves() assigns customer_id")
        .says("ON CONFLICT (id) fails from the swap on");
    let file = File::of(super::movers::BY_CUSTOMER);
    let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
    orders.execute("DROP TRIGGER moving ON orders").await;
    run_beside(&rebuild, &[]).await.exits(0).says("trigger noting").says("COPY orders TO fails");
    let mut writer = orders.connect().await;
    run(&mut writer, "INSERT INTO orders (id, customer_id) VALUES (900, 1)")
        .await
        .expect("it stays where it is");
    for fails in [
        "COPY orders TO STDOUT",
        "INSERT INTO orders (id, customer_id) VALUES (901, 1) ON CONFLICT (id) DO NOTHING",
    ] {
        run(&mut writer, fails).await.expect_err(fails);
    }
    orders
        .execute("CREATE TRIGGER moving BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION moves()")
        .await;
    let moved = "INSERT INTO orders (id, customer_id) VALUES (902, 1)";
    let told = run(&mut writer, moved).await.expect_err(moved).to_string();
    assert!(told.contains("moving row to another partition"), "{told}");
    orders.execute("DROP TRIGGER moving ON orders").await;
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    // On the way out nothing of it is so.
    let file = File::of(super::movers::PLAIN);
    let out =
        run_beside(&["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"], &[]).await.exits(0);
    assert!(!out.out.contains("P137") && !out.err.contains("P137"), "{}{}", out.out, out.err);
}
