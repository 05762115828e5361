//! ALTER TABLE in steps: what the catalogue alone takes, what is looked at while others write, and what is refused.

use std::time::{Duration, Instant};

use super::Table;
use super::table::{Writers, run};
use crate::binary::run_beside;
use crate::kills::make_final_what_takes_back;

const ROWS: u64 = 20_000;

/// There and back under load, with no write that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_changes_of_the_catalogue_and_constraints_go_there_and_back_under_load() {
    let table = Table::with_rows(ROWS).await;
    let url = table.url();
    let before = table.schema().await;
    let writers = Writers::start(&table, 3).await;
    for statement in [
        "ALTER TABLE orders ALTER COLUMN amount SET NOT NULL",
        "ALTER TABLE orders ADD CHECK (amount < 1e9), ALTER customer SET DEFAULT 7",
        "ALTER TABLE orders ADD CONSTRAINT who FOREIGN KEY (customer) REFERENCES customers (id)",
        "ALTER TABLE orders ADD CONSTRAINT pair UNIQUE (id, note)",
        "ALTER TABLE orders DROP CONSTRAINT positive",
        "ALTER TABLE orders DROP CONSTRAINT positive, ADD CONSTRAINT positive CHECK (amount >= 0 AND amount < 1e9)",
    ] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        assert_ne!(table.schema().await, before, "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    // A column's values are kept, by a rebuild that takes it off.
    let add = "ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new' CONSTRAINT known CHECK (state <> '')";
    run_beside(&["apply", "-t", &url, "-e", add, "--yes"], &[]).await.exits(0).says("keeps what was written");
    let added = table.schema().await;
    assert_eq!(table.text("SELECT count(*)::text FROM orders WHERE state <> 'new'").await, "0");
    table.execute("UPDATE orders SET state = 'of ' || id WHERE id <= 50").await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[])
        .await
        .exits(0)
        .says("keeps what was written since");
    let mut now = table.schema().await;
    now.retain(|line| !line.contains("_rp_"));
    assert_eq!(now, before);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, added);
    assert_eq!(table.text("SELECT count(*)::text FROM orders WHERE state = 'of ' || id").await, "50");
    writers.stop(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_takes_another_run_back_is_made_final_after_that_one_is_over() {
    let table = Table::with_rows(200).await;
    let url = table.url();
    let before = table.schema().await;
    let add = "ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new'";
    make_final_what_takes_back(&url, add).await;
    assert_eq!(table.schema().await, before);
}

/// Killed after each step, it goes on with the next, and repeats none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_after_each_step_it_goes_on_with_the_next() {
    let table = Table::with_rows(100).await;
    let url = table.url();
    let before = table.schema().await;
    let statement = "ALTER TABLE orders ALTER COLUMN amount SET NOT NULL, ADD CONSTRAINT pair UNIQUE (id, note), ADD COLUMN extra int";
    let apply = ["apply", "-t", &url, "-e", statement, "--yes"];
    // The first passage of every later try is of the step that was done before the kill.
    let (first, later) = ([("REPLANK_KILL_AT", "step_done")], [("REPLANK_KILL_AT", "step_done:2")]);
    run_beside(&apply, &first).await.was_killed();
    let mut kills = 1;
    while run_beside(&apply, &later).await.code.is_none() {
        kills += 1;
        assert!(kills < 20, "it does not get on");
    }
    assert_eq!(kills, 6, "one for each step");
    let schema = table.schema().await;
    assert!(schema.iter().any(|line| line.contains("amount numeric(12,2) true")), "{schema:?}");
    assert!(!schema.iter().any(|line| line.contains("_rp_")), "{schema:?}");
    let revert = ["revert", "last", "-t", &url, "--yes", "--no-revert"];
    run_beside(&revert, &first).await.was_killed();
    while run_beside(&revert, &later).await.code.is_none() {
        kills += 1;
        assert!(kills < 40, "it does not get back");
    }
    assert_eq!(table.schema().await, before);
}

/// A lock is not queued for behind a transaction that holds the table for long: nobody else waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_long_transaction_delays_the_change_and_nobody_else() {
    let table = Table::with_rows(100).await;
    let url = table.url();
    let mut old = table.connect().await;
    run(&mut old, "BEGIN; SELECT count(*) FROM orders").await.expect("read");
    let apply = tokio::spawn({
        let url = url.clone();
        async move {
            let statement = "ALTER TABLE orders ADD COLUMN extra int";
            run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await
        }
    });
    let (until, mut longest) = (Instant::now() + Duration::from_secs(4), Duration::ZERO);
    let mut reader = table.connect().await;
    while Instant::now() < until {
        let began = Instant::now();
        run(&mut reader, "SELECT count(*) FROM orders; UPDATE orders SET amount = 3 WHERE id = 3")
            .await
            .expect("read");
        longest = longest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!apply.is_finished(), "it does not wait");
    assert!(longest < Duration::from_millis(700), "others waited for {} ms", longest.as_millis());
    run(&mut old, "COMMIT").await.expect("ended");
    apply.await.expect("it ends").exits(0).says("holds the table").says("SELECT count");
    assert_eq!(table.text("SELECT count(extra)::text FROM orders").await, "0");
}

/// Whatever would write or look at every row under a lock is refused, and so is what is not understood; nothing changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_would_hold_others_up_is_refused_and_nothing_is_changed() {
    let table = Table::with_rows(100).await;
    let url = table.url();
    table
        .execute("CREATE VIEW seen AS SELECT id FROM orders; UPDATE orders SET amount = NULL WHERE id = 9")
        .await;
    let before = table.schema().await;
    for (statement, exit, says) in [
        ("ALTER TABLE orders SET UNLOGGED, SET LOGGED", 3, "said twice"),
        ("ALTER TABLE orders ALTER id TYPE numeric", 3, "the view seen"),
        ("ALTER TABLE orders ALTER amount SET NOT NULL", 3, "NULL"),
        ("ALTER TABLE orders DROP COLUMN id", 3, "the view seen"),
        ("ALTER TABLE orders RENAME COLUMN note TO remark", 3, "C004"),
        ("ALTER TABLE orders RENAME TO sales", 3, "C003"),
        ("ALTER TABLE orders ADD EXCLUDE USING gist (id WITH =)", 3, ""),
        ("ALTER TABLE seen ALTER id SET DEFAULT 1", 3, "is a view"),
        ("ALTER TABLE pg_class ADD COLUMN x int", 3, "server's own"),
        ("ALTER TABLE nowhere ADD COLUMN x int", 2, "nowhere"),
        ("ALTER TABLE orders DROP COLUMN nope", 2, "nope"),
        ("ALTER TABLE orders ADD COLUMN note int", 2, "note"),
        ("ALTER TABLE orders ADD COLUMN x nosuchtype", 2, "nosuchtype"),
        ("ALTER TALBE orders ADD COLUMN x int", 2, ""),
        ("ALTER TABLE orders ADD COLUMN x int; DROP TABLE orders", 2, "one statement"),
        ("CREATE INDEX ON orders (nope)", 2, "nope"),
        ("CREATE INDEX orders_note ON orders (id)", 2, "orders_note"),
        ("DROP INDEX nope", 2, "nope"),
        ("DROP INDEX IF EXISTS nope", 0, "nothing to do"),
        ("ALTER TABLE orders ATTACH PARTITION p DEFAULT", 2, "orders is not partitioned"),
        ("ALTER TABLE orders INHERIT p", 3, "not run by replank yet"),
        ("DROP INDEX orders_pkey", 3, "constraint orders_pkey"),
        ("DROP TABLE orders", 3, "the view seen"),
        ("TRUNCATE orders", 3, "not run by replank"),
    ] {
        println!("{statement}");
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(exit).says(says);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    for statement in [
        "ALTER TABLE orders ALTER customer TYPE bigint",
        "ALTER TABLE orders ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        "ALTER TABLE orders ADD COLUMN twice numeric GENERATED ALWAYS AS (amount * 2) STORED",
        // A CHECK on it would be looked at again.
        "ALTER TABLE orders ALTER amount TYPE numeric(14, 2)",
        "ALTER TABLE orders DROP COLUMN note",
    ] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        assert_ne!(table.schema().await, before, "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    run_beside(&["doctor", "-t", &url], &[]).await.exits(0).says("server process of its own");
    run_beside(&["plan", "-t", &url, "-e", "ALTER TABLE orders ADD x int"], &[])
        .await
        .exits(0)
        .says("instant");
    assert_eq!(table.schema().await, before);
}

/// What widens a type without a look at the rows is told by the server, not by a list of types. Back, every row would be looked
/// at under a lock: that is a rebuild, which loses no row that has grown since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_types_that_widen_take_a_moment_and_a_rebuild_gives_them_back() {
    let table = Table::with_rows(100).await;
    let (url, before) = (table.url(), table.schema().await);
    let file = "SELECT pg_relation_filenode('orders')::text";
    let there = table.text(file).await;
    let both = "ALTER TABLE orders ALTER COLUMN note TYPE text, ADD COLUMN more int";
    run_beside(&["plan", "-t", &url, "-e", both], &[])
        .await
        .exits(0)
        .says("strategy shadow")
        .says("make that a statement of its own");
    let grow = "ALTER TABLE orders ALTER note TYPE varchar(30)";
    let plan = run_beside(&["plan", "-t", &url, "-e", grow], &[]).await.exits(0);
    plan.says("strategy instant").says("by a rebuild, which names the rows");
    run_beside(&["apply", "-t", &url, "-e", grow, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(file).await, there);
    table.execute("UPDATE orders SET note = repeat('long ', 5) WHERE id = 7").await;

    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&[&revert[..], &["--no-revert"]].concat(), &[])
        .await
        .exits(3)
        .says("only a rebuild gives back");
    run_beside(&revert, &[]).await.exits(3).says("1 row does not fit column note (first keys: id = 7)");
    assert_eq!(table.text("SELECT note FROM orders WHERE id = 7").await, "long long long long long ");
    table.execute("UPDATE orders SET note = 'short' WHERE id = 7").await;
    run_beside(&revert, &[]).await.exits(0).says("a rebuild gives back");
    assert_eq!(table.text("SELECT count(*)::text FROM orders").await, "100");
    assert_eq!(table.text("SELECT note FROM orders WHERE id = 7").await, "short");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, before);

    let there = table.text(file).await;
    run_beside(&["apply", "-t", &url, "-e", both, "--yes", "--no-revert"], &[]).await.exits(0);
    assert_eq!(table.text(file).await, there);
    assert_eq!(table.text("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'note'").await, "text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_login_that_lacks_a_privilege_is_told_which() {
    let table = Table::with_rows(10).await;
    let name = table.text("SELECT current_database()").await;
    let login = format!("u{name}");
    table.execute(&format!("CREATE ROLE {login} LOGIN PASSWORD 'secret-word'; ALTER TABLE orders OWNER TO {login}; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")).await;
    let url = table.url().replacen("postgres:replank", &format!("{login}:secret-word"), 1);
    let doctor = run_beside(&["doctor", "-t", &url], &[]).await.exits(3).says("GRANT TEMPORARY ON DATABASE");
    assert!(!doctor.out.contains("secret-word") && !doctor.err.contains("secret-word"));
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE orders ADD x int", "--yes"], &[])
        .await
        .exits(3)
        .says("GRANT TEMPORARY");
    // A service is known by the role that only it has.
    table.execute("DROP ROLE IF EXISTS cloudsqlsuperuser; CREATE ROLE cloudsqlsuperuser").await;
    let service = run_beside(&["doctor", "-t", &url], &[]).await;
    table.execute("DROP ROLE cloudsqlsuperuser").await;
    service.exits(3).says("Google Cloud SQL").says("GRANT pg_read_all_stats TO");
    let wrong = table.url().replacen("replank@", "wrong@", 1);
    run_beside(&["doctor", "-t", &wrong], &[]).await.exits(2).says("refuses the login");
    let nowhere = table.url().replacen(&format!("/{name}"), "/nowhere", 1);
    run_beside(&["doctor", "-t", &nowhere], &[]).await.exits(2).says("nowhere");
}
