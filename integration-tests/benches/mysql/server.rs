//! The server that all contenders run on, and the table that they change.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};

/// What is measured: a column gets another type, and the table one more index.
pub const CHANGE: &str = "MODIFY customer_id BIGINT NOT NULL, ADD INDEX ix_c (customer_id)";

/// A server of `scripts/bench.sh`.
pub struct Server {
    /// `mysql://root:…@host:port`
    url: String,
    port: u16,
    /// The server's process, on this machine.
    process: u32,
}

impl Server {
    /// As `REPLANK_BENCH_MYSQL` and `REPLANK_BENCH_PROCESS` say.
    pub fn from_environment() -> Option<Self> {
        let url = std::env::var("REPLANK_BENCH_MYSQL").ok()?;
        let port = Opts::from_url(&url).expect("a URL").tcp_port();
        let process = std::env::var("REPLANK_BENCH_PROCESS").expect("the server's process is named");
        Some(Self { url, port, process: process.parse().expect("a number") })
    }

    /// For replank.
    pub fn target(&self) -> String {
        format!("{}/bench", self.url)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub async fn connect(&self) -> Conn {
        let opts = OptsBuilder::from_opts(Opts::from_url(&self.url).expect("a URL")).prefer_socket(false);
        Conn::new(opts).await.expect("the server answers")
    }

    /// Processor time that the server has taken up to now.
    pub fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process);
        let stat = std::fs::read_to_string(path).expect("the server runs on this machine");
        // proc(5): fields 14 and 15, in hundredths of a second; the second field may hold anything in brackets.
        let fields = stat.rsplit_once(") ").expect("proc(5)").1;
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The table anew. None of it is in the log, which nobody reads.
    pub async fn fill(&self, rows: u64) {
        let mut connection = self.connect().await;
        for statement in [
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
        ] {
            connection.query_drop(&statement).await.expect(&statement);
        }
        connection.disconnect().await.expect("it ends");
    }
}
