//! Partitions come and go, and partitioned tables get indexes and columns, while others read and write.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use sqlx::Row as _;

use super::Table;
use super::table::{Writers, query, run};
use crate::binary::{replank, run_beside};

/// Nobody waits for longer than two locks of 200 ms, one after another, on a machine that is busy.
const LONGEST: Duration = Duration::from_millis(1500);

/// `orders`, partitioned by its key, with an index, a CHECK and a foreign key; and `later`, a table of its own that lacks
/// all three and the key.
async fn partitioned() -> Table {
    let table = Table::with_rows(1).await;
    table
        .execute(
            "DROP TABLE orders;
             CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL REFERENCES customers (id), amount numeric(12, 2),
                                  note varchar(20), CONSTRAINT positive CHECK (amount >= 0)) PARTITION BY RANGE (id);
             CREATE INDEX ON orders (note);
             CREATE TABLE orders_small PARTITION OF orders FOR VALUES FROM (0) TO (1000000);
             CREATE TABLE orders_large PARTITION OF orders FOR VALUES FROM (1000000) TO (20000000) PARTITION BY RANGE (id);
             CREATE TABLE orders_large_a PARTITION OF orders_large FOR VALUES FROM (1000000) TO (2000000);
             CREATE TABLE orders_large_b PARTITION OF orders_large DEFAULT;
             INSERT INTO orders SELECT n, n % 100, n, 'note ' || n FROM generate_series(1, 5000) AS n;
             CREATE TABLE later (id bigint, customer int, amount numeric(12, 2), note varchar(20));
             INSERT INTO later SELECT 20000000 + n, n % 100, n, 'note ' || n FROM generate_series(1, 20000) AS n",
        )
        .await;
    table
}

const ATTACH: &str = "ALTER TABLE orders ATTACH PARTITION later FOR VALUES FROM (20000000) TO (30000000)";

async fn partitions(table: &Table) -> String {
    table
        .text("SELECT string_agg(relid::text, ' ' ORDER BY relid::text) FROM pg_partition_tree('orders')")
        .await
}

async fn invalid(table: &Table) -> String {
    table.text("SELECT count(*)::text FROM pg_index WHERE NOT indisvalid").await
}

/// How often the server looks through the tables for a statement, which is taken back.
async fn scans(table: &Table, statement: &str, tables: &[&str]) -> Option<i64> {
    let mut connection = table.connect().await;
    run(&mut connection, "BEGIN").await.expect("begun");
    run(&mut connection, statement).await.ok()?;
    let counted = tables.iter().map(|name| format!("pg_stat_get_xact_numscans('{name}'::regclass)"));
    let sql = format!("SELECT {}", counted.collect::<Vec<_>>().join(" + "));
    let scans: i64 = query(&mut connection, &sql).await[0].get(0);
    run(&mut connection, "ROLLBACK").await.expect("taken back");
    Some(scans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_table_becomes_a_partition_and_one_again_under_load() {
    let table = partitioned().await;
    let url = table.url();
    let before = (table.schema().await, partitions(&table).await);
    let writers = Writers::start(&table, 3).await;
    run_beside(&["apply", "-t", &url, "-e", ATTACH, "--yes"], &[]).await.exits(0).says("later_note_idx");
    assert!(partitions(&table).await.contains("later"));
    assert_eq!(invalid(&table).await, "0");
    assert_eq!(table.text("SELECT count(*)::text FROM orders WHERE id > 20000000").await, "20000");
    let attached = table.schema().await;
    assert!(!attached.iter().any(|line| line.contains("_rp_")), "{attached:?}");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!((table.schema().await, partitions(&table).await), before);
    // There again, and off by a statement of its own, with a way back that looks at no row under a lock.
    run_beside(&["apply", "-t", &url, "-e", ATTACH, "--yes", "--no-revert"], &[]).await.exits(0);
    let detach = "ALTER TABLE orders DETACH PARTITION later";
    run_beside(&["apply", "-t", &url, "-e", detach, "--yes"], &[])
        .await
        .exits(0)
        .says("detaches it while others");
    assert_eq!(partitions(&table).await, before.1);
    table.execute("UPDATE later SET amount = 7 WHERE id = 20000007").await;
    assert_eq!(scans(&table, ATTACH, &["later"]).await, Some(0), "the way back looks at every row");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, attached);
    assert_eq!(table.text("SELECT amount::text FROM orders WHERE id = 20000007").await, "7.00");
    run_beside(&["apply", "-t", &url, "-e", detach, "--yes"], &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let final_one = table.schema().await;
    assert!(!final_one.iter().any(|line| line.contains("_rp_")), "{final_one:?}");
    let longest = writers.stop(&table).await;
    assert!(longest < LONGEST, "a writer waited for {} ms", longest.as_millis());
}

/// Killed after each step it goes on with the next; and what is there before ATTACH saves it every look at rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_attach_looks_at_no_row_under_its_lock_and_goes_on_after_each_kill() {
    let table = partitioned().await;
    let url = table.url();
    table.execute("CREATE TABLE orders_other PARTITION OF orders DEFAULT; INSERT INTO orders VALUES (90000000, 1, 1, 'far')").await;
    let before = table.schema().await;
    let apply = ["apply", "-t", &url, "-e", ATTACH, "--yes"];
    let (first, later) = ([("REPLANK_KILL_AT", "step_done")], [("REPLANK_KILL_AT", "step_done:2")]);
    run_beside(&apply, &first).await.was_killed();
    let (mut kills, mut fewest) = (1, None);
    loop {
        let found = scans(&table, ATTACH, &["later", "orders_other"]).await;
        fewest = [fewest, found].into_iter().flatten().min();
        if run_beside(&apply, &later).await.code.is_some() {
            break;
        }
        kills += 1;
        assert!(kills < 30, "it does not get on");
    }
    assert_eq!(fewest, Some(0), "ATTACH looks at rows under its lock");
    let attached = table.schema().await;
    assert!(partitions(&table).await.contains("later"));
    assert!(!attached.iter().any(|line| line.contains("_rp_")), "{attached:?}");
    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&revert, &first).await.was_killed();
    while run_beside(&revert, &later).await.code.is_none() {
        kills += 1;
        assert!(kills < 60, "it does not get back");
    }
    assert_eq!(table.schema().await, before);
}

/// The first of its two transactions is over, and the second never came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_detach_that_is_cut_short_is_brought_to_its_end_or_taken_back() {
    let table = partitioned().await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", ATTACH, "--yes", "--no-revert"], &[]).await.exits(0);
    let attached = table.schema().await;
    let detach = "ALTER TABLE orders DETACH PARTITION later";
    let going = "SELECT count(*)::text FROM pg_inherits WHERE inhdetachpending";
    for ends in ["apply", "abort"] {
        let apply = ["apply", "-t", &url, "-e", detach, "--yes"];
        // A session that has seen it as a partition keeps the second transaction waiting, and ours from beginning.
        let mut old = table.connect().await;
        run(&mut old, "BEGIN; LOCK TABLE ONLY orders IN ACCESS SHARE MODE").await.expect("read");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut runner = replank(&apply).stderr(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(runner.stderr.take().expect("a pipe"));
        let waits = said.lines().map_while(Result::ok).any(|line| line.contains("holds the table"));
        assert!(waits, "it does not come to the detach");
        runner.kill().expect("killed");
        runner.wait().expect("ended");
        let mut own = table.connect().await;
        let cut = run(&mut own, &format!("SET lock_timeout = 200; {detach} CONCURRENTLY")).await;
        assert!(cut.is_err(), "several statements in one message are a transaction");
        run(&mut own, "SET lock_timeout = 200").await.expect("set");
        run(&mut own, &format!("{detach} CONCURRENTLY")).await.expect_err("it was waiting");
        assert_eq!(table.text(going).await, "1");
        run(&mut old, "COMMIT").await.expect("ended");
        if ends == "apply" {
            run_beside(&apply, &[]).await.exits(0);
            assert!(!partitions(&table).await.contains("later"));
            run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        } else {
            run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        }
        assert_eq!(table.text(going).await, "0");
        assert_eq!(table.schema().await, attached, "{ends}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_index_of_a_partitioned_table_is_built_partition_by_partition_under_load() {
    let table = partitioned().await;
    let url = table.url();
    let before = table.schema().await;
    let writers = Writers::start(&table, 3).await;
    for statement in [
        "CREATE INDEX by_customer ON orders (customer, lower(note)) WHERE amount > 10",
        "CREATE UNIQUE INDEX ON orders (note, id)",
        "DROP INDEX orders_note_idx",
        "ALTER TABLE orders ADD CHECK (amount < 1e9), ALTER customer SET DEFAULT 7, ALTER note SET NOT NULL",
    ] {
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        assert_ne!(table.schema().await, before, "{statement}");
        assert_eq!(invalid(&table).await, "0", "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    let add = "ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new'";
    let file = "SELECT pg_relation_filenode('orders_small')::text";
    let old = table.text(file).await;
    let apply = ["apply", "-t", &url, "-e", add, "--yes", "--no-revert"];
    let mut ended = run_beside(&apply, &[]).await;
    // On a machine that is busy five tables may take longer than the budget: it gives way, and says so.
    for _ in 0..5 {
        if ended.code == Some(5) {
            ended = run_beside(&apply, &[]).await;
        }
    }
    ended.exits(0);
    assert_eq!(table.text(file).await, old, "rows were written anew");
    let longest = writers.stop(&table).await;
    assert!(longest < LONGEST, "a writer waited for {} ms", longest.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_index_of_a_partitioned_table_goes_on_after_each_kill() {
    let table = partitioned().await;
    let url = table.url();
    let before = table.schema().await;
    for statement in ["CREATE INDEX by_customer ON orders (customer)", "DROP INDEX orders_note_idx"] {
        let apply = ["apply", "-t", &url, "-e", statement, "--yes"];
        let (first, later) = ([("REPLANK_KILL_AT", "step_done")], [("REPLANK_KILL_AT", "step_done:2")]);
        run_beside(&apply, &first).await.was_killed();
        let mut kills = 1;
        while run_beside(&apply, &later).await.code.is_none() {
            kills += 1;
            assert!(kills < 40, "it does not get on");
        }
        assert!(kills > 8, "one for each step: {kills}");
        assert_eq!(invalid(&table).await, "0");
        let revert = ["revert", "last", "-t", &url, "--yes"];
        run_beside(&revert, &first).await.was_killed();
        while run_beside(&revert, &later).await.code.is_none() {
            kills += 1;
            assert!(kills < 80, "it does not get back");
        }
        assert_eq!(table.schema().await, before, "{statement}");
    }
    // Given up half-way, nothing stays.
    let apply = ["apply", "-t", &url, "-e", "CREATE INDEX by_customer ON orders (customer)", "--yes"];
    run_beside(&apply, &[("REPLANK_KILL_AT", "step_done:4")]).await.was_killed();
    assert_ne!(table.schema().await, before);
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, before);
}

/// A partition that comes before the parent's index is declared has no part of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partition_that_comes_meanwhile_is_told_and_the_index_is_never_taken_for_whole() {
    let table = partitioned().await;
    let url = table.url();
    let before = table.schema().await;
    let apply = ["apply", "-t", &url, "-e", "CREATE INDEX by_customer ON orders (customer)", "--yes"];
    // Planned, and not begun: a long transaction holds the table.
    let mut old = table.connect().await;
    run(&mut old, "BEGIN; LOCK TABLE ONLY orders IN ROW EXCLUSIVE MODE").await.expect("held");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let applied = tokio::spawn({
        let url = url.clone();
        async move {
            run_beside(
                &["apply", "-t", &url, "-e", "CREATE INDEX by_customer ON orders (customer)", "--yes"],
                &[],
            )
            .await
        }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    table
        .execute("CREATE TABLE early PARTITION OF orders_large FOR VALUES FROM (9000000) TO (9000010)")
        .await;
    run(&mut old, "COMMIT").await.expect("ended");
    let ended = applied.await.expect("it ends");
    assert_ne!(ended.code, Some(0), "{}", ended.out);
    let ended = ended.says("early");
    assert!(ended.err.contains("resume") || ended.out.contains("resume"), "{}", ended.err);
    // Another one, that comes later, gets its part by the server.
    table.execute("CREATE TABLE soon PARTITION OF orders_large FOR VALUES FROM (9000010) TO (9000020)").await;
    run_beside(&apply, &[]).await.says("early");
    let part = table.text("SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'orders_large'::regclass AND pg_get_indexdef(c.oid) LIKE '%(customer)'").await;
    table
        .execute(&format!(
            "CREATE INDEX early_c ON early (customer); ALTER INDEX {part} ATTACH PARTITION early_c"
        ))
        .await;
    run_beside(&apply, &[]).await.exits(0);
    assert_eq!(invalid(&table).await, "0");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.execute("DROP TABLE early, soon").await;
    assert_eq!(table.schema().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_partitions_do_not_take_is_told_before_anything_is_begun() {
    let table = partitioned().await;
    let url = table.url();
    table.execute("CREATE TABLE odd (id bigint, customer text); CREATE TABLE more (LIKE orders); INSERT INTO more VALUES (5, 1)").await;
    let before = table.schema().await;
    let range = |name: &str, from: u32, to: u32| {
        format!("ALTER TABLE orders ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})")
    };
    for (statement, exit, says) in [
        (range("later", 1_500_000, 30_000_000), 2, "overlap"),
        (range("later", 20_000_000, 20_000_010), 3, "out of the bounds"),
        (range("odd", 30_000_000, 40_000_000), 2, ""),
        (range("nowhere", 30_000_000, 40_000_000), 2, "nowhere"),
        (range("orders_large", 30_000_000, 40_000_000), 3, "partitioned itself"),
        ("ALTER TABLE orders DETACH PARTITION later".to_owned(), 2, "no partition of orders"),
        ("ALTER TABLE later DETACH PARTITION orders".to_owned(), 2, "not partitioned"),
        ("CREATE UNIQUE INDEX ON orders (customer)".to_owned(), 2, "partitioning"),
        ("ALTER TABLE orders ADD UNIQUE (customer)".to_owned(), 2, "partitioning"),
        ("DROP INDEX orders_small_note_idx".to_owned(), 3, "DROP INDEX orders_note_idx"),
        ("REINDEX TABLE orders".to_owned(), 3, "each of its partitions"),
        ("ALTER TABLE orders ALTER id TYPE numeric".to_owned(), 2, "partition key"),
    ] {
        println!("{statement}");
        run_beside(&["apply", "-t", &url, "-e", &statement, "--yes"], &[]).await.exits(exit).says(says);
        assert_eq!(table.schema().await, before, "{statement}");
    }
}

/// PARTITION OF would lock the parent, and look through its default partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partition_is_made_and_then_attached_and_nobody_who_holds_the_parent_is_waited_for() {
    let table = partitioned().await;
    let url = table.url();
    table.execute("CREATE TABLE orders_other PARTITION OF orders DEFAULT").await;
    let before = (table.schema().await, partitions(&table).await);
    let mut old = table.connect().await;
    run(&mut old, "BEGIN; LOCK TABLE ONLY orders IN ROW EXCLUSIVE MODE").await.expect("held");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let make = "CREATE TABLE orders_next PARTITION OF orders FOR VALUES FROM (40000000) TO (50000000) WITH (fillfactor = 70)";
    run_beside(&["apply", "-t", &url, "-e", make, "--yes"], &[]).await.exits(0).says("P126");
    assert!(partitions(&table).await.contains("orders_next"));
    run(&mut old, "COMMIT").await.expect("ended");
    assert_eq!(invalid(&table).await, "0");
    let made = table.schema().await;
    assert!(made.iter().any(|line| line.contains("orders_next r fillfactor=70")), "{made:?}");
    assert!(!made.iter().any(|line| line.contains("_rp_")), "{made:?}");
    table.execute("INSERT INTO orders VALUES (40000001, 1, 1, 'n')").await;
    let revert = ["revert", "last", "-t", &url, "--yes"];
    let kept = run_beside(&revert, &[]).await;
    assert_ne!(kept.code, Some(0), "a table with rows was dropped");
    kept.says("has rows");
    let there = "SELECT count(*)::text FROM orders WHERE id = 40000001";
    assert_eq!(table.text(there).await, "1", "a row was taken out of the parent");
    table.execute("DELETE FROM orders_next").await;
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!((table.schema().await, partitions(&table).await), before);
}

/// Each kind of bounds is understood by the server as its own: it looks at no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_lists_hashes_times_and_defaults_are_attached_as_ranges_are() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    for (name, key, first, bound, rows) in [
        ("l", "LIST (a)", "FOR VALUES IN ('x')", "FOR VALUES IN ('y', NULL)", "'y'"),
        (
            "h",
            "HASH (b)",
            "FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            "FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
            "NULL LIMIT 0",
        ),
        ("d", "LIST (a)", "FOR VALUES IN ('x')", "DEFAULT", "'z'"),
        (
            "e",
            "RANGE (lower(a), b)",
            "FOR VALUES FROM ('a', MINVALUE) TO ('m', 5)",
            "FOR VALUES FROM ('m', 5) TO (MAXVALUE, MAXVALUE)",
            "'Q'",
        ),
        (
            "t",
            "RANGE (at)",
            "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
            "FOR VALUES FROM ('2025-01-01 00:00+05:30') TO ('2026-01-01 00:00+05:30')",
            "'t'",
        ),
    ] {
        table.execute(&format!(
            "SET TimeZone = 'Asia/Kolkata'; CREATE TABLE {name} (a text, b int DEFAULT 1, at timestamptz) PARTITION BY {key};
             CREATE TABLE {name}_first PARTITION OF {name} {first}; CREATE TABLE {name}_new (LIKE {name} INCLUDING DEFAULTS);
             INSERT INTO {name}_new (a) SELECT {rows}; UPDATE {name}_new SET at = '2025-06-01', b = 9"
        )).await;
        if name == "h" {
            table.execute("INSERT INTO h_new (b) SELECT n FROM generate_series(1, 50) AS n WHERE satisfies_hash_partition('h'::regclass, 2, 1, n)").await;
        }
        let attach = format!("ALTER TABLE {name} ATTACH PARTITION {name}_new {bound}");
        let before = table.schema().await;
        let apply = ["apply", "-t", &url, "-e", &attach, "--yes"];
        run_beside(&apply, &[("REPLANK_KILL_AT", "step_done:2")]).await.was_killed();
        assert_eq!(scans(&table, &attach, &[&format!("{name}_new")]).await, Some(0), "{name}");
        run_beside(&apply, &[]).await.exits(0);
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{name}");
    }
    // Of a text's hash it believes no CHECK.
    table.execute("CREATE TABLE w (a text) PARTITION BY HASH (a); CREATE TABLE w_new (a text)").await;
    let attach = "ALTER TABLE w ATTACH PARTITION w_new FOR VALUES WITH (MODULUS 2, REMAINDER 0)";
    run_beside(&["apply", "-t", &url, "-e", attach, "--yes"], &[]).await.exits(3).says("hash of text");
}

/// What came since may make the server look at rows, or build, under the lock of the way back: no longer than a moment. And
/// another table of that name is not attached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_detached_partition_comes_back_within_a_moment_or_not_at_all() {
    let table = Table::with_rows(1).await;
    let url = table.url();
    // Each look at a row takes 2 ms.
    table
        .execute(
            "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN $1; END';
             CREATE TABLE parts (id int) PARTITION BY RANGE (slow(id));
             CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100); INSERT INTO parts SELECT generate_series(1, 10)",
        )
        .await;
    run_beside(&["apply", "-t", &url, "-e", "ALTER TABLE parts DETACH PARTITION low", "--yes"], &[])
        .await
        .exits(0);
    table
        .execute("CREATE TABLE rest PARTITION OF parts DEFAULT; INSERT INTO parts SELECT generate_series(1001, 1500)")
        .await;
    let revert = ["revert", "last", "-t", &url, "--yes"];
    run_beside(&revert, &[]).await.exits(5).says("longer under its lock");
    table.execute("DROP TABLE rest; ALTER TABLE low RENAME TO kept; CREATE TABLE low (id int)").await;
    run_beside(&revert, &[]).await.exits(1).says("another one than the plan was made for");
    table.execute("DROP TABLE low; ALTER TABLE kept RENAME TO low").await;
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(table.text("SELECT count(*)::text FROM parts").await, "10");
}

/// Keys of the whole: each partition gets its own while others write, and a kill after any step is gone on from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_partitioned_table_gets_its_keys_partition_by_partition_under_load() {
    let table = partitioned().await;
    let url = table.url();
    table
        .execute(
            "CREATE TABLE \"Parts\" (\"Id\" int, day date, n int) PARTITION BY RANGE (day);
             CREATE TABLE \"Parts_1\" PARTITION OF \"Parts\" FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
             CREATE TABLE parts_2 PARTITION OF \"Parts\" DEFAULT;
             INSERT INTO \"Parts\" SELECT i, '2024-06-01'::date + i, i FROM generate_series(1, 2000) AS i",
        )
        .await;
    let before = table.schema().await;
    let writers = Writers::start(&table, 2).await;
    for statement in [
        "ALTER TABLE orders ADD CONSTRAINT once UNIQUE (id, customer) DEFERRABLE",
        "ALTER TABLE \"Parts\" ADD PRIMARY KEY (\"Id\", day)",
    ] {
        let apply = ["apply", "-t", &url, "-e", statement, "--yes"];
        let revert = ["revert", "last", "-t", &url, "--yes"];
        let (first, later) = ([("REPLANK_KILL_AT", "step_done")], [("REPLANK_KILL_AT", "step_done:2")]);
        for command in [&apply[..], &revert[..]] {
            run_beside(command, &first).await.was_killed();
            let mut killed = 1;
            while run_beside(command, &later).await.code.is_none() {
                killed += 1;
                assert!(killed < 40, "{statement}: it does not come on");
            }
            assert!(killed > 3, "{statement}: killed {killed} times");
            let keys =
                "SELECT count(*)::text FROM pg_constraint WHERE contype IN ('p', 'u') AND conparentid <> 0";
            println!("{statement}: killed {killed} times, {} keys of partitions", table.text(keys).await);
            assert_eq!(invalid(&table).await, "0");
        }
        assert_eq!(table.schema().await, before, "{statement}");
        run_beside(&apply, &[]).await.exits(0);
        let name = if statement.contains("once") { "once" } else { "Parts_pkey" };
        let whole = format!(
            "SELECT (SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = c.conindid)::text || ' ' ||
                    (SELECT count(*) FROM pg_constraint p WHERE p.conparentid = c.oid) FROM pg_constraint c WHERE c.conname = '{name}'"
        );
        assert_eq!(table.text(&whole).await, "true 2", "{statement}");
        run_beside(&revert, &[]).await.exits(0);
        assert_eq!(table.schema().await, before, "{statement}");
    }
    let longest = writers.stop(&table).await;
    assert!(longest < LONGEST, "a writer waited for {} ms", longest.as_millis());
    for (statement, exit, says) in [
        ("ALTER TABLE \"Parts\" ADD PRIMARY KEY (\"Id\")", 2, "must include all partitioning columns"),
        ("ALTER TABLE \"Parts\" ADD UNIQUE (day, n)", 3, "rows"),
    ] {
        table.execute("INSERT INTO \"Parts\" VALUES (5000, '2024-06-02', 1)").await;
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(exit).says(says);
        assert_eq!(table.schema().await, before, "{statement}");
    }
}
