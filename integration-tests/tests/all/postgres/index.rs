//! Indexes, built, dropped and built anew while others write.

use std::time::Duration;

use super::Table;
use super::table::{Writers, run};
use crate::binary::run_beside;
use crate::stopped::Stopped;

const ROWS: u64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_indexes_are_built_dropped_and_built_anew_under_load_and_taken_back() {
    let table = Table::with_rows(ROWS).await;
    let url = table.url();
    let before = table.schema().await;
    let writers = Writers::start(&table, 3).await;
    for (statement, says) in [
        ("CREATE INDEX ON orders (customer, lower(note)) WHERE amount > 10", "orders_customer_lower_idx"),
        ("CREATE INDEX CONCURRENTLY \"Odd name\" ON public.orders USING hash (note)", "Odd name"),
        ("CREATE UNIQUE INDEX orders_pair ON ONLY orders (id, customer) INCLUDE (note)", "orders_pair"),
        ("DROP INDEX orders_note", "orders_note"),
        ("DROP INDEX CONCURRENTLY public.orders_note", "orders_note"),
    ] {
        let apply = ["apply", "-t", &url, "-e", statement, "--yes"];
        run_beside(&apply, &[]).await.exits(0).says(says).says("while others read and write");
        assert_ne!(table.schema().await, before, "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    for (statement, renewed) in
        [("REINDEX INDEX orders_note", "orders_note"), ("REINDEX TABLE orders", "orders_pkey")]
    {
        let number = format!("SELECT '{renewed}'::regclass::oid::text");
        let old = table.text(&number).await;
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        assert_ne!(table.text(&number).await, old, "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    writers.stop(&table).await;
}

/// What an interrupted build leaves is never taken for an index, and never stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_build_that_is_interrupted_leaves_nothing_that_counts_as_an_index() {
    let table = Table::with_rows(ROWS).await;
    let url = table.url();
    let before = table.schema().await;
    let create = "CREATE INDEX orders_late ON orders (customer)";
    let apply = ["apply", "-t", &url, "-e", create, "--yes"];
    // Somebody's transaction that is older holds the build up: it is killed just there, and the runner with it.
    let mut old = table.connect().await;
    run(&mut old, "BEGIN; UPDATE orders SET amount = 1 WHERE id = 1").await.expect("written");
    let run_it = tokio::spawn({
        let url = url.clone();
        async move { run_beside(&["apply", "-t", &url, "-e", create, "--yes"], &[]).await }
    });
    let invalid = "SELECT count(*)::text FROM pg_index WHERE NOT indisvalid";
    wait_for(&table, invalid, "1").await;
    // Others are not held up.
    let mut reader = table.connect().await;
    run(&mut reader, "SET statement_timeout = 1000; UPDATE orders SET amount = 2 WHERE id = 2")
        .await
        .expect("not held up");
    let sessions = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE query LIKE '%orders_late%' AND pid <> pg_backend_pid()";
    table.text(sessions).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    run(&mut old, "COMMIT").await.expect("committed");
    run_it.await.expect("it ends").exits(0);
    assert_eq!(table.text(invalid).await, "0");
    let made = table.schema().await;
    assert_eq!(made.len(), before.len() + 2, "{made:?}");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);

    // The tool is killed while the server builds.
    run(&mut old, "BEGIN; UPDATE orders SET amount = 1 WHERE id = 1").await.expect("written");
    let stopped = Stopped::at("run_saved", &apply).await;
    stopped.wake();
    wait_for(&table, invalid, "1").await;
    stopped.signal("KILL");
    stopped.end().await;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        run(&mut old, "COMMIT").await.expect("committed");
    });
    run_beside(&apply, &[]).await.exits(0);
    assert_eq!(table.schema().await, made);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);

    // What somebody else has left of that name.
    table.execute("INSERT INTO orders VALUES (-1, 1, 1, 'twice'), (-2, 1, 1, 'twice')").await;
    let mut left = table.connect().await;
    run(&mut left, "CREATE UNIQUE INDEX CONCURRENTLY orders_late ON orders (note)")
        .await
        .expect_err("two are equal");
    assert_eq!(table.text(invalid).await, "1");
    run_beside(&apply, &[]).await.exits(0).says("interrupted build");
    assert_eq!(table.schema().await, made);
}

/// Given up while the server builds, nothing of it stays: neither an index nor what is none yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_build_that_is_given_up_leaves_nothing() {
    let table = Table::with_rows(ROWS).await;
    let url = table.url();
    let before = table.schema().await;
    let mut old = table.connect().await;
    let invalid = "SELECT count(*)::text FROM pg_index WHERE NOT indisvalid";
    for statement in [
        "CREATE INDEX orders_late ON orders (customer)",
        "REINDEX INDEX orders_note",
        "DROP INDEX orders_note",
    ] {
        println!("{statement}");
        run(&mut old, "BEGIN; UPDATE orders SET amount = 1 WHERE id = 1").await.expect("written");
        let apply = tokio::spawn({
            let url = url.clone();
            async move { run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await }
        });
        wait_for(&table, invalid, "1").await;
        let abort = tokio::spawn({
            let url = url.clone();
            async move { run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        run(&mut old, "COMMIT").await.expect("committed");
        abort.await.expect("it ends").exits(0);
        let ended = apply.await.expect("it ends");
        assert_eq!(table.schema().await, before, "{statement}: {}{}", ended.out, ended.err);
    }
    // The runner is gone as well: whoever aborts ends what it has left at work.
    let statement = "CREATE INDEX orders_late ON orders (customer)";
    run(&mut old, "BEGIN; UPDATE orders SET amount = 1 WHERE id = 1").await.expect("written");
    let stopped = Stopped::at("run_saved", &["apply", "-t", &url, "-e", statement, "--yes"]).await;
    stopped.wake();
    wait_for(&table, invalid, "1").await;
    stopped.signal("KILL");
    stopped.end().await;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        run(&mut old, "COMMIT").await.expect("committed");
    });
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, before);
}

/// An index of the same name that is another one is neither taken for ours nor dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_somebody_elses_index_of_the_same_name_is_not_taken_for_ours() {
    let table = Table::with_rows(100).await;
    let url = table.url();
    // It comes after the plan, before the build.
    let apply = ["apply", "-t", &url, "-e", "CREATE INDEX late ON orders (customer)", "--yes"];
    let abort = ["abort", "last", "-t", &url, "--yes"];
    for other in ["CREATE INDEX late ON orders (amount)", "CREATE INDEX late ON customers (id)"] {
        let stopped = Stopped::at("run_saved", &apply).await;
        table.execute(other).await;
        let theirs = table.schema().await;
        let ended = stopped.go_on().await.exits(1).says("somebody else has made an index late");
        assert!(!ended.err.contains("copy") && ended.err.contains("replank abort"), "{}", ended.err);
        run_beside(&abort, &[]).await.exits(0);
        assert_eq!(table.schema().await, theirs, "{other}");
        table.execute("DROP INDEX late").await;
    }
    // In the place of the one that was built, before it is taken back; and of one that is to be dropped.
    run_beside(&apply, &[]).await.exits(0);
    table.execute("DROP INDEX late; CREATE INDEX late ON orders (amount)").await;
    let theirs = table.schema().await;
    let revert = ["revert", "last", "-t", &url, "--yes"];
    let ended = run_beside(&revert, &[]).await.exits(1).says("is not what it was");
    assert!(ended.err.contains("replank revert"), "{}", ended.err);
    assert_eq!(table.schema().await, theirs);
    table.execute("DROP INDEX late").await;
    run_beside(&revert, &[]).await.exits(0);
    let drop = ["apply", "-t", &url, "-e", "DROP INDEX orders_note", "--yes"];
    let stopped = Stopped::at("run_saved", &drop).await;
    table.execute("DROP INDEX orders_note; CREATE INDEX orders_note ON orders (amount)").await;
    let theirs = table.schema().await;
    stopped.go_on().await.exits(1).says("is not what it was");
    assert_eq!(table.schema().await, theirs);
}

/// Who is not shown what others do sees what they lock: a build that goes on is no remainder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_build_of_another_login_is_not_taken_for_a_remainder() {
    let table = Table::with_rows(100).await;
    let plain = format!("plain_{}", std::process::id());
    table
        .execute(&format!(
            "CREATE ROLE {plain} LOGIN PASSWORD 'plain'; ALTER TABLE orders OWNER TO {plain};
             GRANT ALL ON SCHEMA public TO {plain};
             DO $$ BEGIN EXECUTE format('GRANT ALL ON DATABASE %I TO {plain}', current_database()); END $$"
        ))
        .await;
    let url = table.url().replacen("postgres:replank@", &format!("{plain}:plain@"), 1);
    let apply = ["apply", "-t", &url, "-e", "CREATE INDEX late ON orders (amount)", "--yes"];
    let stopped = Stopped::at("run_saved", &apply).await;
    // It waits for this one, with an index that is not valid yet.
    let mut holder = table.connect().await;
    run(&mut holder, "BEGIN; UPDATE orders SET customer = 1 WHERE id = 1").await.expect("held");
    let mut other = table.connect().await;
    let theirs =
        tokio::spawn(
            async move { run(&mut other, "CREATE INDEX CONCURRENTLY late ON orders (customer)").await },
        );
    wait_for(&table, "SELECT count(*)::text FROM pg_index WHERE NOT indisvalid", "1").await;
    let ended = stopped.go_on().await.exits(3);
    ended.says("somebody else builds an index late");
    run(&mut holder, "COMMIT").await.expect("let go");
    theirs.await.expect("joined").expect("their index is built");
    assert_eq!(
        table.text("SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'late'::regclass").await,
        "true"
    );
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(
        table.text("SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'late'::regclass").await,
        "true"
    );
    table
        .execute(&format!("REASSIGN OWNED BY {plain} TO postgres; DROP OWNED BY {plain}; DROP ROLE {plain}"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_equal_rows_refuse_a_unique_index_and_nothing_of_it_stays() {
    let table = Table::with_rows(100).await;
    let url = table.url();
    table.execute("UPDATE orders SET note = 'same' WHERE id IN (3, 4)").await;
    let before = table.schema().await;
    for statement in
        ["CREATE UNIQUE INDEX one ON orders (note)", "ALTER TABLE orders ADD CONSTRAINT one UNIQUE (note)"]
    {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[])
            .await
            .exits(3)
            .says("C010")
            .says("same: 2 rows");
        assert_eq!(table.schema().await, before);
    }
    // By an expression it is the server that finds them.
    let statement = "CREATE UNIQUE INDEX one ON orders (lower(note))";
    run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[])
        .await
        .exits(1)
        .says("could not create unique index");
    assert_eq!(table.schema().await, before, "nothing invalid stays");
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, before);
}

async fn wait_for(table: &Table, query: &str, wanted: &str) {
    for _ in 0..200 {
        if table.text(query).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{query} does not become {wanted}");
}
