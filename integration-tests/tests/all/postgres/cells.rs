//! Kinds of keys, values and definitions, each changed by a rebuild while somebody writes, and taken back: beside a twin
//! that gets the same writes and the server's own ALTER TABLE.

use sqlx::postgres::PgConnection;

use super::table::{connect, query, run};
use crate::binary::run_beside;
use crate::server::{Database, postgres_database};
use crate::stopped::Stopped;

/// What is tried. `{t}` is the table's name, qualified where it has to be.
struct Cell {
    name: &'static str,
    /// Makes and fills the table.
    setup: &'static str,
    /// The statement without `ALTER TABLE {t}`.
    change: &'static str,
    /// Writes in the middle of the copy; between the copy and the swap; and after it.
    writes: [&'static str; 3],
}

const CELLS: [Cell; 19] = [
    Cell {
        name: "a key with columns that are only included",
        setup: "CREATE TABLE {t} (a int NOT NULL, b int); CREATE UNIQUE INDEX ON {t} (a) INCLUDE (b);
                INSERT INTO {t} SELECT n, nullif(n % 3, 0) FROM generate_series(1, 900) n",
        change: "ALTER COLUMN b TYPE bigint",
        writes: [
            "UPDATE {t} SET b = NULL WHERE a % 5 = 0; DELETE FROM {t} WHERE a = 7",
            "INSERT INTO {t} VALUES (5000, NULL)",
            "UPDATE {t} SET b = 9 WHERE a < 20",
        ],
    },
    Cell {
        name: "another value of the key",
        setup: "CREATE TABLE {t} (id int PRIMARY KEY, v int); INSERT INTO {t} SELECT n, n FROM generate_series(1, 900) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: [
            "UPDATE {t} SET id = id + 10000 WHERE id < 10; UPDATE {t} SET id = -id WHERE id BETWEEN 100 AND 120",
            "UPDATE {t} SET id = 10 * id WHERE id > 10000; INSERT INTO {t} VALUES (1, 1)",
            "UPDATE {t} SET id = id / 10 WHERE id > 100000; DELETE FROM {t} WHERE id < 0",
        ],
    },
    Cell {
        name: "texts that a parser bends",
        setup: r#"CREATE TABLE {t} (id int PRIMARY KEY, a varchar(100), b text);
                INSERT INTO {t} SELECT n, 'It''s', E'tab\tnl\n\\' FROM generate_series(1, 600) n"#,
        change: "ALTER COLUMN a TYPE varchar(90)",
        writes: [
            r#"INSERT INTO {t} VALUES (1001, 'end''', ''''), (1002, 'null', 'NULL'), (1003, '\N', E'\\'), (1004, '{}', '""'),
               (1005, '', NULL), (1006, '$1', '%s {0}'), (1007, E'\x01\x7f', U&'\+01F600')"#,
            r"UPDATE {t} SET b = a, a = b WHERE id > 1000 AND b IS NOT NULL",
            "DELETE FROM {t} WHERE a = 'NULL'; INSERT INTO {t} VALUES (1008, 'null', '''')",
        ],
    },
    Cell {
        name: "numbers and JSON",
        setup: r#"CREATE TABLE {t} (id int PRIMARY KEY, b bigint, n numeric(40, 10), j jsonb, js json, c int);
                INSERT INTO {t} SELECT n, 9007199254740993, 1.5, '{"x": 12345678901234567890.123}', '{"a":1, "a":2}', 1
                FROM generate_series(1, 500) n"#,
        change: "ALTER COLUMN c TYPE bigint, ALTER COLUMN n TYPE numeric(42, 12)",
        writes: [
            r#"INSERT INTO {t} VALUES (1001, 9223372036854775807, 1e29, '"str"', ' [1 ,2]', 2), (1002, -1, 0.0000000001, 'null', NULL, 3)"#,
            r#"UPDATE {t} SET js = '{"b" : 1.0}', n = -n WHERE id > 400"#,
            "UPDATE {t} SET j = NULL, n = 3.1400 WHERE id > 1000",
        ],
    },
    Cell {
        name: "identity and a stored column",
        setup: "CREATE TABLE {t} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
                INSERT INTO {t} (a) SELECT n FROM generate_series(1, 500) n",
        change: "ALTER COLUMN id TYPE bigint",
        writes: [
            "INSERT INTO {t} (a) VALUES (1), (2); UPDATE {t} SET a = a + 1 WHERE id % 2 = 0",
            "INSERT INTO {t} (a) VALUES (3); DELETE FROM {t} WHERE id = 502",
            "INSERT INTO {t} (a) VALUES (4), (5)",
        ],
    },
    Cell {
        name: "columns that were dropped, and a default that no row holds",
        setup: "CREATE TABLE {t} (a int, id int PRIMARY KEY, b text, c int);
                INSERT INTO {t} SELECT n, n, 'b', n FROM generate_series(1, 500) n;
                ALTER TABLE {t} DROP COLUMN a; ALTER TABLE {t} ADD COLUMN d int DEFAULT 7; ALTER TABLE {t} DROP b",
        change: "ALTER COLUMN c TYPE bigint",
        writes: ["INSERT INTO {t} (id, c) VALUES (1001, 1)", "UPDATE {t} SET d = 8 WHERE id < 9", "DELETE FROM {t} WHERE id = 3"],
    },
    Cell {
        name: "a key of several columns, and many rows in one transaction",
        setup: "CREATE TABLE {t} (a int, b int, c int, PRIMARY KEY (a, b));
                INSERT INTO {t} SELECT n / 100, n % 100, n FROM generate_series(0, 59999) n",
        change: "ALTER COLUMN c TYPE bigint",
        writes: ["DELETE FROM {t} WHERE a < 250", "UPDATE {t} SET a = a + 1000 WHERE a >= 550", "UPDATE {t} SET c = -c WHERE a < 300"],
    },
    Cell {
        name: "values of every kind",
        setup: r#"CREATE TABLE {t} (id int PRIMARY KEY, c int, p point, x box, r int4range, i inet, m macaddr, iv interval, tz timestamptz,
                tt timetz, bi bit(5), vb bit varying(9), by bytea, mo money, ts tsvector, ar text[], aa int[][], u uuid, bl bool,
                f float8, f4 float4, ch char(5), cc "char", o oid, xid8 xid8, pl pg_lsn);
                INSERT INTO {t} SELECT n, n, '(1,2)', '(1,2),(3,4)', '[1,5)', '10.0.0.1/8', '08:00:2b:01:02:03', '1 mon 2 days 3:04:05.678',
                '2026-11-26 12:00+02', '12:00:00+02', B'10101', B'1', '\x00ff', 12.34, 'a fat cat', ARRAY['a', NULL, '"q"'],
                ARRAY[[1,2],[3,NULL]], 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', n % 2 = 0, 0.1::float8 + 0.2, 1e-20, 'ab', 'x', 5, '7', '0/1'
                FROM generate_series(1, 300) n"#,
        change: "ALTER COLUMN c TYPE bigint",
        writes: [
            "UPDATE {t} SET f = '-0', f4 = 'NaN', tz = '-infinity', iv = '-1 day', ar = '{}', ch = '' WHERE id < 50",
            r"UPDATE {t} SET f = 'Infinity', r = 'empty', by = '\x', tz = 'infinity', u = NULL WHERE id BETWEEN 40 AND 90",
            "UPDATE {t} SET p = NULL, aa = '[0:1]={1,2}'::int[], iv = '24:00' WHERE id > 250",
        ],
    },
    Cell {
        name: "a key of text",
        setup: "CREATE TABLE {t} (k text PRIMARY KEY, v int); INSERT INTO {t} SELECT 'k' || n, n FROM generate_series(1, 700) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: [
            r#"INSERT INTO {t} VALUES ('', 1), (' ', 2), ('A', 3), ('a', 4), ('ß', 5), ('ä', 6), ('a''b"c\', 7), (E'\n', 8), ('[1]', 9)"#,
            "UPDATE {t} SET k = upper(k) WHERE k LIKE 'k1%'; DELETE FROM {t} WHERE k = 'A'",
            "UPDATE {t} SET k = lower(k) WHERE k LIKE 'K11%'",
        ],
    },
    Cell {
        name: "a key of padded text and a number with a scale",
        setup: "CREATE TABLE {t} (c char(6), n numeric(10, 3), v int, PRIMARY KEY (c, n));
                INSERT INTO {t} SELECT 'c' || n % 9, n / 8.0, n FROM generate_series(1, 500) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: ["UPDATE {t} SET n = n + 0.001 WHERE v < 50", "INSERT INTO {t} VALUES ('', 0, 1), ('x', 1.50, 2)", "DELETE FROM {t} WHERE n = 1.5"],
    },
    Cell {
        name: "a key of a time and a number",
        setup: "CREATE TABLE {t} (at timestamptz, d date, v int, PRIMARY KEY (at, d));
                INSERT INTO {t} SELECT '2026-03-29 00:30+01'::timestamptz + n * interval '17 minutes 0.000001 s', '2026-01-01', n
                FROM generate_series(1, 500) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: ["UPDATE {t} SET d = d + 1 WHERE v % 7 = 0", "INSERT INTO {t} VALUES ('infinity', '-infinity', 1)", "UPDATE {t} SET at = at - interval '1 s' WHERE v < 9"],
    },
    Cell {
        name: "a key of bytes and a uuid",
        setup: r"CREATE TABLE {t} (b bytea, u uuid, v int, PRIMARY KEY (b, u));
                INSERT INTO {t} SELECT decode(lpad(to_hex(n), 6, '0'), 'hex'), md5(n::text)::uuid, n FROM generate_series(1, 500) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: [r"INSERT INTO {t} VALUES ('\x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1)", r"UPDATE {t} SET b = b || '\x00' WHERE v < 20", "DELETE FROM {t} WHERE v > 490"],
    },
    Cell {
        name: "a key of numbers that are not whole",
        setup: "CREATE TABLE {t} (f float8 PRIMARY KEY, v int); INSERT INTO {t} SELECT n / 7.0::float8, n FROM generate_series(1, 500) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: ["INSERT INTO {t} VALUES ('-0', 1), ('NaN', 2), ('Infinity', 3)", "UPDATE {t} SET f = f * 1000.1 WHERE v BETWEEN 10 AND 30", "DELETE FROM {t} WHERE f = 0"],
    },
    Cell {
        name: "unique values that rows exchange, under another collation",
        setup: r#"CREATE TABLE {t} (id int PRIMARY KEY, u text UNIQUE, v int);
                INSERT INTO {t} SELECT n, 'u' || n, n FROM generate_series(1, 400) n"#,
        change: r#"ALTER COLUMN u TYPE text COLLATE "C", ALTER COLUMN v TYPE bigint"#,
        writes: [
            "UPDATE {t} SET u = NULL WHERE id = 1; UPDATE {t} SET u = 'u1' WHERE id = 2; UPDATE {t} SET u = 'u2' WHERE id = 1",
            "UPDATE {t} SET u = NULL WHERE id IN (3, 4); UPDATE {t} SET u = 'u' || (7 - id) WHERE id IN (3, 4)",
            "DELETE FROM {t} WHERE id = 9; INSERT INTO {t} VALUES (999, 'u9', 1); UPDATE {t} SET u = NULL WHERE id IN (5, 6); UPDATE {t} SET u = 'u' || (11 - id) WHERE id IN (5, 6)",
        ],
    },
    Cell {
        name: "unique values that may meet until the end of a transaction",
        setup: "CREATE TABLE {t} (id int PRIMARY KEY, v int, place int CONSTRAINT {t}_once UNIQUE DEFERRABLE INITIALLY DEFERRED,
                other int UNIQUE DEFERRABLE, note text);
                INSERT INTO {t} SELECT n, n, n, -n, NULL FROM generate_series(1, 1200) n",
        change: "ALTER COLUMN v TYPE bigint, ALTER COLUMN place TYPE bigint",
        writes: [
            "UPDATE {t} SET place = place - 1, other = other + 1; UPDATE {t} SET place = 1200 WHERE id = 1",
            "UPDATE {t} SET place = place + 1, other = 1 - other; UPDATE {t} SET place = 1201 - place",
            "UPDATE {t} SET place = 1 + place % 1200; BEGIN; UPDATE {t} SET place = 8 WHERE id = 7; UPDATE {t} SET place = 1300 WHERE place = 8 AND id <> 7; COMMIT",
        ],
    },
    Cell {
        name: "ranges that exclude each other and go to another row during the copy",
        setup: "CREATE TABLE {t} (id int PRIMARY KEY, v int, during int4range, EXCLUDE USING gist (during WITH &&));
                INSERT INTO {t} SELECT n, n, int4range(n * 10, n * 10 + 5) FROM generate_series(1, 900) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: [
            "UPDATE {t} SET during = int4range(100000, 100001) WHERE id = 1; UPDATE {t} SET during = int4range(10, 15) WHERE id = 890",
            "DELETE FROM {t} WHERE id = 2; INSERT INTO {t} VALUES (2000, 1, int4range(20, 25))",
            "UPDATE {t} SET during = int4range(200000, 200001) WHERE id = 3; UPDATE {t} SET during = int4range(30, 35) WHERE id = 1",
        ],
    },
    Cell {
        name: "another type that loses something",
        setup: "CREATE TABLE {t} (id int PRIMARY KEY, v text); INSERT INTO {t} SELECT n, lpad(n::text, 5, '0') FROM generate_series(1, 400) n",
        change: "ALTER COLUMN v TYPE int USING v::int",
        writes: ["UPDATE {t} SET v = '0007' WHERE id < 5", "INSERT INTO {t} VALUES (1001, ' 12 ')", "UPDATE {t} SET v = v"],
    },
    Cell {
        name: "an unlogged table whose values are all short, with options",
        setup: "CREATE UNLOGGED TABLE {t} (id int PRIMARY KEY, v int, s char(3)) WITH (fillfactor = 70, autovacuum_enabled = false);
                ALTER TABLE {t} ALTER COLUMN s SET STORAGE PLAIN, ALTER COLUMN v SET STATISTICS 50;
                INSERT INTO {t} SELECT n, n, 'x' FROM generate_series(1, 400) n",
        change: "ALTER COLUMN v TYPE bigint",
        writes: ["UPDATE {t} SET s = 'y' WHERE id < 100", "DELETE FROM {t} WHERE id > 390", "INSERT INTO {t} VALUES (1000, 1, 'z')"],
    },
    Cell {
        name: "a key that grows, that others and the table itself refer to",
        setup: "CREATE TABLE {t} (id int PRIMARY KEY, parent int REFERENCES {t} ON DELETE CASCADE ON UPDATE CASCADE);
                INSERT INTO {t} SELECT n, nullif(n / 2, 0) FROM generate_series(1, 400) n",
        change: "ALTER COLUMN id TYPE bigint",
        writes: ["DELETE FROM {t} WHERE id = 200", "UPDATE {t} SET id = 5000 WHERE id = 5", "DELETE FROM {t} WHERE id = 100; INSERT INTO {t} VALUES (900, 5000)"],
    },
];

/// A database with the table under change, and its twin.
struct Twins {
    database: Database,
}

impl Twins {
    async fn of(cell: &Cell) -> Self {
        let twins = Self { database: postgres_database().await };
        for name in ["live", "twin"] {
            twins.execute(&cell.setup.replace("{t}", name)).await;
        }
        twins
    }

    async fn connect(&self) -> PgConnection {
        connect(&self.database.url).await
    }

    async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        run(&mut connection, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn write_both(&self, sql: &str) {
        for name in ["live", "twin"] {
            self.execute(&sql.replace("{t}", name)).await;
        }
    }

    /// Rows that only one of both has, and the definitions.
    async fn compare(&self, cell: &Cell, when: &str) {
        let mut connection = self.connect().await;
        let only = |a: &str, b: &str| {
            format!(
                "SELECT '{a}: ' || r FROM (SELECT x::text AS r FROM {a} AS x EXCEPT ALL SELECT x::text FROM {b} AS x) AS d"
            )
        };
        for (a, b) in [("live", "twin"), ("twin", "live")] {
            let differing: Vec<String> =
                query(&mut connection, &only(a, b)).await.iter().map(|row| sqlx::Row::get(row, 0)).collect();
            assert!(differing.is_empty(), "{}, {when}: {differing:?}", cell.name);
        }
        let shape = |table: &str| {
            format!(
                "SELECT coalesce(string_agg(replace(line, '{table}', 'it'), '; ' ORDER BY replace(line, '{table}', 'it') COLLATE \"C\"), '') FROM (
                 SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                        a.attstorage, nullif(a.attstattarget, -1), a.attcollation) AS line
                 FROM pg_attribute a WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
                 UNION ALL SELECT pg_get_indexdef(indexrelid) || indisvalid || indisprimary FROM pg_index WHERE indrelid = '{table}'::regclass
                 UNION ALL SELECT conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint
                           WHERE conrelid = '{table}'::regclass AND contype <> 'n'
                 UNION ALL SELECT concat(relpersistence, reloptions) FROM pg_class WHERE oid = '{table}'::regclass) AS d"
            )
        };
        let one = async |connection: &mut PgConnection, table: &str| -> String {
            sqlx::Row::get(&query(connection, &shape(table)).await[0], 0)
        };
        let (live, twin) = (one(&mut connection, "live").await, one(&mut connection, "twin").await);
        assert_eq!(live, twin, "{}, {when}", cell.name);
    }
}

/// KEY-19, TYPE-24 to TYPE-32, STALL-03, and more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_every_kind_of_table_goes_there_and_back_beside_its_twin() {
    for cell in &CELLS {
        println!("{}", cell.name);
        let twins = Twins::of(cell).await;
        let url = twins.database.url.clone();
        let statement = format!("ALTER TABLE live {}", cell.change);
        let args = ["apply", "-t", &url, "-e", &statement, "--yes", "--throttle", "chunk_rows_max=200"];
        let args = [&args[..], &["-D", "waive=C007 reason=\"a test\""]].concat();
        let stopped = Stopped::within("chunk_committed", &args, &[]).await;
        twins.write_both(cell.writes[0]).await;
        stopped.wake();
        twins.write_both(cell.writes[1]).await;
        stopped.end().await.exits(0);
        twins.execute(&format!("ALTER TABLE twin {}", cell.change)).await;
        twins.compare(cell, "after the swap").await;
        twins.write_both(cell.writes[2]).await;
        run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let back = run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await;
        back.exits(0);
        let left = "SELECT count(*)::text FROM pg_class WHERE starts_with(relname, '_rp_')";
        let mut connection = twins.connect().await;
        let left: String = sqlx::Row::get(&query(&mut connection, left).await[0], 0);
        assert_eq!(left, "0", "{}", cell.name);
        // The way back is held against the same writes on a table that never changed.
        if !cell.name.contains("loses something") {
            twins.execute("DROP TABLE twin").await;
            twins.execute(&cell.setup.replace("{t}", "twin")).await;
            for writes in cell.writes {
                twins.execute(&writes.replace("{t}", "twin")).await;
            }
            twins.compare(cell, "after the way back").await;
        }
    }
}
