//! Statements about other objects than columns and indexes: one step each, and taken back where that is certain.

use sqlx::Row as _;

use super::Table;
use super::table::{Writers, query, run};
use crate::binary::run_beside;

/// Everything that the statements below change, in words.
async fn everything(table: &Table) -> Vec<String> {
    let mut connection = table.connect().await;
    let own = "nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', '_replank')";
    let sql = format!(
        "SELECT 'schema ' || nspname FROM pg_namespace WHERE {own}
         UNION ALL SELECT concat_ws(' ', 'relation', n.nspname, c.relname, c.relkind, c.relrowsecurity, array_to_string(c.reloptions, ','),
                          obj_description(c.oid, 'pg_class'), array_to_string(c.relacl, ','))
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {own}
         UNION ALL SELECT concat_ws(' ', 'comment', attrelid::regclass, attname, col_description(attrelid, attnum))
                   FROM pg_attribute WHERE col_description(attrelid, attnum) IS NOT NULL AND attrelid > 16383
         UNION ALL SELECT concat_ws(' ', 'type', t.typname, t.typtype) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {own}
         UNION ALL SELECT concat_ws(' ', 'value', enumtypid::regtype, enumlabel, rank() OVER (ORDER BY enumsortorder)) FROM pg_enum
         UNION ALL SELECT concat_ws(' ', 'function', p.oid::regprocedure) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {own}
         UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
         UNION ALL SELECT concat_ws(' ', 'policy', polname, polrelid::regclass) FROM pg_policy
         UNION ALL SELECT concat_ws(' ', 'statistics', stxname) FROM pg_statistic_ext JOIN pg_namespace n ON n.oid = stxnamespace WHERE {own}
         UNION ALL SELECT concat_ws(' ', 'extension', extname) FROM pg_extension
         UNION ALL SELECT concat_ws(' ', 'publication', pubname) FROM pg_publication
         ORDER BY 1"
    );
    query(&mut connection, &sql).await.iter().map(|row| row.get(0)).collect()
}

/// The newest run that can be taken back.
async fn newest(table: &Table) -> String {
    table
        .text(
            "SELECT id FROM _replank.runs WHERE body::jsonb ->> 'state' = 'reversible'
             ORDER BY body::jsonb ->> 'started' DESC LIMIT 1",
        )
        .await
}

async fn table_with_things() -> Table {
    let table = Table::with_rows(500).await;
    table
        .execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE SEQUENCE counter; COMMENT ON TABLE orders IS 'it''s ours';
             CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER watched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touched();
             CREATE TABLE plain (a int, b text); INSERT INTO plain VALUES (1, 'kept');
             CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(amount) AS total FROM orders GROUP BY customer",
        )
        .await;
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_objects_are_made_and_changed_under_load_and_taken_back() {
    let table = table_with_things().await;
    let url = table.url();
    let before = everything(&table).await;
    let writers = Writers::start(&table, 2).await;
    for statement in [
        "CREATE TABLE extra (id int PRIMARY KEY, customer int REFERENCES customers (id))",
        "CREATE TABLE copy (LIKE orders INCLUDING ALL);",
        "DROP TABLE plain",
        "CREATE SEQUENCE more START 7",
        "CREATE VIEW seen AS SELECT id FROM orders",
        "CREATE MATERIALIZED VIEW large AS SELECT id FROM orders WHERE amount > 10",
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE DOMAIN small AS int CHECK (VALUE < 10)",
        "CREATE SCHEMA side",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE STATISTICS linked ON customer, amount FROM orders",
        "CREATE TRIGGER more AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touched()",
        "DROP TRIGGER watched ON orders",
        "CREATE POLICY open ON plain USING (true)",
        "ALTER TABLE plain ENABLE ROW LEVEL SECURITY",
        "COMMENT ON TABLE orders IS 'theirs'",
        "COMMENT ON COLUMN orders.note IS 'a word'",
        "ALTER INDEX orders_note RENAME TO orders_remark",
    ] {
        println!("{statement}");
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(0);
        assert_ne!(everything(&table).await, before, "{statement}");
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(everything(&table).await, before, "{statement}");
    }
    assert_eq!(table.text("SELECT b FROM plain").await, "kept");
    // What cannot be taken back says so, and is done when the person gives that up.
    for statement in [
        "ALTER TYPE mood ADD VALUE 'fine' AFTER 'ok'",
        "GRANT SELECT ON plain TO PUBLIC",
        "ALTER SEQUENCE counter RESTART 50",
        "CREATE OR REPLACE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER INDEX orders_note SET (fillfactor = 80)",
        "DROP SEQUENCE counter",
        "CREATE EXTENSION pg_trgm",
        "CREATE  OR\nREPLACE VIEW fresh AS SELECT 1 AS a",
    ] {
        println!("{statement}");
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(3).says("no way back");
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes", "--no-revert"], &[]).await.exits(0);
    }
    run_beside(&["apply", "-t", &url, "-e", "DROP TABLE plain", "--yes"], &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(
        table.text("SELECT count(*)::text FROM pg_class WHERE relname LIKE '\\_rp\\_%dropped'").await,
        "0"
    );
    let longest = writers.stop(&table).await;
    assert!(longest.as_millis() < 1500, "a writer waited for {} ms", longest.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_objects_that_would_hold_others_up_or_lose_something_are_refused_with_what_to_write() {
    let table = table_with_things().await;
    let url = table.url();
    table.execute("CREATE TABLE referring (customer int CONSTRAINT \"Whose\" REFERENCES customers)").await;
    let before = everything(&table).await;
    for (statement, exit, says) in [
        ("DROP TABLE plain, customers", 3, "one table in each statement"),
        ("DROP TABLE referring", 3, "DROP CONSTRAINT \"Whose\""),
        ("DROP SCHEMA public\n\tCASCADE", 3, "one by one"),
        ("DROP TYPE mood CASCADE /* all of it */ -- now", 3, "one by one"),
        ("CREATE\nTEMP VIEW plain AS SELECT 1", 3, "the session that makes it"),
        ("CREATE PUBLICATION told FOR ALL TABLES", 3, "replica identity"),
        ("DROP TABLE plain CASCADE", 3, "one by one"),
        ("DROP TABLE orders", 3, "totals"),
        ("DROP TABLE nowhere", 2, "nowhere"),
        ("DROP TABLE IF EXISTS nowhere", 0, "nothing to do"),
        ("CREATE TABLE IF NOT EXISTS plain (a int)", 0, "nothing to do"),
        ("CREATE TABLE plain (a int)", 2, "already"),
        ("REFRESH MATERIALIZED VIEW totals", 3, "P130"),
        ("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", 3, "P122"),
        ("VACUUM orders", 3, "changes nothing"),
        ("CLUSTER orders USING orders_note", 3, "order of the primary key"),
        ("ALTER INDEX orders_note SET TABLESPACE pg_default", 3, "REINDEX (TABLESPACE"),
        ("CREATE TABLE extra AS SELECT 1", 3, "not run by replank"),
        ("DROP DATABASE postgres", 3, "not run by replank"),
        ("ALTER TABLE orders SET TABLESPACE pg_global", 3, "pg_global"),
    ] {
        println!("{statement}");
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await.exits(exit).says(says);
        assert_eq!(everything(&table).await, before, "{statement}");
    }
    // With what was asked for they are run.
    table
        .execute("CREATE UNIQUE INDEX ON totals (customer); UPDATE orders SET amount = 5 WHERE id = 5")
        .await;
    let mut reader = table.connect().await;
    run(&mut reader, "BEGIN; SELECT * FROM totals").await.expect("read");
    run_beside(&["apply", "-t", &url, "-e", "REFRESH MATERIALIZED VIEW totals", "--yes"], &[]).await.exits(0);
    run(&mut reader, "COMMIT").await.expect("ended");
    let waived = ["-D", "waive=P122 reason=\"nobody knows it yet\""];
    let rename = ["apply", "-t", &url, "-e", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", "--yes"];
    run_beside(&[&rename[..], &waived].concat(), &[]).await.exits(0);
    assert_eq!(table.text("SELECT enum_range(NULL::mood)::text").await, "{sad,fine}");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT enum_range(NULL::mood)::text").await, "{sad,ok}");
    table.execute("DROP MATERIALIZED VIEW totals").await;
    for statement in ["VACUUM FULL orders", "CLUSTER orders USING orders_pkey"] {
        let file = "SELECT pg_relation_filenode('orders')::text";
        let old = table.text(file).await;
        run_beside(&["apply", "-t", &url, "-e", statement, "--yes", "--no-revert"], &[])
            .await
            .exits(0)
            .says("P124");
        assert_ne!(table.text(file).await, old, "{statement}");
    }
}

/// A table that came by a run and has rows is not dropped by its way back, and one that went is there after a kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_tables_that_come_and_go_keep_their_rows_whatever_is_killed() {
    let table = table_with_things().await;
    let url = table.url();
    let first = [("REPLANK_KILL_AT", "step_done")];
    let make = ["apply", "-t", &url, "-e", "CREATE TABLE extra (a int)", "--yes"];
    run_beside(&make, &first).await.was_killed();
    run_beside(&make, &[]).await.exits(0);
    table.execute("INSERT INTO extra VALUES (1)").await;
    let revert = ["revert", "last", "-t", &url, "--yes"];
    let kept = run_beside(&revert, &[]).await;
    assert_ne!(kept.code, Some(0));
    kept.says("extra has rows");
    assert_eq!(table.text("SELECT a::text FROM extra").await, "1");
    table.execute("DELETE FROM extra").await;
    run_beside(&revert, &first).await.was_killed();
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(table.text("SELECT to_regclass('extra')::text").await, "");
    let gone = ["apply", "-t", &url, "-e", "DROP TABLE plain", "--yes"];
    run_beside(&gone, &first).await.was_killed();
    assert_eq!(table.text("SELECT to_regclass('plain')::text").await, "");
    run_beside(&gone, &[]).await.exits(0);
    // Its name is free meanwhile, and another table may have it: that one stays.
    table.execute("CREATE TABLE plain (other int)").await;
    let taken = run_beside(&revert, &[]).await;
    assert_ne!(taken.code, Some(0));
    taken.says("already exists");
    table.execute("DROP TABLE plain").await;
    run_beside(&revert, &first).await.was_killed();
    // Killed on its way back it is not made final: that would say that the rows are gone.
    let last = ["finalize", "last", "-t", &url, "--yes"];
    run_beside(&last, &[]).await.exits(3).says("has been taken back");
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(table.text("SELECT b FROM plain").await, "kept");
    // Nor is a step that leaves nothing to be made final.
    let counter = ["apply", "-t", &url, "-e", "CREATE SEQUENCE late", "--yes"];
    run_beside(&counter, &[]).await.exits(0);
    run_beside(&revert, &first).await.was_killed();
    run_beside(&last, &[]).await.exits(3).says("has been taken back");
    run_beside(&revert, &[]).await.exits(0);
    for boundary in ["drop_begun", "step_done"] {
        run_beside(&gone, &[]).await.exits(0);
        run_beside(&last, &[("REPLANK_KILL_AT", boundary)]).await.was_killed();
        run_beside(&revert, &[]).await.exits(3).says("being made final");
        run_beside(&last, &[]).await.exits(0);
        let left = "SELECT count(*)::text FROM pg_class WHERE relname ~ '^_rp_' AND relkind = 'r'";
        assert_eq!(table.text(left).await, "0");
        table.execute("CREATE TABLE plain (b text)").await;
    }
}

/// Tables of the same names go one after another, and what has a name with them; each comes back as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_tables_that_go_are_in_nobodys_way_and_come_back_whole() {
    let table = Table::with_rows(5).await;
    let url = table.url();
    // Its name, and that of its key, are those of a table of replank's own.
    let make = "CREATE TABLE runs (id serial PRIMARY KEY, part int GENERATED ALWAYS AS IDENTITY, \"At\" int UNIQUE);
                CREATE INDEX ON runs (part); CREATE STATISTICS linked ON id, part FROM runs;
                CREATE TABLE days (id serial, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
                CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
                CREATE TABLE days_2 PARTITION OF days_1 DEFAULT; INSERT INTO days VALUES (1, '2024-05-05'); CREATE INDEX ON days (day)";
    table.execute(make).await;
    table.execute("INSERT INTO runs (\"At\") VALUES (7)").await;
    let whole = everything(&table).await;
    for name in ["runs", "days"] {
        let drop = format!("DROP TABLE {name}");
        run_beside(&["apply", "-t", &url, "-e", &drop, "--yes"], &[]).await.exits(0);
    }
    let without = everything(&table).await;
    table.execute(make).await;
    for name in ["days", "runs"] {
        let drop = format!("DROP TABLE {name}");
        run_beside(&["apply", "-t", &url, "-e", &drop, "--yes"], &[]).await.exits(0);
    }
    assert_eq!(everything(&table).await, without);
    for how in ["finalize", "finalize", "revert", "revert"] {
        run_beside(&[how, &newest(&table).await, "-t", &url, "--yes"], &[]).await.exits(0);
    }
    assert_eq!(everything(&table).await, whole);
    assert_eq!(table.text("SELECT concat_ws(' ', id, part, \"At\") FROM runs").await, "1 1 7");
    table.execute("INSERT INTO runs DEFAULT VALUES; INSERT INTO days (day) VALUES ('2024-06-06')").await;
    for (statement, user) in [
        ("CREATE TABLE more (id int DEFAULT nextval('runs_id_seq'))", "the default of more"),
        ("CREATE TABLE more (of runs)", "column of of table more"),
        ("CREATE TABLE more (of runs[])", "column of of table more"),
        ("CREATE FUNCTION more() RETURNS SETOF runs LANGUAGE sql AS 'SELECT * FROM runs'", "function more()"),
        ("CREATE POLICY more ON orders USING (EXISTS (SELECT FROM runs))", "policy more"),
        ("CREATE VIEW more AS SELECT FROM days_2", "the view more"),
    ] {
        table.execute(statement).await;
        let name = if statement.contains("days") { "days" } else { "runs" };
        let drop = format!("DROP TABLE {name}");
        run_beside(&["apply", "-t", &url, "-e", &drop, "--yes"], &[]).await.exits(3).says(user);
        let words: Vec<&str> = statement.split_whitespace().collect();
        let on = if words[1] == "POLICY" { " ON orders" } else { "" };
        table.execute(&format!("DROP {} {}{on}", words[1], words[2])).await;
    }
}

/// Names without a schema mean on the way back what they meant on the way there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_names_mean_the_same_whatever_the_login_looks_through_later() {
    let table = Table::with_rows(5).await;
    let url = table.url();
    run_beside(&["apply", "-t", &url, "-e", "CREATE SEQUENCE counter", "--yes"], &[]).await.exits(0);
    run_beside(&["apply", "-t", &url, "-e", "CREATE INDEX late ON orders (amount)", "--yes"], &[])
        .await
        .exits(0);
    table
        .execute(
            "CREATE SCHEMA side; CREATE SEQUENCE side.counter; CREATE TABLE side.orders (amount int);
             CREATE INDEX late ON side.orders (amount);
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = side, public', current_database()); END $$",
        )
        .await;
    for _ in 0..2 {
        run_beside(&["revert", &newest(&table).await, "-t", &url, "--yes"], &[]).await.exits(0);
    }
    let left = "SELECT concat_ws(' ', to_regclass('public.counter'), to_regclass('public.late'), to_regclass('side.counter'),
                                 to_regclass('side.late'))";
    assert_eq!(table.text(left).await, "counter late");
}
