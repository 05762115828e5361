//! Who makes the change, and what it took.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::{Kind, Server};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The server's [`change`](Server::change).
    Change,
    /// The same table without its unused space.
    Repack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// The server's own way, with writers waiting all the time.
    Blocking,
    Replank,
    /// Of percona-toolkit, in the container that `REPLANK_BENCH_TOOLS` names.
    PtOsc,
    GhOst,
    Spirit,
    /// In the server's container, which `REPLANK_BENCH_TOOLS` names.
    PgRepack,
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub whole: Duration,
    /// Of the server.
    pub processor: Duration,
    /// Bytes in the server's log of changes.
    pub logged: u64,
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
    /// Those that are here and can do it.
    pub fn present(kind: Kind, task: Task) -> Vec<Self> {
        let is_here = |program| Command::new(program).arg("--version").output().is_ok();
        let has_tools = std::env::var("REPLANK_BENCH_TOOLS").is_ok_and(|container| !container.is_empty());
        let others = match (kind, task) {
            (Kind::MySql, Task::Change) => vec![
                (Self::PtOsc, has_tools),
                (Self::GhOst, is_here("gh-ost")),
                (Self::Spirit, is_here("spirit")),
            ],
            (Kind::Postgres, Task::Repack) => vec![(Self::PgRepack, has_tools)],
            (Kind::MySql, Task::Repack) | (Kind::Postgres, Task::Change) => Vec::new(),
        };
        let others = others.into_iter().filter_map(|(contender, is_present)| is_present.then_some(contender));
        [Self::Blocking, Self::Replank].into_iter().chain(others).collect()
    }

    pub fn name(self, kind: Kind, task: Task) -> &'static str {
        match (self, task, kind) {
            (Self::Blocking, Task::Change, Kind::MySql) => "`ALTER TABLE … ALGORITHM = COPY`",
            (Self::Blocking, Task::Change, Kind::Postgres) => "`ALTER TABLE`",
            (Self::Blocking, Task::Repack, Kind::MySql) => "`ALTER TABLE … FORCE, ALGORITHM = COPY`",
            (Self::Blocking, Task::Repack, Kind::Postgres) => "`VACUUM FULL`",
            (Self::Replank, Task::Change, _) => "`replank apply`",
            (Self::Replank, Task::Repack, _) => "`replank rebuild`",
            (Self::PtOsc, ..) => "`pt-online-schema-change`",
            (Self::GhOst, ..) => "`gh-ost`",
            (Self::Spirit, ..) => "`spirit`",
            (Self::PgRepack, ..) => "`pg_repack`",
        }
    }

    /// Does it; what is left behind is removed before this returns, and is not counted.
    pub async fn run(self, server: &Server, task: Task) -> Taken {
        let log = server.logged().await;
        let (before, began) = (server.processor_time(), Instant::now());
        let (mut comparison, mut memory) = (Comparison::default(), 0);
        match self {
            Self::Blocking => {
                let statement = blocking(server, task);
                let done = server.connect().await.run(&statement).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
            Self::Replank => (comparison, memory) = tokio::task::block_in_place(|| watched(server, task)),
            Self::PtOsc => run(pt_osc(server)).await,
            Self::GhOst => run(gh_ost(server)).await,
            Self::Spirit => run(spirit(server)).await,
            Self::PgRepack => run(pg_repack()).await,
        }
        let (whole, processor) = (began.elapsed(), server.processor_time() - before);
        let logged = server.logged().await - log;
        if self == Self::Replank {
            let mut finalize = replank();
            finalize.args(["finalize", "last", "--yes", "-t", &server.target()]);
            run(finalize).await;
        }
        Taken { whole, processor, logged, comparison, memory }
    }
}

fn blocking(server: &Server, task: Task) -> String {
    match (task, server.kind) {
        (Task::Change, Kind::MySql) => {
            format!("ALTER TABLE bench.orders {}, ALGORITHM = COPY", server.change())
        }
        (Task::Change, Kind::Postgres) => format!("ALTER TABLE bench.orders {}", server.change()),
        (Task::Repack, Kind::MySql) => "ALTER TABLE bench.orders FORCE, ALGORITHM = COPY".to_owned(),
        (Task::Repack, Kind::Postgres) => "VACUUM FULL bench.orders".to_owned(),
    }
}

fn replank() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/replank"))
}

/// What comparing took, and the most memory it had.
fn watched(server: &Server, task: Task) -> (Comparison, u64) {
    let mut command = replank();
    let statement = format!("ALTER TABLE bench.orders {}", server.change());
    match task {
        Task::Change => command.args(["apply", "-e", &statement]),
        Task::Repack => command.args(["rebuild", "bench.orders"]),
    };
    command.args(["--json", "--yes", "-t", &server.target()]);
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

/// In the container of the tools.
fn in_container(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    let container = std::env::var("REPLANK_BENCH_TOOLS").expect("it is present");
    command.args(["exec", &container]).args(arguments);
    command
}

/// As its manual page says: <https://docs.percona.com/percona-toolkit/pt-online-schema-change.html>.
fn pt_osc(server: &Server) -> Command {
    let table = format!("h=127.0.0.1,P={},u=root,p=replank,D=bench,t=orders", server.port());
    in_container(&["pt-online-schema-change", "--alter", server.change(), "--execute", &table])
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
    command.args([&format!("--port={}", server.port()), &format!("--alter={}", server.change())]);
    command.args(["--allow-on-master", "--ok-to-drop-table", "--initially-drop-ghost-table", "--execute"]);
    command.args(["--exact-rowcount=false", "--cut-over=default", "--ssl", "--ssl-allow-insecure"]);
    command
}

fn spirit(server: &Server) -> Command {
    let mut command = Command::new("spirit");
    command.args(["migrate", "--username=root", "--password=replank", "--database=bench", "--table=orders"]);
    command.args([&format!("--host=127.0.0.1:{}", server.port()), &format!("--alter={}", server.change())]);
    command
}

/// Rows in their present order, as replank keeps them: <https://reorg.github.io/pg_repack/>.
fn pg_repack() -> Command {
    in_container(&[
        "pg_repack",
        "--username=postgres",
        "--dbname=postgres",
        "--table=bench.orders",
        "--no-order",
    ])
}
