//! `make bench`: the online change beside MySQL's own blocking ALTER TABLE, as ratios within one run. Figures, not
//! pass or fail. `scripts/bench.sh` starts the server and names it in `REPLANK_BENCH_MYSQL`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};

const ROWS: u32 = 300_000;
const RUNS: usize = 3;
const CHANGE: &str = "MODIFY customer_id BIGINT NOT NULL, ADD INDEX ix_c (customer_id)";

#[tokio::main]
async fn main() {
    let Ok(server) = std::env::var("REPLANK_BENCH_MYSQL") else {
        println!("mysql: not measured, REPLANK_BENCH_MYSQL names no server");
        return;
    };
    let opts = OptsBuilder::from_opts(Opts::from_url(&server).expect("a URL")).prefer_socket(false);
    let mut connection = Conn::new(opts).await.expect("the server answers");
    execute(&mut connection, "CREATE DATABASE IF NOT EXISTS bench").await;
    execute(&mut connection, "SET SESSION cte_max_recursion_depth = 100000000").await;
    let url = format!("{}/bench", server.trim_end_matches('/'));
    let (mut blocking, mut online) = (Vec::new(), Vec::new());
    // In turns, so that a machine that slows down slows both.
    for _ in 0..RUNS {
        fill(&mut connection).await;
        let began = Instant::now();
        execute(&mut connection, &format!("ALTER TABLE bench.orders {CHANGE}, ALGORITHM = COPY")).await;
        blocking.push(began.elapsed());
        fill(&mut connection).await;
        online.push(apply(&url));
    }
    let (blocked, took) = (median(&mut blocking), median(&mut online));
    println!("mysql, {ROWS} rows of about 400 bytes with two indexes, retype and one index, no writers:");
    print("ALTER TABLE … ALGORITHM = COPY (writers wait all the time)", &blocking);
    print("replank apply, every row compared, revertible", &online);
    println!("  ratio of the medians: {:.2}", took.as_secs_f64() / blocked.as_secs_f64());
}

async fn execute(connection: &mut Conn, statement: &str) {
    connection.query_drop(statement).await.expect(statement);
}

async fn fill(connection: &mut Conn) {
    for statement in [
        "DROP TABLE IF EXISTS bench.orders".to_owned(),
        "CREATE TABLE bench.orders (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id INT NOT NULL,
         amount DECIMAL(20, 4), note VARCHAR(400), code VARCHAR(32), KEY by_amount (amount), KEY by_code (code))"
            .to_owned(),
        format!(
            "INSERT INTO bench.orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             SELECT i, i * 7 % 10007, i / 4, RPAD(CONCAT('row ', i), 350, 'x'), CONCAT('code ', i * 31 % {ROWS}) FROM n"
        ),
        "ANALYZE TABLE bench.orders".to_owned(),
    ] {
        execute(connection, &statement).await;
    }
}

fn apply(url: &str) -> Duration {
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/replank");
    let replank = |arguments: &[&str]| {
        let ended = Command::new(&binary).args(arguments).args(["-t", url, "--yes"]).output();
        let ended = ended.expect("target/release/replank runs: make bench builds it");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    let began = Instant::now();
    replank(&["apply", "-e", &format!("ALTER TABLE orders {CHANGE}")]);
    let took = began.elapsed();
    replank(&["finalize", "last"]);
    took
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn print(what: &str, sorted: &[Duration]) {
    let seconds = |time: &Duration| time.as_secs_f64();
    println!(
        "  {what}: {:.2} s ({:.2} to {:.2})",
        seconds(&sorted[sorted.len() / 2]),
        seconds(&sorted[0]),
        seconds(&sorted[sorted.len() - 1])
    );
}
