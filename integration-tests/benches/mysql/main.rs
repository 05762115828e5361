//! `make bench`: the online change beside the server's own blocking one and beside the peers that are installed. Figures,
//! and never pass or fail: all of one run on one server, in turns, so that a machine that slows down slows all of them.
//! `scripts/bench.sh` starts the server. `REPLANK_BENCH_ROWS` and `REPLANK_BENCH_RUNS` make it shorter.

mod contender;
mod server;
mod writers;

use std::time::Duration;

use self::contender::{Contender, Taken};
use self::server::Server;
use self::writers::{Load, Wrote};

/// Writers alone, before each run beside which they write.
const BASELINE: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() {
    let Some(server) = Server::from_environment() else {
        println!("mysql: not measured, REPLANK_BENCH_MYSQL names no server");
        return;
    };
    let rows = number("REPLANK_BENCH_ROWS", 1_000_000);
    let runs = number("REPLANK_BENCH_RUNS", 5);
    println!("mysql, {rows} rows of about 400 bytes with two indexes, {}, {runs} runs:", server::CHANGE);
    idle(&server, rows, runs).await;
    for load in [Load::Closed, Load::Open] {
        under(&server, rows, runs, load).await;
    }
    memory(&server, rows).await;
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().expect(name))
}

async fn idle(server: &Server, rows: u64, runs: u64) {
    let contenders = Contender::present();
    let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); contenders.len()];
    for _ in 0..runs {
        for (contender, taken) in contenders.iter().zip(&mut taken) {
            server.fill(rows).await;
            taken.push(contender.change(server).await);
        }
    }
    println!(
        "\n| nobody writes | whole, s | × blocking | of it comparing, s | processor of the server, s |\n|---|---|---|---|---|"
    );
    let blocking = Spread::of(&taken[0], |taken| taken.whole.as_secs_f64()).median;
    for (contender, taken) in contenders.iter().zip(&taken) {
        let whole = Spread::of(taken, |taken| taken.whole.as_secs_f64());
        let comparing = Spread::of(taken, |taken| taken.comparing.as_secs_f64());
        let processor = Spread::of(taken, |taken| taken.processor.as_secs_f64());
        let ratio = whole.median / blocking;
        println!("| {} | {whole} | {ratio:.2} | {comparing} | {processor} |", contender.name());
    }
}

/// What one run did to those who wrote.
struct Beside {
    alone: Wrote,
    with: Wrote,
    whole: Duration,
}

async fn under(server: &Server, rows: u64, runs: u64, load: Load) {
    // The blocking way lets nobody write.
    let contenders: Vec<Contender> =
        Contender::present().into_iter().filter(|contender| *contender != Contender::Blocking).collect();
    let mut beside: Vec<Vec<Beside>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for (contender, beside) in contenders.iter().zip(&mut beside) {
            server.fill(rows).await;
            let (alone, ()) = load.beside(server, rows, tokio::time::sleep(BASELINE)).await;
            let (with, taken) = load.beside(server, rows, contender.change(server)).await;
            beside.push(Beside { alone, with, whole: taken.whole });
        }
    }
    println!(
        "\n| {} | whole, s | writes a second | of those alone | longest beyond that alone, ms | longest alone, ms | failed |",
        load.name()
    );
    println!("|---|---|---|---|---|---|---|");
    for (contender, beside) in contenders.iter().zip(&beside) {
        let whole = Spread::of(beside, |run| run.whole.as_secs_f64());
        let rate = Spread::of(beside, |run| run.with.rate);
        let share = Spread::of(beside, |run| run.with.rate / run.alone.rate);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        let stall =
            Spread::of(beside, |run| milliseconds(run.with.longest) - milliseconds(run.alone.longest));
        let alone = Spread::of(beside, |run| milliseconds(run.alone.longest));
        let failed: usize = beside.iter().map(|run| run.with.failed).sum();
        println!("| {} | {whole} | {rate} | {share} | {stall} | {alone} | {failed} |", contender.name());
    }
}

async fn memory(server: &Server, rows: u64) {
    println!("\n| rows | most memory of `replank`, MiB |\n|---|---|");
    for rows in [rows, rows * 4] {
        server.fill(rows).await;
        let taken = Contender::Replank.change(server).await;
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
