//! Who makes the change, and what it took.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;

use super::server::{CHANGE, Server};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// The server's own way, with writers waiting all the time.
    Blocking,
    Replank,
    /// Of percona-toolkit, in the container that `REPLANK_BENCH_PERCONA` names.
    PtOsc,
    GhOst,
    Spirit,
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub whole: Duration,
    /// Of the server.
    pub processor: Duration,
    /// What is known of replank only.
    pub comparison: Comparison,
    /// The most memory of the tool, in bytes; of replank only.
    pub memory: u64,
}

/// What comparing every row took; it is part of the whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comparison {
    pub took: Duration,
    /// Of the server.
    pub processor: Duration,
}

impl Contender {
    /// Those that are here.
    pub fn present() -> Vec<Self> {
        let is_here = |program| Command::new(program).arg("--version").output().is_ok();
        [
            (Self::Blocking, true),
            (Self::Replank, true),
            (
                Self::PtOsc,
                std::env::var("REPLANK_BENCH_PERCONA").is_ok_and(|container| !container.is_empty()),
            ),
            (Self::GhOst, is_here("gh-ost")),
            (Self::Spirit, is_here("spirit")),
        ]
        .into_iter()
        .filter_map(|(contender, is_present)| is_present.then_some(contender))
        .collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Blocking => "`ALTER TABLE … ALGORITHM = COPY`",
            Self::Replank => "`replank apply`",
            Self::PtOsc => "`pt-online-schema-change`",
            Self::GhOst => "`gh-ost`",
            Self::Spirit => "`spirit`",
        }
    }

    /// Makes the change; what it leaves behind is removed before this returns, and is not counted.
    pub async fn change(self, server: &Server) -> Taken {
        let (before, began) = (server.processor_time(), Instant::now());
        let (mut comparison, mut memory) = (Comparison::default(), 0);
        match self {
            Self::Blocking => {
                let mut connection = server.connect().await;
                let statement = format!("ALTER TABLE bench.orders {CHANGE}, ALGORITHM = COPY");
                connection.query_drop(&statement).await.expect("it alters the table");
            }
            Self::Replank => {
                (comparison, memory) = tokio::task::block_in_place(|| apply(server));
            }
            Self::PtOsc => run(pt_osc(server)).await,
            Self::GhOst => run(gh_ost(server)).await,
            Self::Spirit => run(spirit(server)).await,
        }
        let processor = server.processor_time() - before;
        let taken = Taken { whole: began.elapsed(), processor, comparison, memory };
        if self == Self::Replank {
            let mut finalize = replank();
            finalize.args(["finalize", "last", "--yes", "-t", &server.target()]);
            run(finalize).await;
        }
        taken
    }
}

fn replank() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/replank"))
}

/// What comparing took, and the most memory it had.
fn apply(server: &Server) -> (Comparison, u64) {
    let mut command = replank();
    let statement = format!("ALTER TABLE orders {CHANGE}");
    command.args(["apply", "--json", "--yes", "-t", &server.target(), "-e", &statement]);
    command.args(std::env::var("REPLANK_BENCH_ARGS").unwrap_or_default().split_whitespace());
    let mut child =
        command.stdout(Stdio::piped()).spawn().expect("target/release/replank runs: make bench builds it");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut since: Option<(Instant, Duration)> = None;
    let (mut comparison, mut memory) = (Comparison::default(), 0);
    for line in lines.lines() {
        let event: serde_json::Value = serde_json::from_str(&line.expect("read")).expect("JSON");
        if event["type"] == "phase" {
            if let Some((began, processor)) = since.take() {
                comparison.took += began.elapsed();
                comparison.processor += server.processor_time() - processor;
            }
            since = (event["state"] == "verifying").then(|| (Instant::now(), server.processor_time()));
        }
        memory = memory.max(peak(&child));
    }
    assert!(child.wait().expect("it ends").success(), "replank failed");
    (comparison, memory)
}

/// VmHWM of proc(5), in bytes; 0 of a process that has ended.
fn peak(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
}

async fn run(mut command: Command) {
    let ended = tokio::task::spawn_blocking(move || command.output()).await.expect("joined");
    let ended = ended.expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stdout));
}

/// In its container, as its manual page says: <https://docs.percona.com/percona-toolkit/pt-online-schema-change.html>.
fn pt_osc(server: &Server) -> Command {
    let mut command = Command::new("docker");
    let container = std::env::var("REPLANK_BENCH_PERCONA").expect("it is present");
    let table = format!("h=127.0.0.1,P={},u=root,p=replank,D=bench,t=orders", server.port());
    command.args(["exec", &container, "pt-online-schema-change", "--alter", CHANGE, "--execute", &table]);
    command
}

fn gh_ost(server: &Server) -> Command {
    let mut command = Command::new("gh-ost");
    command.args([
        "--host=127.0.0.1",
        "--user=root",
        "--password=replank",
        "--database=bench",
        "--table=orders",
    ]);
    command.args([&format!("--port={}", server.port()), &format!("--alter={CHANGE}")]);
    command.args(["--allow-on-master", "--ok-to-drop-table", "--initially-drop-ghost-table", "--execute"]);
    command.args(["--exact-rowcount=false", "--cut-over=default", "--ssl", "--ssl-allow-insecure"]);
    command
}

fn spirit(server: &Server) -> Command {
    let mut command = Command::new("spirit");
    command.args(["migrate", "--username=root", "--password=replank", "--database=bench", "--table=orders"]);
    command.args([&format!("--host=127.0.0.1:{}", server.port()), &format!("--alter={CHANGE}")]);
    command
}
