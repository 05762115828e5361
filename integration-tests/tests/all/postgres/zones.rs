//! The server, the database and the role are in zones of their own; sessions of replank are in UTC.

use super::application::assert_same;
use super::partitioned::{File, whole};
use super::table::{connect, query, run};
use crate::binary::run_beside;
use crate::server::postgres_own_server;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

const COLUMNS: &str = "id bigint, at timestamptz NOT NULL, day date, PRIMARY KEY (id, at)";

/// Rows of every hour around the end of January, of any zone.
const MADE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL, day date);
    INSERT INTO orders SELECT n, timestamptz '2026-01-31 00:00+00' + n * interval '1 hour', '2026-01-31' FROM generate_series(-24, 48) AS n;
    CREATE TABLE parent (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE child (id bigint, at timestamptz NOT NULL);
    CREATE VIEW spread AS SELECT tableoid::regclass::text AS part, count(*) AS rows FROM orders GROUP BY 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_times_without_an_offset_are_refused_and_others_mean_what_psql_makes_of_them() {
    let server = postgres_own_server(&["-c", "timezone=America/New_York"]).await;
    let database = server.database().await;
    let mut connection = connect(&database.url).await;
    let zones = format!(
        "ALTER DATABASE {} SET timezone = 'Asia/Tokyo'; ALTER ROLE CURRENT_USER SET timezone = 'Asia/Kathmandu'",
        database.name
    );
    run(&mut connection, &zones).await.expect("set");
    run(&mut connection, MADE).await.expect(MADE);
    let url = database.url.clone();
    let shape = |from: &str, columns: &str| {
        format!(
            "CREATE TABLE orders ({columns}) PARTITION BY RANGE (at);
             CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (MINVALUE) TO ({from});
             CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM ({from}) TO (MAXVALUE)"
        )
    };
    for refused in [
        shape("'2026-02-01'", COLUMNS),
        shape("'2026-02-01 00:00+00'", &format!("{COLUMNS}, CHECK (at > '2020-01-01')")),
        shape(
            "'2026-02-01 00:00+00'",
            &COLUMNS.replace("day date", "day date, due timestamptz DEFAULT '2027-01-01 12:00'"),
        ),
    ] {
        let file = File::of(&refused);
        let rebuild = ["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"];
        run_beside(&rebuild, &[]).await.exits(3).says("without an offset").says("+00");
    }
    for refused in [
        "ALTER TABLE orders ADD COLUMN due timestamptz DEFAULT '2027-01-01'",
        "ALTER TABLE orders ALTER at TYPE timestamptz(0) USING greatest(at, '2020-01-01')",
        "CREATE INDEX late ON orders (id) WHERE at > '2026-01-01'",
        "ALTER TABLE parent ATTACH PARTITION child FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE part PARTITION OF parent FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    ] {
        let apply = ["apply", "-t", &url, "-e", refused, "--yes"];
        run_beside(&apply, &[]).await.exits(3).says("without an offset");
    }
    // None of these has a zone in it, or each says which.
    for taken in [
        "ALTER TABLE orders ADD COLUMN due timestamptz DEFAULT '2027-01-01 00:00+02', ALTER day SET DEFAULT '2026-01-31'",
        "ALTER TABLE orders ADD COLUMN since timestamptz DEFAULT now()",
        "ALTER TABLE orders ADD COLUMN noted timestamp DEFAULT '2027-01-01'",
        "ALTER TABLE parent ATTACH PARTITION child FOR VALUES FROM ('2026-01-01 00:00+02') TO ('2026-02-01 00:00 Europe/Berlin')",
    ] {
        run_beside(&["apply", "-t", &url, "-e", taken, "--yes"], &[]).await.exits(0);
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    }
    let mut psql = connect_as_psql(&url).await;
    run(&mut psql, "ALTER TABLE orders DROP due, DROP since, DROP noted, ALTER day DROP DEFAULT")
        .await
        .expect("dropped");
    let before = whole(&mut connection).await;
    let bound = "'2026-02-01 00:00+05:45'";
    let file = File::of(&shape(bound, COLUMNS));
    run_beside(&["rebuild", "orders", "--as", &file.path(), "-t", &url, "--yes"], &[]).await.exits(0);
    // 24 hours before, the hours to midnight in Kathmandu, and those after it.
    let sql = "SELECT string_agg(part || ' ' || rows, ', ' ORDER BY part) FROM spread";
    let spread: String = query(&mut psql, sql).await[0].get(0);
    assert_eq!(spread, "orders_1 43, orders_2 30");
    let sql = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'orders_2'";
    let said: String = query(&mut psql, sql).await[0].get(0);
    assert_eq!(said, "FOR VALUES FROM ('2026-02-01 00:00:00+05:45') TO (MAXVALUE)");
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&whole(&mut connection).await, &before, "the shape, before and after");
}

/// The server is in New York, which no session that has asked for UTC can see; then the role says where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_values_that_another_zone_would_move_are_never_left_where_they_are_unannounced() {
    let server = postgres_own_server(&["-c", "timezone=America/New_York"]).await;
    let database = server.database().await;
    let mut connection = connect(&database.url).await;
    let made = "CREATE TABLE t (id int PRIMARY KEY, at timestamp, seen timestamptz); INSERT INTO t VALUES (1, '2026-07-01 12:00', '2026-07-01 12:00+00')";
    run(&mut connection, made).await.expect(made);
    let url = database.url.clone();
    let apply =
        async |statement: &str| run_beside(&["apply", "-t", &url, "-e", statement, "--yes"], &[]).await;
    let said =
        async |connection: &mut PgConnection, sql: &str| -> String { query(connection, sql).await[0].get(0) };
    let (to, back) = ("ALTER TABLE t ALTER at TYPE timestamptz", "ALTER TABLE t ALTER seen TYPE timestamp");
    let day = "ALTER TABLE t ADD COLUMN day timestamp DEFAULT now()";
    for statement in [to, back] {
        apply(statement).await.exits(3).says("P140").says("right in sessions of UTC").says("AT TIME ZONE");
    }
    apply(day).await.exits(0).says("by the clock of UTC");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run(&mut connection, "ALTER TABLE t DROP day").await.expect("dropped");

    run(&mut connection, &format!("ALTER DATABASE {} SET timezone = 'Etc/UTC'", database.name))
        .await
        .expect("set");
    apply(to).await.exits(0).says("instant");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let at = "SELECT (at AT TIME ZONE 'UTC')::text FROM t";
    assert_eq!(said(&mut connection, at).await, "2026-07-01 12:00:00");
    run(&mut connection, "SET timezone = 'UTC'; ALTER TABLE t ALTER at TYPE timestamp").await.expect("back");

    // The role is asked before the database.
    run(&mut connection, "ALTER ROLE CURRENT_USER SET timezone = 'Asia/Kathmandu'").await.expect("set");
    for statement in [to, back] {
        apply(statement).await.exits(3).says("Asia/Kathmandu").says("AT TIME ZONE");
    }
    apply(day).await.exits(3).says("P140").says("Asia/Kathmandu");
    apply("ALTER TABLE t ALTER at TYPE timestamptz USING at AT TIME ZONE 'Asia/Kathmandu'").await.exits(0);
    let mut psql = connect_as_psql(&url).await;
    assert_eq!(said(&mut psql, "SELECT at::text FROM t").await, "2026-07-01 12:00:00+05:45");
    run(&mut psql, "INSERT INTO t (id, at) VALUES (2, '2026-08-01 12:00')").await.expect("written");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let all = "SELECT string_agg(at::text, ', ' ORDER BY id) FROM t";
    assert_eq!(said(&mut psql, all).await, "2026-07-01 12:00:00, 2026-08-01 12:00:00");
    // The day of a timestamp is no matter of zones; that of a timestamptz is, and the words are the same.
    let days = "CREATE MATERIALIZED VIEW days AS SELECT at::date AS day, count(*) AS n FROM t GROUP BY 1";
    run(&mut psql, days).await.expect("made");
    apply("ALTER TABLE t ALTER at TYPE timestamptz USING at AT TIME ZONE 'Asia/Kathmandu'")
        .await
        .exits(3)
        .says("days over the new shape")
        .says("time zone of whoever refreshes it");
    run(&mut psql, "DROP MATERIALIZED VIEW days").await.expect("dropped");
    // The server looks at no conversion that goes without saying.
    apply("ALTER TABLE t ALTER seen TYPE text").await.exits(3).says("AT TIME ZONE 'Asia/Kathmandu'");
    apply("ALTER TABLE t ALTER seen TYPE timestamp, ALTER id TYPE bigint").await.exits(3).says("Kathmandu");
    apply("ALTER TABLE t ALTER at TYPE text").await.exits(0);
}

/// The zone of a session that asks for none.
async fn connect_as_psql(url: &str) -> PgConnection {
    let mut connection = connect(url).await;
    run(&mut connection, "SET TimeZone = 'Asia/Kathmandu'").await.expect("set");
    connection
}
