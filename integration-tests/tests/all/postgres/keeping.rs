//! SET TABLESPACE, LOGGED, UNLOGGED, ACCESS METHOD as a rebuild: beside the server's own ALTER TABLE, and with crashes of the
//! server, which empty what is UNLOGGED.

use super::Table;
use super::application::{Application, Orders};
use super::table::{connect, query, run};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::{OwnServer, postgres_database, postgres_own_server};
use crate::stopped::Stopped;

/// A server with two more tablespaces and another access method.
async fn server() -> OwnServer {
    let server = postgres_own_server(&[]).await;
    for name in ["fast", "other"] {
        server.shell(&format!("mkdir -p /tmp/{name} && chown postgres /tmp/{name}"));
        let mut connection = connect(&server.url_of("postgres")).await;
        run(&mut connection, &format!("CREATE TABLESPACE {name} LOCATION '/tmp/{name}'")).await.expect(name);
    }
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_where_and_how_a_table_is_kept_changes_under_load_and_back() {
    let test = "on_postgres_where_and_how_a_table_is_kept_changes_under_load_and_back";
    let server = server().await;
    for (made, statement) in [
        ("", "ALTER TABLE orders SET TABLESPACE fast"),
        ("ALTER TABLE orders SET TABLESPACE fast", "ALTER TABLE orders SET TABLESPACE pg_default"),
        ("", "ALTER TABLE orders SET UNLOGGED"),
        (
            "ALTER TABLE orders SET UNLOGGED",
            "ALTER TABLE orders SET LOGGED, SET TABLESPACE fast, ALTER customer_id TYPE bigint",
        ),
        ("", "ALTER TABLE orders SET ACCESS METHOD stacked"),
    ] {
        println!("{statement}");
        let mut orders = Orders::within(server.database().await, 1_500).await;
        orders.execute("CREATE ACCESS METHOD stacked TYPE TABLE HANDLER heap_tableam_handler").await;
        if !made.is_empty() {
            orders.alter(made).await;
        }
        // A table of ours is not where those of this login would be by themselves.
        let (name, url) = (orders.name().to_owned(), orders.url());
        orders
            .execute(&format!("ALTER ROLE postgres IN DATABASE {name} SET default_tablespace = other"))
            .await;
        let before = orders.definition().await;
        let writers = Application::start(&orders, seed(test), 2).await;
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0).says("P129");
        writers.write_on(50).await;
        orders.execute(&format!("ALTER ROLE postgres IN DATABASE {name} RESET default_tablespace")).await;
        let journal = writers.stop().await;
        judge(test, &journal);
        orders.check_there_and_back(&journal, &before, statement).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_index_stays_in_its_tablespace() {
    let server = server().await;
    let database = server.database().await;
    let mut connection = connect(&database.url).await;
    let made = "CREATE TABLE t (id int PRIMARY KEY USING INDEX TABLESPACE fast, n int UNIQUE, m int);
         CREATE INDEX other ON t (m) TABLESPACE other; CREATE INDEX plain ON t (n, m);
         INSERT INTO t SELECT n, n, n FROM generate_series(1, 300) AS n";
    run(&mut connection, made).await.expect(made);
    let places = "SELECT string_agg(concat_ws(' ', indexname, tablespace), ', ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 't'";
    let expected = "other other, plain, t_n_key, t_pkey fast";
    let mut place = async || -> String { sqlx::Row::get(&query(&mut connection, places).await[0], 0) };
    assert_eq!(place().await, expected);
    let retype = "ALTER TABLE t ALTER n TYPE bigint, ALTER m TYPE bigint";
    run_beside(&["apply", "-t", &database.url, "-e", retype, "--yes"], &[]).await.exits(0);
    assert_eq!(place().await, expected);
    run_beside(&["revert", "last", "-t", &database.url, "--yes"], &[]).await.exits(0);
    assert_eq!(place().await, expected);
}

/// Sequences, all with their tables.
async fn sequences(url: &str) -> Vec<String> {
    let mut connection = connect(url).await;
    let sql = "SELECT concat_ws(' ', d.refobjid::regclass, a.attname, q.relpersistence, pg_sequence_last_value(q.oid)::text)
               FROM pg_class q JOIN pg_depend d ON d.objid = q.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
               JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid WHERE q.relkind = 'S' AND d.refobjid = 'counts'::regclass ORDER BY 1";
    query(&mut connection, sql).await.iter().map(|row| sqlx::Row::get(row, 0)).collect()
}

/// One that is set back by a crash, under a table that is not, would give numbers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_counters_last_as_their_table_does() {
    let (live, twin) = (postgres_database().await, postgres_database().await);
    let made = "CREATE TABLE counts (id bigserial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text);
                INSERT INTO counts (v) SELECT 'v' FROM generate_series(1, 30)";
    for url in [&live.url, &twin.url] {
        run(&mut connect(url).await, made).await.expect(made);
    }
    let before = sequences(&live.url).await;
    for lasting in ["UNLOGGED", "LOGGED"] {
        let statement = format!("ALTER TABLE counts SET {lasting}");
        run_beside(&["apply", "-t", &live.url, "-e", &statement, "--yes"], &[]).await.exits(0);
        run(&mut connect(&twin.url).await, &statement).await.expect(&statement);
        assert_eq!(sequences(&live.url).await, sequences(&twin.url).await, "{statement}");
        run_beside(&["revert", "last", "-t", &live.url, "--yes"], &[]).await.exits(0);
        run_beside(&["apply", "-t", &live.url, "-e", &statement, "--yes", "--no-revert"], &[]).await.exits(0);
        assert_eq!(sequences(&live.url).await, sequences(&twin.url).await, "{statement}, again");
    }
    assert_eq!(sequences(&live.url).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_would_fail_under_the_lock_of_a_swap_to_unlogged_is_refused_by_name() {
    let table = Table::with_rows(20).await;
    let url = table.url();
    table
        .execute(
            "CREATE PUBLICATION told FOR TABLE orders; CREATE UNLOGGED TABLE light (id int PRIMARY KEY, customer int);
             CREATE TABLE heavy (id int PRIMARY KEY, customer int CONSTRAINT whose REFERENCES customers);
             CREATE UNLOGGED TABLE child (id int PRIMARY KEY, parent int CONSTRAINT parent REFERENCES light);
             CREATE TABLE byday (d date) PARTITION BY RANGE (d); CREATE TABLE kept PARTITION OF byday DEFAULT",
        )
        .await;
    let before = table.schema().await;
    for (statement, says) in [
        ("ALTER TABLE orders SET UNLOGGED", "the publication told"),
        ("ALTER TABLE customers SET UNLOGGED", "the foreign key whose of heavy"),
        ("ALTER TABLE child SET LOGGED", "the foreign key parent refers to light"),
        ("ALTER TABLE byday SET UNLOGGED", "one by one"),
        ("ALTER TABLE heavy SET UNLOGGED, SET LOGGED", "twice"),
        ("ALTER TABLE heavy SET TABLESPACE nowhere", "nowhere"),
        ("ALTER TABLE heavy SET ACCESS METHOD nowhere", "nowhere"),
    ] {
        let ended = run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await;
        println!("{statement}: {:?}\n{}{}", ended.code, ended.out, ended.err);
        assert!(matches!(ended.code, Some(2 | 3)), "{statement}");
        ended.says(says);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    for statement in [
        "ALTER TABLE heavy SET LOGGED",
        "ALTER TABLE light SET UNLOGGED",
        "ALTER TABLE heavy SET TABLESPACE pg_default",
        "ALTER TABLE heavy SET ACCESS METHOD heap",
    ] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[])
            .await
            .exits(0)
            .says("nothing to do");
    }
    // What comes when the plan is made stops the swap, and nothing is lost by that.
    let heavy = ["apply", "-t", &url, "-e", "ALTER TABLE heavy SET UNLOGGED", "--yes"];
    let stopped = Stopped::at("swap_intended", &heavy).await;
    table.execute("CREATE PUBLICATION late FOR TABLE heavy").await;
    let ended = stopped.go_on().await;
    assert_ne!(ended.code, Some(0));
    ended.says("the publication late");
    table.execute("DROP PUBLICATION late").await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
}

/// A partitioned table has no rows: what it says is for partitions that come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partitioned_table_names_the_tablespace_of_what_comes() {
    let server = server().await;
    let table = Table::within(server.database().await, 10).await;
    table.execute("CREATE TABLE byday (d date) PARTITION BY RANGE (d); CREATE TABLE kept PARTITION OF byday DEFAULT").await;
    let spaces =
        "SELECT string_agg(relname || ' ' || coalesce(spcname, '-'), ', ' ORDER BY relname) FROM pg_class c
                  LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE relname IN ('byday', 'kept')";
    let before = table.text(spaces).await;
    let url = table.url();
    let statement = "ALTER TABLE byday SET TABLESPACE fast";
    run_beside(&["plan", "-t", &url, "-e", statement], &[]).await.exits(0).says("strategy instant");
    run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(spaces).await, "byday fast, kept -");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text(spaces).await, before);
}

/// The shadow is emptied while its chunks count as copied, by a crash that writers meet as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_crash_that_empties_the_new_table_loses_no_row() {
    let test = "on_postgres_a_crash_that_empties_the_new_table_loses_no_row";
    let server = postgres_own_server(&["-c", "max_slot_wal_keep_size=4GB"]).await;
    for (boundary, capture) in [
        ("chunk_committed:5", "trigger"),
        ("index_built", "trigger"),
        ("verify_chunk_done:3", "trigger"),
        ("swap_intended", "trigger"),
        ("chunk_committed:5", "slot"),
        ("swap_intended", "slot"),
    ] {
        println!("{boundary}, {capture}");
        let orders = Orders::within(server.database().await, 1_000).await;
        let (url, before) = (orders.url(), orders.definition().await);
        let writers = Application::start(&orders, seed(test), 2).await;
        let (statement, by) = ("ALTER TABLE orders SET UNLOGGED", format!("capture={capture}"));
        let chunks = ["--throttle", "chunk_rows_max=100", "-D", &by];
        let apply = [&["apply", "-t", &url, "-e", statement, "--yes"], &chunks[..]].concat();
        let stopped = Stopped::at(boundary, &apply).await;
        server.kill().await;
        stopped.wake();
        server.start().await;
        let ended = stopped.end().await.exits(0);
        assert!(!ended.err.contains("differed without a change"), "{}", ended.err);
        writers.write_on(50).await;
        let journal = writers.stop().await;
        assert!(journal.summary().acknowledged > 20, "the writers wrote next to nothing");
        orders.check_there_and_back(&journal, &before, statement).await;
    }
}

/// Rows that the application has lost must not come back with the new table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_crash_that_empties_the_live_table_is_followed_by_the_new_one() {
    let server = postgres_own_server(&[]).await;
    for boundary in ["chunk_committed:5", "index_built", "swap_intended"] {
        println!("{boundary}");
        let table = Table::within(server.database().await, 1_000).await;
        table.execute("ALTER TABLE orders SET UNLOGGED").await;
        let url = table.url();
        let set = [
            "apply",
            "-t",
            &url,
            "-e",
            "ALTER TABLE orders SET LOGGED",
            "--yes",
            "--throttle",
            "chunk_rows_max=100",
        ];
        let stopped = Stopped::at(boundary, &set).await;
        server.kill().await;
        server.start().await;
        assert_eq!(table.text("SELECT count(*)::text FROM orders").await, "0", "the crash empties it");
        table.execute("INSERT INTO orders VALUES (7, 1, 1, 'new'), (5000, 1, 1, 'new')").await;
        stopped.wake();
        stopped.end().await.exits(0);
        let rows = "SELECT string_agg(id || ' ' || note, ', ' ORDER BY id) FROM orders";
        assert_eq!(table.text(rows).await, "7 new, 5000 new");
        assert_eq!(
            table.text("SELECT relpersistence::text FROM pg_class WHERE relname = 'orders'").await,
            "p"
        );
        // The old table is emptied by another one, and is brought into step by the way back.
        server.kill().await;
        server.start().await;
        table.execute("UPDATE orders SET note = 'newer' WHERE id = 7").await;
        assert_eq!(table.text(rows).await, "7 newer, 5000 new");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(rows).await, "7 newer, 5000 new");
        assert_eq!(
            table.text("SELECT relpersistence::text FROM pg_class WHERE relname = 'orders'").await,
            "u"
        );
        let left = "SELECT count(*)::text FROM pg_class WHERE starts_with(relname, '_rp_')";
        assert_eq!(table.text(left).await, "0");
    }
}

/// What was there before the crash is in the old table alone, and is not removed from there because of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_crash_after_the_swap_to_unlogged_leaves_the_old_rows_until_they_are_final() {
    let server = postgres_own_server(&[]).await;
    let table = Table::within(server.database().await, 300).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE orders SET UNLOGGED", "--yes"], &[]).await.exits(0);
    table.execute("UPDATE orders SET note = 'late' WHERE id = 1").await;
    server.kill().await;
    server.start().await;
    table.execute("INSERT INTO orders VALUES (7, 1, 1, 'new')").await;
    let mut said = String::new();
    for command in [&["revert", "last"][..], &["verify", "last"]] {
        let ended = run_beside(&[command, &["-t", &url, "--yes"]].concat(), &[]).await;
        println!("{command:?}: {:?}\n{}{}", ended.code, ended.out, ended.err);
        assert_ne!(ended.code, Some(0));
        said = ended.err.split_whitespace().collect::<Vec<_>>().join(" ");
        ended.says("has emptied").says("WHERE NOT EXISTS (").says("replank finalize");
    }
    let kept = table.text("SELECT relname::text FROM pg_class WHERE relname LIKE '\\_rp\\_%retired'").await;
    assert_eq!(table.text(&format!("SELECT count(*)::text FROM \"{kept}\"")).await, "300");
    // As a person would, who copies it from there.
    let (_, rest) = said.split_once("take what you need: ").expect("a statement");
    let (statement, _) = rest.split_once("; then").expect("its end");
    table.execute(statement).await;
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE orders SET LOGGED", "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT count(*) || ' ' || min(note) FROM orders").await, "300 new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_options_of_a_table_and_of_reindex_are_kept_and_taken_back() {
    let server = server().await;
    let table = Table::within(server.database().await, 200).await;
    let url = table.url();
    table.execute("ALTER TABLE orders ADD COLUMN long text").await;
    table.execute("ALTER TABLE orders SET (fillfactor = 80, toast.autovacuum_enabled = false)").await;
    let options = "SELECT array_to_string(c.reloptions, ',') || ' ' || coalesce(array_to_string(t.reloptions, ','), '-')
                   FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.relname = 'orders'";
    for (action, now) in [
        (
            "SET (fillfactor = 60, autovacuum_enabled = off)",
            "fillfactor=60,autovacuum_enabled=off autovacuum_enabled=false",
        ),
        ("RESET (toast.autovacuum_enabled)", "fillfactor=80 -"),
        ("SET (toast.autovacuum_enabled = on)", "fillfactor=80 autovacuum_enabled=on"),
    ] {
        let statement = format!("ALTER TABLE orders {action}");
        run_beside(&["apply", "-t", &url, "-e", &statement, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(options).await, now, "{action}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(options).await, "fillfactor=80 autovacuum_enabled=false", "{action}");
    }
    let places = "SELECT string_agg(c.relname || ' ' || coalesce(t.spcname, '-'), ', ' ORDER BY c.relname) FROM pg_index i
                  JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE i.indrelid = 'orders'::regclass";
    let one = "REINDEX (TABLESPACE fast, VERBOSE) INDEX orders_note";
    run_beside(&["apply", "-t", &url, "-e", one, "--yes"], &[]).await.exits(3).says("no way back");
    for (statement, now) in [
        (one, "orders_note fast, orders_pkey -"),
        ("REINDEX (CONCURRENTLY, TABLESPACE \"other\") TABLE orders", "orders_note other, orders_pkey other"),
    ] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes", "--no-revert"], &[]).await.exits(0);
        assert_eq!(table.text(places).await, now, "{statement}");
    }
    let nowhere =
        ["apply", "-t", &url, "-e", "REINDEX (TABLESPACE nowhere) TABLE orders", "--yes", "--no-revert"];
    run_beside(&nowhere, &[]).await.exits(2).says("nowhere");
}
