//! Servers for the tests: the rows of `servers.toml`, each a container that is started once and shared by all
//! tests of the process. Each test takes a database of its own.
//!
//! `REPLANK_TEST_SERVER` names the row that the tests of MySQL, those of PostgreSQL, or those of MongoDB, run on; a server
//! that is already there can be named by `REPLANK_TEST_MYSQL=mysql://root:…@host:port`, or by
//! `REPLANK_TEST_MONGO_URI=mongodb://…`, in which a replica set's name and a login are options as usual.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use testcontainers::core::{IntoContainerPort, Mount, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::sync::{Mutex, OnceCell};

use crate::binary::workspace;
use crate::random::Random;

/// Ports that are mapped to servers which are killed: below those that the kernel gives away by itself, or
/// another process could take it while the server is dead.
const OWN_PORTS: std::ops::Range<u16> = 20_000..28_000;
const START_SECONDS: u64 = 90;

/// A database of one test.
pub struct Database {
    /// The target, as a person types it.
    pub url: String,
    /// Its name.
    pub name: String,
}

/// A server of one test, which may kill it.
pub struct OwnServer {
    container: ContainerAsync<GenericImage>,
    url: String,
    port: u16,
}

/// A row of `servers.toml`.
#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    official: String,
    image: String,
    ports: Vec<u16>,
    ready: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    args: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Rows {
    server: Vec<Row>,
}

// Kept for the life of the process: tests share it, and nothing drops a static. `make test` removes it by
// its label afterwards.
static MYSQL: OnceCell<(Option<ContainerAsync<GenericImage>>, String)> = OnceCell::const_new();
static POSTGRES: OnceCell<(ContainerAsync<GenericImage>, String)> = OnceCell::const_new();
static MONGO: OnceCell<(Option<ContainerAsync<GenericImage>>, String)> = OnceCell::const_new();
// Two databases that are made at once must not get one name.
static NUMBER: Mutex<u32> = Mutex::const_new(0);

// That of a server which is dead just now looks free.
static TAKEN_PORTS: Mutex<BTreeSet<u16>> = Mutex::const_new(BTreeSet::new());

/// The row of `servers.toml` that the tests of MySQL run on.
pub fn chosen() -> String {
    std::env::var("REPLANK_TEST_SERVER").unwrap_or_else(|_| "mysql-9.7".to_owned())
}

/// Whether that is a MariaDB.
pub fn is_mariadb() -> bool {
    chosen().starts_with("mariadb")
}

/// The row of `servers.toml` that the tests of PostgreSQL run on.
fn chosen_postgres() -> String {
    Some(chosen()).filter(|name| name.starts_with("postgres")).unwrap_or_else(|| "postgres-17".to_owned())
}

/// The row of `servers.toml` that the tests of MongoDB run on.
fn chosen_mongo() -> String {
    Some(chosen()).filter(|name| name.starts_with("secantus")).unwrap_or_else(|| "secantus-0.7".to_owned())
}

/// Lets a recursive query count far.
pub fn count_far() -> &'static str {
    if is_mariadb() {
        "SET SESSION max_recursive_iterations = 100000000"
    } else {
        "SET SESSION cte_max_recursion_depth = 100000000"
    }
}

/// A new database on the shared server.
pub async fn mysql_database() -> Database {
    let (_, server) = MYSQL
        .get_or_init(|| async {
            if let Ok(url) = std::env::var("REPLANK_TEST_MYSQL") {
                return (None, url.trim_end_matches('/').to_owned());
            }
            let row = row(&chosen());
            let container = start(&row, &[], None, None).await;
            let port = container.get_host_port_ipv4(row.ports[0]).await.expect("the port is published");
            let url = url(&row, port);
            await_server(&url).await;
            (Some(container), url)
        })
        .await;
    database(server).await
}

/// A new database on the shared PostgreSQL server.
pub async fn postgres_database() -> Database {
    let (_, server) = POSTGRES
        .get_or_init(|| async {
            let row = row(&chosen_postgres());
            let container = start(&row, &[], None, None).await;
            let port = container.get_host_port_ipv4(row.ports[0]).await.expect("the port is published");
            (container, postgres_at(&row, port).await)
        })
        .await;
    postgres_database_on(server).await
}

/// A PostgreSQL server of the caller's own, and its address without a database.
pub async fn postgres_own_server(args: &[&str]) -> OwnServer {
    let row = row(&chosen_postgres());
    let port = own_port().await;
    let container = start(&row, args, Some(port), None).await;
    let url = postgres_at(&row, port).await;
    OwnServer { container, url, port }
}

/// A standby of a PostgreSQL server of the caller's own, made of all that the primary has by now, which follows it.
pub async fn postgres_standby_of(primary: &OwnServer) -> OwnServer {
    let mut row = row(&chosen_postgres());
    row.env.insert("PRIMARY".to_owned(), primary.inner_address());
    row.ready = "ready to accept read-only connections".to_owned();
    let port = own_port().await;
    let container = start(&row, &[], Some(port), None).await;
    let url = postgres_at(&row, port).await;
    OwnServer { container, url, port }
}

/// A new database on a PostgreSQL server.
pub async fn postgres_database_on(server: &str) -> Database {
    let name = database_name().await;
    let mut connection = PgConnection::connect(&format!("{server}/postgres")).await.expect("a connection");
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("a database");
    Database { url: format!("{server}/{name}"), name }
}

/// A name for a new database on the shared MongoDB, which makes it at the first write.
pub async fn mongo_database() -> Database {
    let (_, server) = MONGO
        .get_or_init(|| async {
            if let Ok(url) = std::env::var("REPLANK_TEST_MONGO_URI") {
                return (None, url);
            }
            let OwnServer { container, url, .. } = mongo_own_server(&[]).await;
            (Some(container), url)
        })
        .await;
    mongo_database_on(server).await
}

/// A MongoDB of the caller's own, with more arguments than the shared one's.
///
/// A member of a replica set says itself where it is, and a client goes there. So it listens on one port inside and
/// outside of its container.
pub async fn mongo_own_server(args: &[&str]) -> OwnServer {
    let port = own_port().await;
    let mut row = row(&chosen_mongo());
    row.ports = vec![port];
    row.env.insert("PORT".to_owned(), port.to_string());
    let container = start(&row, args, Some(port), None).await;
    let url = format!("mongodb://127.0.0.1:{port}");
    await_server(&url).await;
    OwnServer { container, url, port }
}

/// A name that no database on a MongoDB has: it may be one that others use, and other processes of ours have used.
async fn mongo_database_on(server: &str) -> Database {
    let random: u32 = Random::of_now().below(1 << 32).try_into().expect("32 bits");
    let name = format!("{}_{random:08x}", database_name().await);
    let (hosts, options) =
        server.split_once('?').map_or((server, None), |(hosts, options)| (hosts, Some(options)));
    // What a login is looked up in is the database of the address, unless it is named.
    let has_login = hosts.contains('@') && !server.contains("authSource=");
    let options: Vec<&str> = options.into_iter().chain(has_login.then_some("authSource=admin")).collect();
    let options = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
    Database { url: format!("{}/{name}{options}", hosts.trim_end_matches('/')), name }
}

/// The address of a server, once it answers.
async fn postgres_at(row: &Row, port: u16) -> String {
    let password = row.env.get("POSTGRES_PASSWORD").map_or("", String::as_str);
    let url = format!("postgres://{}:{password}@127.0.0.1:{port}", row.user);
    await_server(&url).await;
    url
}

/// A MySQL server of the caller's own, with more arguments than the shared one's.
pub async fn mysql_own_server(args: &[&str]) -> OwnServer {
    own_server(args, None).await
}

/// The same in a time zone, with no arguments more.
pub async fn mysql_own_server_in(zone: &str) -> OwnServer {
    let mut row = row(&chosen());
    row.env.insert("TZ".to_owned(), zone.to_owned());
    own_server_of(&row, &[], None).await
}

/// The same with its tables on a small disk in memory, of so many MiB, and its log elsewhere.
pub async fn mysql_on_a_small_disk(mebibytes: u64) -> OwnServer {
    let redo = match is_mariadb() {
        true => "--innodb-log-file-size=33554432",
        false => "--innodb-redo-log-capacity=33554432",
    };
    own_server(&["--log-bin=/tmp/binlog", redo], Some(mebibytes)).await
}

/// A replica of a server of the caller's own, which says where it is. What the primary has by now is not brought over.
pub async fn mysql_replica_of(primary: &OwnServer) -> OwnServer {
    let row = row(&chosen());
    let port = own_port().await;
    let report = format!("--report-port={port}");
    let args = ["--server-id=2", "--log-slave-updates=ON", "--report-host=127.0.0.1", &report];
    let container = start(&row, &args, Some(port), None).await;
    let replica = OwnServer { container, url: url(&row, port), port };
    await_server(&replica.url).await;
    let mut there = connect(&replica.url).await.expect("the replica takes a connection");
    let mut here = connect(&primary.url).await.expect("the primary takes a connection");
    let (position, password) = (if is_mariadb() { "@@gtid_binlog_pos" } else { "@@gtid_executed" }, &row.env);
    let password = password.values().next().map_or("", String::as_str);
    let position: Option<String> = here.query_first(format!("SELECT {position}")).await.expect("a position");
    let position = position.expect("a position").replace('\n', "");
    let host = primary.inner_address();
    let statements = match is_mariadb() {
        true => vec![
            format!("SET GLOBAL gtid_slave_pos = '{position}'"),
            format!(
                "CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {}, MASTER_USER = '{}',
                 MASTER_PASSWORD = '{password}', MASTER_USE_GTID = slave_pos, MASTER_SSL = 0",
                row.ports[0], row.user
            ),
            "START SLAVE".to_owned(),
        ],
        false => vec![
            "RESET BINARY LOGS AND GTIDS".to_owned(),
            format!("SET GLOBAL gtid_purged = '{position}'"),
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {}, SOURCE_USER = '{}',
                 SOURCE_PASSWORD = '{password}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
                row.ports[0], row.user
            ),
            "START REPLICA".to_owned(),
        ],
    };
    for statement in statements {
        there.query_drop(&statement).await.expect(&statement);
    }
    replica
}

async fn own_port() -> u16 {
    let mut taken = TAKEN_PORTS.lock().await;
    let port = OWN_PORTS
        .skip(usize::try_from(std::process::id() % 4_000).expect("small"))
        .filter(|port| !taken.contains(port))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port");
    taken.insert(port);
    port
}

async fn own_server(args: &[&str], disk: Option<u64>) -> OwnServer {
    own_server_of(&row(&chosen()), args, disk).await
}

async fn own_server_of(row: &Row, args: &[&str], disk: Option<u64>) -> OwnServer {
    let port = own_port().await;
    let container = start(row, args, Some(port), disk).await;
    let url = url(row, port);
    await_server(&url).await;
    OwnServer { container, url, port }
}

impl OwnServer {
    /// A new database on it.
    pub async fn database(&self) -> Database {
        match self.url.split_once(':') {
            Some(("postgres", _)) => postgres_database_on(&self.url).await,
            Some(("mongodb", _)) => mongo_database_on(&self.url).await,
            _ => database(&self.url).await,
        }
    }

    /// The target of one of its databases; of none for an empty name.
    pub fn url_of(&self, database: &str) -> String {
        format!("{}/{database}", self.url)
    }

    /// Where it is, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is for other containers.
    pub fn inner_address(&self) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let done = Command::new("docker").args(["inspect", "-f", format, self.container.id()]).output();
        String::from_utf8(done.expect("docker runs").stdout).expect("an address").trim().to_owned()
    }

    /// kill -9 of the server.
    pub async fn kill(&self) {
        self.docker("kill");
    }

    /// The number of its first process on this machine: whoever kills that one, kills all of it.
    pub fn pid(&self) -> String {
        let format = "{{.State.Pid}}";
        let done = Command::new("docker").args(["inspect", "-f", format, self.container.id()]).output();
        String::from_utf8(done.expect("docker runs").stdout).expect("a number").trim().to_owned()
    }

    /// kill -9 of the server at this very moment: a command to the engine takes a tenth of a second.
    pub async fn kill_at_once(&self, pid: &str) {
        let sent = Command::new("kill").args(["-9", pid]).status();
        assert!(sent.expect("kill runs").success(), "no server with number {pid}");
        self.docker("wait");
    }

    /// Starts it again, and waits until it answers.
    pub async fn start(&self) {
        self.docker("start");
        await_server(&self.url).await;
    }

    /// Asks it to end and starts it again, and waits until it answers.
    pub async fn restart(&self) {
        self.docker("restart");
        await_server(&self.url).await;
    }

    /// Runs a command in its container.
    pub fn shell(&self, command: &str) {
        let done = Command::new("docker").args(["exec", self.container.id(), "sh", "-c", command]).output();
        let done = done.expect("docker runs");
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn docker(&self, what: &str) {
        let done = Command::new("docker").args([what, self.container.id()]).output().expect("docker runs");
        assert!(done.status.success(), "docker {what}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// The names of all rows of `servers.toml`.
pub fn names() -> Vec<String> {
    rows().into_iter().map(|row| row.name).collect()
}

fn row(name: &str) -> Row {
    rows().into_iter().find(|row| row.name == name).expect("the server has a row")
}

fn rows() -> Vec<Row> {
    let path = workspace().join("integration-tests/servers.toml");
    let text = std::fs::read_to_string(path).expect("servers.toml");
    let rows: Rows = toml::from_str(&text).expect("servers.toml is TOML");
    rows.server
}

async fn start(
    row: &Row,
    args: &[&str],
    port: Option<u16>,
    disk: Option<u64>,
) -> ContainerAsync<GenericImage> {
    let image = if is_here(&row.official) { &row.official } else { &row.image };
    let (name, tag) = image.rsplit_once(':').expect("an image has a tag");
    let inner = row.ports[0].tcp();
    let mut request = GenericImage::new(name, tag)
        .with_exposed_port(inner)
        .with_wait_for(WaitFor::message_on_stderr(&row.ready))
        .with_cmd(row.args.iter().map(String::as_str).chain(args.iter().copied()))
        .with_label("replank-test", std::process::id().to_string())
        .with_startup_timeout(Duration::from_secs(START_SECONDS));
    // `make test` removes what bears its own label, however the tests end.
    if let Some((name, value)) =
        std::env::var("REPLANK_TEST_LABEL").ok().as_deref().and_then(|label| label.split_once('='))
    {
        request = request.with_label(name, value);
    }
    for (name, value) in &row.env {
        request = request.with_env_var(name, value);
    }
    if let Some(mebibytes) = disk {
        request =
            request.with_mount(Mount::tmpfs_mount("/var/lib/mysql").with_size(&format!("{mebibytes}m")));
    }
    if let Some(port) = port {
        request = request.with_mapped_port(port, inner);
    }
    request.start().await.unwrap_or_else(|error| {
        panic!(
            "the server {} does not start: {error}\nstart an engine with `scripts/docker-engine.sh start`, \
             then `eval \"$(scripts/docker-engine.sh env)\"` and `scripts/server-images.sh`",
            row.name
        )
    })
}

fn is_here(image: &str) -> bool {
    let found = Command::new("docker").args(["image", "inspect", image]).output();
    !image.is_empty() && found.is_ok_and(|found| found.status.success())
}

fn url(row: &Row, port: u16) -> String {
    let password = row.env.values().next().map_or("", String::as_str);
    format!("mysql://{}:{password}@127.0.0.1:{port}", row.user)
}

async fn database_name() -> String {
    let mut number = NUMBER.lock().await;
    *number += 1;
    format!("t{}_{number}", std::process::id())
}

async fn database(server: &str) -> Database {
    let name = database_name().await;
    let mut connection = connect(server).await.expect("the server takes a connection");
    for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        connection.query_drop(&statement).await.expect(&statement);
    }
    Database { url: format!("{server}/{name}"), name }
}

/// The log says that it is ready a moment before it is, and after a restart says so twice.
async fn await_server(url: &str) {
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
    loop {
        match tokio::time::timeout(Duration::from_secs(5), answers(url)).await {
            Ok(Ok(())) => return,
            _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(Err(error)) => panic!("the server does not answer: {error}"),
            Err(_elapsed) => panic!("the server takes connections and says nothing"),
        }
    }
}

async fn answers(url: &str) -> Result<(), String> {
    match url.split_once(':') {
        Some(("postgres", _)) => {
            PgConnection::connect(&format!("{url}/postgres")).await.map(drop).map_err(|why| why.to_string())
        }
        Some(("mongodb", _)) => pings(url).await.map_err(|why| why.to_string()),
        _ => connect(url).await.map(drop).map_err(|why| why.to_string()),
    }
}

async fn pings(url: &str) -> mongodb::error::Result<()> {
    let client = mongodb::Client::with_uri_str(url).await?;
    client.database("admin").run_command(doc! { "ping": 1 }).await.map(drop)
}

/// How an application connects.
pub fn options(url: &str) -> OptsBuilder {
    let opts = Opts::from_url(url).expect("the harness makes URLs that can be read");
    // MariaDB before 11.4 makes no certificate of its own.
    let has_tls = !is_mariadb();
    let tls = has_tls.then(|| SslOpts::default().with_danger_accept_invalid_certs(true));
    OptsBuilder::from_opts(opts).prefer_socket(false).ssl_opts(tls)
}

async fn connect(url: &str) -> mysql_async::Result<Conn> {
    Conn::new(options(url)).await
}
