//! The driver's own rules on a real server: each refuses, warns, or says what handles it, before anything is made; and what
//! is predicted of a statement is what the server does.

use std::time::Duration;

use sqlx::Row as _;

use super::Table;
use super::table::{query, run};
use crate::binary::run_beside;

/// Plans a statement, and checks that the rule speaks; `code` ends with `!` where it refuses.
async fn judged(table: &Table, statement: &str, code: &str) {
    let (before, url, rule) = (table.schema().await, table.url(), code.trim_end_matches('!'));
    let ended = run_beside(&["plan", "-t", &url, "-e", statement, "--no-revert"], &[]).await;
    println!("{code}: {statement}: {:?}\n{}{}", ended.code, ended.out, ended.err);
    let refuses = format!("refused {rule}");
    if code.ends_with('!') {
        ended.exits(3).says(&refuses);
    } else {
        let ended = ended.exits(0).says(rule);
        assert!(!ended.out.contains(&refuses), "{statement}");
    }
    assert_eq!(table.schema().await, before, "`{statement}` changed something");
}

async fn silent(table: &Table, statement: &str, code: &str) {
    let ended = run_beside(&["plan", "-t", &table.url(), "-e", statement, "--no-revert"], &[]).await;
    assert!(
        !ended.out.contains(code) && !ended.err.contains(code),
        "{statement}: {}{}",
        ended.out,
        ended.err
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_rules_judge_what_a_statement_does() {
    let table = Table::with_rows(20).await;
    table
        .execute(
            "CREATE TABLE keyless (a int, b int); CREATE TYPE mood AS ENUM ('a'); CREATE TABLE byday (d date) PARTITION BY RANGE (d);
             CREATE TABLE day1 (d date); CREATE MATERIALIZED VIEW m AS SELECT 1 AS a;
             CREATE TABLE kept PARTITION OF byday FOR VALUES FROM ('2020-01-01') TO ('2021-01-01'); CREATE TABLE days (d date PRIMARY KEY)",
        )
        .await;
    let is_18 = table.text("SELECT current_setting('server_version_num')").await.as_str() >= "180000";
    for (statement, code, not) in [
        ("CREATE INDEX ON orders (amount)", "P101", "CREATE INDEX CONCURRENTLY ON orders (amount)"),
        ("DROP INDEX orders_note", "P102", "DROP INDEX CONCURRENTLY orders_note"),
        ("ALTER TABLE keyless ADD PRIMARY KEY (a)", "P107", "ALTER TABLE keyless ADD UNIQUE (a)"),
        ("ALTER TABLE keyless ADD UNIQUE (a)", "P109", "ALTER TABLE keyless ADD CHECK (a > 0)"),
        ("ALTER TABLE orders ADD EXCLUDE (id WITH =)", "P110", "ALTER TABLE orders ADD UNIQUE (id, note)"),
        (
            "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (customer) REFERENCES customers",
            "P111",
            "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (customer) REFERENCES customers NOT VALID",
        ),
        ("ALTER TABLE orders ADD CHECK (id > 0)", "P113", "ALTER TABLE orders ADD CHECK (id > 0) NOT VALID"),
        (
            "ALTER TABLE orders ALTER amount SET NOT NULL",
            "P114",
            "ALTER TABLE orders ALTER customer SET NOT NULL",
        ),
        (
            "ALTER TABLE orders ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
            "P115",
            "ALTER TABLE orders ADD COLUMN at timestamptz DEFAULT now()",
        ),
        (
            "ALTER TABLE orders ALTER customer TYPE bigint",
            "P118",
            "ALTER TABLE orders ALTER note TYPE varchar(30)",
        ),
        (
            "ALTER TABLE orders ALTER amount TYPE numeric(14, 2)",
            "P119",
            "ALTER TABLE orders ALTER note TYPE text",
        ),
        ("ALTER TABLE orders ADD COLUMN doc json", "P120", "ALTER TABLE orders ADD COLUMN doc jsonb"),
        ("ALTER TYPE mood ADD VALUE 'b'", "P122", "ALTER TYPE mood ADD VALUE 'b' AFTER 'a'"),
        ("ALTER TYPE mood RENAME VALUE 'a' TO 'b'", "P122!", "CREATE TYPE other AS ENUM ('a')"),
        ("VACUUM FULL orders", "P124", "CREATE INDEX ON orders (amount)"),
        ("REINDEX INDEX orders_note", "P125", "REINDEX INDEX CONCURRENTLY orders_note"),
        (
            "ALTER TABLE byday ATTACH PARTITION day1 FOR VALUES FROM ('2024-01-01') TO ('2024-01-02')",
            "P126",
            "ALTER TABLE byday ALTER d SET DEFAULT now()",
        ),
        ("ALTER TABLE byday DETACH PARTITION kept", "P126", "CREATE INDEX ON byday (d)"),
        ("CREATE INDEX ON byday (d)", "P128", "CREATE INDEX ON day1 (d)"),
        ("ALTER TABLE orders SET UNLOGGED", "P129!", "ALTER TABLE orders SET (fillfactor = 70)"),
        ("REFRESH MATERIALIZED VIEW m", "P130!", "CREATE UNIQUE INDEX ON orders (id, amount)"),
        (
            "ALTER TABLE orders ALTER customer DROP NOT NULL",
            "P131",
            "ALTER TABLE orders ALTER customer DROP DEFAULT",
        ),
        (
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
            "P134",
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (customer) REFERENCES customers",
            "P135",
            "ALTER TABLE orders ADD CONSTRAINT g FOREIGN KEY (id) REFERENCES orders",
        ),
        (
            "ALTER TABLE byday ADD CONSTRAINT f FOREIGN KEY (d) REFERENCES days",
            if is_18 { "P111" } else { "P127!" },
            "ALTER TABLE day1 ADD CONSTRAINT f FOREIGN KEY (d) REFERENCES days NOT VALID",
        ),
    ] {
        judged(&table, statement, code).await;
        silent(&table, not, code.trim_end_matches('!')).await;
    }
    // What an interrupted build has left.
    table.execute("INSERT INTO keyless VALUES (1, 1), (1, 1)").await;
    let mut own = table.connect().await;
    run(&mut own, "CREATE UNIQUE INDEX CONCURRENTLY left_over ON keyless (a)")
        .await
        .expect_err("it is not unique");
    judged(&table, "CREATE INDEX CONCURRENTLY left_over ON keyless (a)", "P105").await;
    // A transaction that has held the table for long.
    let mut old = table.connect().await;
    run(&mut old, "BEGIN; SELECT count(*) FROM orders").await.expect("read");
    silent(&table, "ALTER TABLE orders ADD COLUMN quick int", "P150").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    judged(&table, "ALTER TABLE orders ADD COLUMN quick int", "P150").await;
}

/// What the server did in a transaction, which is taken back.
struct Done {
    rewrites: bool,
    scans: bool,
    mode: String,
}

async fn done(table: &Table, action: &str) -> Done {
    let mut connection = table.connect().await;
    let file = "SELECT coalesce(pg_relation_filenode('t')::text, '') || ' ' || pg_stat_get_xact_numscans('t'::regclass)::text";
    run(&mut connection, "BEGIN").await.expect("begun");
    let before: String = query(&mut connection, file).await[0].get(0);
    run(&mut connection, &format!("ALTER TABLE t {action}"))
        .await
        .unwrap_or_else(|error| panic!("{action}: {error}"));
    let after: String = query(&mut connection, file).await[0].get(0);
    let mode = "SELECT string_agg(mode, ' ' ORDER BY mode) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 't'::regclass
                AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')";
    let mode: Option<String> = query(&mut connection, mode).await[0].get(0);
    run(&mut connection, "ROLLBACK").await.expect("taken back");
    let (before, after) = (before.split_once(' ').expect("two"), after.split_once(' ').expect("two"));
    Done { rewrites: before.0 != after.0, scans: before.1 != after.1, mode: mode.unwrap_or_default() }
}

/// Forty forms: what the plan calls instant neither writes nor looks at a row, what the server would write or look through
/// is a rebuild or steps, and no lock is stronger than the plan says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_is_predicted_of_forty_alters_is_what_the_server_does() {
    let table = Table::with_rows(1).await;
    table
        .execute(
            "CREATE DOMAIN small AS int; CREATE DOMAIN checked AS int CHECK (VALUE > 0);
             CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, n numeric(10, 2), v varchar(20), c varchar(20) CHECK (c <> ''), x text, at timestamp,
                             atz timestamptz, i int, b varbit(8), d small, arr int[], ip inet, nn int NOT NULL DEFAULT 5, l varchar(20));
             CREATE INDEX ON t (i); CREATE INDEX ON t (lower(l)); INSERT INTO t SELECT n, n FROM generate_series(1, 300) AS n",
        )
        .await;
    let mut seen = (0, 0);
    for action in [
        "ADD COLUMN z int",
        "ADD COLUMN z int DEFAULT 5",
        "ADD COLUMN z int NOT NULL DEFAULT 5",
        "ADD COLUMN z timestamptz DEFAULT now()",
        "ADD COLUMN z timestamptz DEFAULT clock_timestamp()",
        "ADD COLUMN z double precision DEFAULT random()",
        "ADD COLUMN z uuid DEFAULT gen_random_uuid()",
        "ADD COLUMN z int GENERATED ALWAYS AS IDENTITY",
        "ADD COLUMN z int GENERATED ALWAYS AS (a + 1) STORED",
        "ADD COLUMN z small",
        "ADD COLUMN z checked DEFAULT 1",
        "DROP COLUMN x",
        "ALTER v TYPE varchar(40)",
        "ALTER v TYPE varchar(10)",
        "ALTER v TYPE text",
        "ALTER c TYPE varchar(40)",
        "ALTER l TYPE varchar(40)",
        "ALTER x TYPE varchar(100)",
        "ALTER v TYPE char(20)",
        "ALTER a TYPE bigint",
        "ALTER a TYPE smallint",
        "ALTER n TYPE numeric(12, 2)",
        "ALTER n TYPE numeric(12, 3)",
        "ALTER n TYPE numeric",
        "ALTER at TYPE timestamptz",
        "ALTER atz TYPE timestamp",
        "ALTER at TYPE timestamp(3)",
        "ALTER i TYPE bigint",
        "ALTER b TYPE varbit(16)",
        "ALTER d TYPE int",
        "ALTER arr TYPE bigint[]",
        "ALTER v TYPE text USING lower(v)",
        "ALTER x TYPE text COLLATE \"C\"",
        "ALTER a SET DEFAULT 7",
        "ALTER nn DROP DEFAULT",
        "ALTER x SET STORAGE EXTERNAL",
        "ALTER x SET STATISTICS 500",
        "SET (fillfactor = 70)",
        "ALTER nn DROP NOT NULL",
        "SET UNLOGGED",
    ] {
        let done = done(&table, action).await;
        let statement = format!("ALTER TABLE t {action}");
        let ended =
            run_beside(&["plan", "-t", &table.url(), "-e", &statement, "--no-revert", "--json"], &[]).await;
        let plan = ended.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let plan = plan.into_iter().find_map(|event| event.get("plan").cloned());
        let strategy = plan.as_ref().and_then(|plan| plan["strategy"].as_str()).unwrap_or("none").to_owned();
        let locks = plan.map(|plan| plan["locks"].to_string()).unwrap_or_default();
        println!("{action}: {strategy}, rewrites {}, scans {}, {}", done.rewrites, done.scans, done.mode);
        // A column that comes is empty: what the server looks through for it, it would on any table.
        assert_eq!(strategy == "instant", !done.rewrites && !done.scans, "{action}: {strategy}");
        if strategy == "instant" {
            seen.0 += 1;
            // Said to be as strong as the strongest that ALTER TABLE takes, or stronger than it is.
            assert!(
                locks.contains("ACCESS EXCLUSIVE") || !done.mode.contains("AccessExclusiveLock"),
                "{action}: {locks}"
            );
        } else {
            seen.1 += 1;
        }
    }
    assert!(seen.0 > 12 && seen.1 > 12, "{seen:?}");
}
