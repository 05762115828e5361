//! `make bench`: the online change beside the server's own blocking one and beside the peers that are installed. Figures,
//! and never pass or fail: all of one run on one server, in turns, so that a machine that slows down slows all of them.
//! `scripts/bench.sh` starts the server. `REPLANK_BENCH_ROWS`, `REPLANK_BENCH_RUNS` and `REPLANK_BENCH_PARTS` (some of
//! `idle repack closed paced open memory`) make it shorter; `REPLANK_BENCH_ARGS` goes to replank.

mod contender;
mod server;
mod writers;

use std::time::Duration;

use self::contender::{Contender, Taken, Task};
use self::server::Server;
use self::writers::{Load, Wrote};

/// Writers alone, before each run beside which they write.
const BASELINE: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() {
    let Some(server) = Server::from_environment() else {
        println!("not measured: REPLANK_BENCH_SERVER names no server");
        return;
    };
    let rows = number("REPLANK_BENCH_ROWS", server.rows());
    let runs = number("REPLANK_BENCH_RUNS", 5);
    println!("{}, {rows} of them, {}, {runs} runs:", server.described(), server.change());
    let parts = std::env::var("REPLANK_BENCH_PARTS")
        .unwrap_or_else(|_| "idle repack closed paced open memory".to_owned());
    for part in parts.split_whitespace() {
        match part {
            "idle" => idle(&server, rows, runs, Task::Change).await,
            "repack" => idle(&server, rows, runs, Task::Repack).await,
            "closed" => under(&server, rows, runs, Load::Closed).await,
            "paced" => under(&server, rows, runs, Load::Paced).await,
            "open" => under(&server, rows, runs, Load::Open).await,
            "memory" => memory(&server, rows).await,
            _ => panic!("no part of the bench is called {part}"),
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().expect(name))
}

async fn idle(server: &Server, rows: u64, runs: u64, task: Task) {
    let contenders = Contender::present(server.kind, task);
    let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); contenders.len()];
    for _ in 0..runs {
        for (contender, taken) in contenders.iter().zip(&mut taken) {
            server.fill(rows).await;
            taken.push(contender.run(server, task).await);
        }
    }
    println!(
        "\n| nobody writes | whole, s | × blocking | of it comparing, s | processor of the server, s | of it comparing, s | its log, MB | × blocking |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let seconds = |time: Duration| time.as_secs_f64();
    let megabytes = |taken: &Taken| taken.logged as f64 / 1e6;
    let blocking = Spread::of(&taken[0], |taken| seconds(taken.whole)).median;
    let its_log = Spread::of(&taken[0], megabytes).median;
    for (contender, taken) in contenders.iter().zip(&taken) {
        let whole = Spread::of(taken, |taken| seconds(taken.whole));
        let comparing = Spread::of(taken, |taken| seconds(taken.comparison.took));
        let processor = Spread::of(taken, |taken| seconds(taken.processor));
        let its = Spread::of(taken, |taken| seconds(taken.comparison.processor));
        let logged = Spread::of(taken, megabytes);
        println!(
            "| {} | {whole} | {:.2} | {comparing} | {processor} | {its} | {logged} | {:.2} |",
            contender.name(server.kind, task),
            whole.median / blocking,
            logged.median / its_log
        );
    }
}

/// What one run did to those who wrote.
struct Beside {
    alone: Wrote,
    /// The part of the machine's processors that nobody used while they wrote alone.
    idle: f64,
    with: Wrote,
    whole: Duration,
}

async fn under(server: &Server, rows: u64, runs: u64, load: Load) {
    // What nobody else can change beside writers is repacked beside them.
    let others =
        |task| Contender::present(server.kind, task).into_iter().map(move |contender| (contender, task));
    let contenders: Vec<(Contender, Task)> = others(Task::Change)
        .chain(others(Task::Repack).filter(|(contender, _)| *contender == Contender::PgRepack))
        // The blocking way lets nobody write.
        .filter(|(contender, _)| *contender != Contender::Blocking)
        .collect();
    let mut beside: Vec<Vec<Beside>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for ((contender, task), beside) in contenders.iter().zip(&mut beside) {
            server.fill(rows).await;
            let before = processors();
            let (alone, ()) = load.beside(server, rows, tokio::time::sleep(BASELINE)).await;
            let after = processors();
            let idle = (after.0 - before.0) / (after.1 - before.1);
            let (with, taken) = load.beside(server, rows, contender.run(server, *task)).await;
            beside.push(Beside { alone, idle, with, whole: taken.whole });
        }
    }
    println!(
        "\n| {} | whole, s | writes a second | of those alone | longest beyond that alone, ms | longest alone, ms | failed | processors idle alone, % |",
        load.name()
    );
    println!("|---|---|---|---|---|---|---|---|");
    for ((contender, task), beside) in contenders.iter().zip(&beside) {
        let whole = Spread::of(beside, |run| run.whole.as_secs_f64());
        let rate = Spread::of(beside, |run| run.with.rate);
        let share = Spread::of(beside, |run| run.with.rate / run.alone.rate);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        let stall =
            Spread::of(beside, |run| milliseconds(run.with.longest) - milliseconds(run.alone.longest));
        let alone = Spread::of(beside, |run| milliseconds(run.alone.longest));
        let failed: usize = beside.iter().map(|run| run.with.failed).sum();
        let idle = Spread::of(beside, |run| run.idle * 100.0);
        println!(
            "| {} | {whole} | {rate} | {share} | {stall} | {alone} | {failed} | {idle} |",
            contender.name(server.kind, *task)
        );
    }
}

/// Time of all processors that was idle, and all of it: proc(5), the first line of /proc/stat.
fn processors() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/stat").expect("proc(5)");
    let first = stat.lines().next().expect("a line");
    let times: Vec<f64> =
        first.split_whitespace().skip(1).map(|time| time.parse().expect("a number")).collect();
    (times[3], times.iter().take(8).sum())
}

async fn memory(server: &Server, rows: u64) {
    println!("\n| rows | most memory of `replank`, MiB |\n|---|---|");
    for rows in [rows, rows * 4] {
        server.fill(rows).await;
        let taken = Contender::Replank.run(server, Task::Change).await;
        println!("| {rows} | {} |", taken.memory >> 20);
    }
}

/// The median of some figures, the least and the most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> Self {
        let mut figures: Vec<f64> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        Self { median: figures[figures.len() / 2], least: figures[0], most: figures[figures.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}
