//! The server that all contenders run on, and the table that they change.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Opts, OptsBuilder};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MySql,
    Postgres,
}

/// A server of `scripts/bench.sh`.
pub struct Server {
    pub kind: Kind,
    /// With a login, and no database.
    url: String,
    port: u16,
    /// The server's first process, on this machine; it has a container, and so a group of processes, of its own.
    process: u32,
}

/// A session on it.
pub enum Session {
    MySql(mysql_async::Conn),
    Postgres(PgConnection),
}

impl Session {
    /// Runs a statement, or fails.
    pub async fn run(&mut self, statement: &str) -> Result<(), String> {
        match self {
            Self::MySql(session) => session.query_drop(statement).await.map_err(|error| error.to_string()),
            Self::Postgres(session) => sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
                .execute(session)
                .await
                .map(|_| ())
                .map_err(|error| error.to_string()),
        }
    }

    /// The number in the last column of the one row that a statement gives.
    async fn number(&mut self, statement: &str) -> u64 {
        match self {
            Self::MySql(session) => {
                let row: mysql_async::Row =
                    session.query_first(statement).await.expect(statement).expect("a row");
                let text: String = row.get(row.len() - 1).expect("a column");
                text.parse().expect(statement)
            }
            Self::Postgres(session) => {
                let row = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_one(session).await;
                let number: i64 = row.expect(statement).try_get(0).expect("a number");
                number.unsigned_abs()
            }
        }
    }
}

impl Server {
    /// As `REPLANK_BENCH_SERVER` and `REPLANK_BENCH_PROCESS` say.
    pub fn from_environment() -> Option<Self> {
        let url = std::env::var("REPLANK_BENCH_SERVER").ok()?;
        let kind = if url.starts_with("postgres") { Kind::Postgres } else { Kind::MySql };
        let port = url.rsplit_once(':').expect("a port").1.parse().expect("a port");
        let process = std::env::var("REPLANK_BENCH_PROCESS").expect("the server's process is named");
        Some(Self { kind, url, port, process: process.parse().expect("a number") })
    }

    /// What is measured: a column gets another type. On MySQL the table gets one more index as well; on PostgreSQL the
    /// column is the key, and each index is made anew.
    pub fn change(&self) -> &'static str {
        match self.kind {
            Kind::MySql => "MODIFY customer_id BIGINT NOT NULL, ADD INDEX ix_c (customer_id)",
            Kind::Postgres => "ALTER COLUMN id TYPE bigint",
        }
    }

    /// What it is measured on.
    pub fn described(&self) -> &'static str {
        match self.kind {
            Kind::MySql => "MySQL, rows of about 400 bytes, two indexes beside the key",
            Kind::Postgres => "PostgreSQL, rows of about 240 bytes, one index beside the key",
        }
    }

    /// Rows of the table unless somebody says otherwise.
    pub fn rows(&self) -> u64 {
        match self.kind {
            Kind::MySql => 1_000_000,
            Kind::Postgres => 2_000_000,
        }
    }

    /// For replank.
    pub fn target(&self) -> String {
        match self.kind {
            Kind::MySql => format!("{}/bench", self.url),
            Kind::Postgres => format!("{}/postgres", self.url),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub async fn connect(&self) -> Session {
        match self.kind {
            Kind::MySql => {
                let opts = OptsBuilder::from_opts(Opts::from_url(&self.url).expect("a URL"));
                let session = mysql_async::Conn::new(opts.prefer_socket(false)).await;
                Session::MySql(session.expect("the server answers"))
            }
            Kind::Postgres => {
                Session::Postgres(PgConnection::connect(&self.target()).await.expect("the server answers"))
            }
        }
    }

    /// Processor time that the server has taken up to now, all its processes together: cgroups(7), of either version.
    pub fn processor_time(&self) -> Duration {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", self.process))
            .expect("the server runs on this machine");
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if controllers.split(',').any(|controller| controller == "cpuacct") {
                let usage = std::fs::read_to_string(format!("/sys/fs/cgroup/cpuacct{path}/cpuacct.usage"));
                return Duration::from_nanos(usage.expect("its group").trim().parse().expect("nanoseconds"));
            }
            if let Ok(usage) = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/cpu.stat")) {
                let line = usage.lines().find_map(|line| line.strip_prefix("usage_usec "));
                return Duration::from_micros(
                    line.expect("a field of cpu.stat").parse().expect("microseconds"),
                );
            }
        }
        panic!("the server's process is in no group that counts processor time")
    }

    /// Bytes that the server has written to its log of changes up to now: what a crash would be recovered from.
    pub async fn logged(&self) -> u64 {
        let question = match self.kind {
            Kind::MySql => "SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'",
            Kind::Postgres => "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint",
        };
        self.connect().await.number(question).await
    }

    /// The table anew.
    pub async fn fill(&self, rows: u64) {
        let mut session = self.connect().await;
        let statements = match self.kind {
            Kind::MySql => mysql_table(rows),
            Kind::Postgres => postgres_table(rows),
        };
        for statement in statements {
            session.run(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

/// None of it is in the binary log, which nobody reads.
fn mysql_table(rows: u64) -> Vec<String> {
    vec![
        "SET SESSION sql_log_bin = 0, cte_max_recursion_depth = 100000000".to_owned(),
        "CREATE DATABASE IF NOT EXISTS bench".to_owned(),
        "DROP TABLE IF EXISTS bench.orders".to_owned(),
        "FLUSH BINARY LOGS".to_owned(),
        "PURGE BINARY LOGS BEFORE NOW()".to_owned(),
        "CREATE TABLE bench.orders (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id INT NOT NULL,
         amount DECIMAL(20, 4), note VARCHAR(400), code VARCHAR(32), KEY by_amount (amount), KEY by_code (code))"
            .to_owned(),
        format!(
            "INSERT INTO bench.orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             SELECT i, i * 7 % 10007, i / 4, RPAD(CONCAT('row ', i), 350, 'x'), CONCAT('code ', i * 31 % {rows}) FROM n"
        ),
        "ANALYZE TABLE bench.orders".to_owned(),
    ]
}

/// A checkpoint before each contender: none pays for the pages of another.
fn postgres_table(rows: u64) -> Vec<String> {
    vec![
        "CREATE SCHEMA IF NOT EXISTS bench".to_owned(),
        "DROP TABLE IF EXISTS bench.orders".to_owned(),
        "CREATE TABLE bench.orders (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, customer_id integer NOT NULL,
         amount numeric(20, 4), note text, code text)"
            .to_owned(),
        format!(
            "INSERT INTO bench.orders SELECT i, i::bigint * 7 % 10007, i / 4.0, rpad('row ' || i, 165, 'x'), 'code ' || i::bigint * 31 % {rows}
             FROM generate_series(1, {rows}) AS i"
        ),
        format!("ALTER TABLE bench.orders ALTER COLUMN id RESTART WITH {}", rows + 1),
        "CREATE INDEX by_customer ON bench.orders (customer_id)".to_owned(),
        "VACUUM ANALYZE bench.orders".to_owned(),
        "CHECKPOINT".to_owned(),
    ]
}
