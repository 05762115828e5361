//! Connections to one server.
//!
//! Every session of ours has the same settings, so that an expression gives the same value today, after a
//! resume and on the way back. A session whose statement failed, or whose caller was dropped half-way, is
//! closed and never used again: its transaction rolls back, and what it was at is a matter of the fence.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Opts, OptsBuilder, SslOpts};
use replank_core::driver::Settings;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::timeout;
use url::Url;

use crate::error::{code, from_mysql, is_lost};
use crate::lookout::Lookout;
use crate::sql::{run, text};

/// A server that is there answers a handshake at once; a paused one takes the connection and says nothing.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// One that is lost while it is opened is an accident; a server that does this each time is not well. Chosen.
const OPEN_TRIES: u32 = 2;
/// More idle sessions than copy workers, appliers, feed and journal together need. Chosen.
const IDLE_MAX: usize = 16;
/// A session that was used within this is there: asking each time would cost a round trip. Chosen.
const TRUSTED: Duration = Duration::from_secs(1);

/// A runner that is stopped in the middle of a batch holds its rows no longer than this. Chosen: a batch takes
/// milliseconds.
const IDLE_TRANSACTION_SECONDS: u32 = 5;

/// What decides how a value is converted, compared or refused. Not NO_ZERO_DATE and NO_ZERO_IN_DATE: what
/// the table holds already must be copied.
const SQL_MODE: &str =
    "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO,ERROR_FOR_DIVISION_BY_ZERO";

/// Whose server it is: the two speak one language, and differ in their locks, logs and catalogues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// From 8.0.17.
    MySql,
    /// From 10.6.
    MariaDb,
}

impl Product {
    /// By what the server says of its version.
    pub fn of(version: &str) -> Self {
        match version.contains("MariaDB") {
            true => Self::MariaDb,
            false => Self::MySql,
        }
    }

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }

    /// The setting that ends a statement of a session after so many seconds; 0 for never.
    pub fn deadline(self, seconds: u64) -> String {
        match self {
            Self::MySql => format!("max_execution_time = {}", seconds * 1000),
            Self::MariaDb => format!("max_statement_time = {seconds}"),
        }
    }

    /// What makes a setting last.
    pub fn set(self) -> &'static str {
        match self {
            Self::MySql => "SET PERSIST",
            Self::MariaDb => "SET GLOBAL",
        }
    }
}

/// A session, and on whose server it is.
pub struct Conn {
    inner: mysql_async::Conn,
    product: Product,
    opened: Instant,
    /// The server's identity, where it is the target's.
    identity: Option<Arc<str>>,
}

impl Conn {
    /// Whose server it is on.
    pub fn product(&self) -> Product {
        self.product
    }

    /// Whether it is on MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.product == Product::MariaDb
    }

    /// Asks what became of a statement of this session whose answer does not come.
    pub fn lookout(&self) -> Lookout {
        Lookout {
            opts: self.inner.opts().clone(),
            id: self.inner.id(),
            product: self.product,
            opened: self.opened,
            identity: self.identity.clone(),
        }
    }

    /// The client's own, for what ends with it.
    pub fn into_inner(self) -> mysql_async::Conn {
        self.inner
    }
}

impl Deref for Conn {
    type Target = mysql_async::Conn;

    fn deref(&self) -> &mysql_async::Conn {
        &self.inner
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut mysql_async::Conn {
        &mut self.inner
    }
}

/// A server, and the sessions on it.
pub struct Server {
    opts: Opts,
    version: String,
    product: Product,
    /// Which server it was when this was opened.
    identity: Arc<str>,
    /// It has `innodb_snapshot_isolation`.
    isolates_snapshots: bool,
    schema: Option<String>,
    /// The replica whose log is read in place of this server's.
    log_of: Option<(String, u16)>,
    settings: Settings,
    /// The one that was kept last is at the end.
    idle: Mutex<Vec<(Conn, Instant)>>,
}

impl Server {
    /// Connects once, so that a wrong address or password is told now.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a URL that cannot be meant, or a login that the server refuses;
    /// [`ErrorKind::NotFound`] for a server or a database that is not there.
    pub async fn open(url: &str, settings: &Settings) -> Result<Self> {
        again_when_lost(|| Self::open_once(url, settings)).await.map_err(|error| match Target::read(url) {
            Ok(target) if error.kind() == ErrorKind::ConnectionLost => nobody(&target, error.message()),
            _ => error,
        })
    }

    async fn open_once(url: &str, settings: &Settings) -> Result<Self> {
        // With two providers linked rustls cannot choose, and panics at the first connection. Somebody
        // else may have installed it: that is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let target = Target::read(url)?;
        let mut tls = target.tls()?;
        let first = loop {
            let opts = Opts::from(target.opts().ssl_opts(tls.clone()));
            match (within(mysql_async::Conn::new(opts.clone())).await, &target.mode) {
                (Ok(connection), _) => break (opts, connection),
                // A server without TLS, and nobody insists on it.
                (Err(error), Mode::Preferred) if tls.is_some() && is_without_tls(&error) => tls = None,
                (Err(error), _) => return Err(refused(error, &target)),
            }
        };
        let (opts, mut inner) = first;
        let asking = within(inner.query_first("SELECT VERSION()"));
        let version: Option<String> = asking.await.map_err(from_mysql)?;
        let version = version.unwrap_or_default();
        let product = Product::of(&version);
        let isolates_snapshots = match product {
            Product::MySql => false,
            // Newer ones fail a statement of ours when a row changed since its snapshot, instead of waiting for it.
            Product::MariaDb => {
                let sql = "SHOW VARIABLES LIKE 'innodb\\_snapshot\\_isolation'";
                let asking = within(inner.query_first(sql));
                let found: Option<mysql_async::Row> = asking.await.map_err(from_mysql)?;
                found.is_some()
            }
        };
        let identity: Arc<str> = identity(&mut inner, product).await.map_err(from_mysql)?.into();
        let server = Self {
            opts,
            version,
            product,
            identity,
            isolates_snapshots,
            schema: target.schema,
            log_of: target.log_of,
            settings: settings.clone(),
            idle: Mutex::default(),
        };
        let identity = Some(Arc::clone(&server.identity));
        let mut connection = Conn { inner, product, opened: Instant::now(), identity };
        server.pin(&mut connection).await?;
        server.keep(connection);
        Ok(server)
    }

    /// The database of the URL: where names that are not qualified are looked up.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// As it stated it when this was opened.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whose it is.
    pub fn product(&self) -> Product {
        self.product
    }

    /// The replica whose log is read in place of this server's.
    pub fn log_of(&self) -> Option<(&str, u16)> {
        self.log_of.as_ref().map(|(host, port)| (host.as_str(), *port))
    }

    /// Which it is: another one behind the same address has another.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What the person set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A new connection with our settings, which nobody else will get.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when the address leads to another server meanwhile.
    pub async fn connect(&self) -> Result<Conn> {
        again_when_lost(|| self.connect_once()).await.map_err(|error| match error.kind() {
            // Nothing of the caller's was sent: a server that restarts is back in a while.
            ErrorKind::ConnectionLost => {
                Error::new(ErrorKind::Retry, format!("the server does not answer: {}", error.message()))
            }
            _ => error,
        })
    }

    async fn connect_once(&self) -> Result<Conn> {
        let opened = within(mysql_async::Conn::new(self.opts.clone())).await;
        let mut inner = opened.map_err(|error| match code(&error) {
            Some(_) => from_mysql(error),
            None if is_lost(&error) => from_mysql(error),
            // Nothing was sent, so it can be tried again: a server that restarts is back in a while.
            None => Error::new(ErrorKind::Retry, format!("the server does not answer: {error}")),
        })?;
        // Half of a run here and half of it there would be neither: what is known of one is not true of the other.
        let now = identity(&mut inner, self.product).await.map_err(from_mysql)?;
        if *now != *self.identity {
            return Err(Error::new(ErrorKind::Fenced, "the address leads to another server now")
                .with("before", &self.identity)
                .with("now", now)
                .hint("where it took over with all its data, `replank resume` goes on there; nothing was written to it"));
        }
        let identity = Some(Arc::clone(&self.identity));
        let mut connection = Conn { inner, product: self.product, opened: Instant::now(), identity };
        self.pin(&mut connection).await?;
        Ok(connection)
    }

    /// A connection to another server with the same login; nothing is set there.
    pub async fn elsewhere(&self, host: &str, port: u16) -> Result<Conn> {
        let opts = OptsBuilder::from_opts(self.opts.clone()).ip_or_hostname(host).tcp_port(port);
        let inner = within(mysql_async::Conn::new(opts.db_name(None::<String>))).await.map_err(from_mysql)?;
        Ok(Conn { inner, product: self.product, opened: Instant::now(), identity: None })
    }

    /// A session with our settings and no transaction; given back by [`Server::keep`] when all went well,
    /// and closed by dropping it otherwise.
    ///
    /// One that nobody used for a while is asked first: a firewall or a `KILL` ends all that are idle at once, and
    /// whoever met them one by one would think that the server is gone.
    pub async fn take(&self) -> Result<Conn> {
        let idle = self.idle().pop();
        if let Some((mut connection, since)) = idle {
            if since.elapsed() < TRUSTED && !connection.is_disconnected() {
                return Ok(connection);
            }
            if within(connection.ping()).await.is_ok() {
                return Ok(connection);
            }
            // The others have been idle for longer.
            self.idle().retain(|(_, kept)| *kept > since);
        }
        self.connect().await
    }

    /// Keeps a session for the next caller. Only one without a transaction, lock or setting of its own.
    pub fn keep(&self, connection: Conn) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push((connection, Instant::now()));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Conn, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pin(&self, connection: &mut Conn) -> Result<()> {
        let busy_seconds = self.settings.busy_timeout.as_secs().max(1);
        let waiting = if self.isolates_snapshots { ", innodb_snapshot_isolation = OFF" } else { "" };
        let own = match self.product {
            // A primary key that the server made itself is there, whatever it shows to others.
            Product::MySql => "information_schema_stats_expiry = 0 \
                 /*!80030 , show_gipk_in_create_table_and_information_schema = ON */"
                .to_owned(),
            // Where nobody can see who holds a table, the server itself ends a session of ours that is stopped in
            // the middle of a transaction.
            Product::MariaDb => {
                format!("check_constraint_checks = 1, idle_transaction_timeout = {IDLE_TRANSACTION_SECONDS}")
            }
        };
        run(
            connection,
            format!(
                "SET NAMES utf8mb4, SESSION sql_mode = {}, time_zone = '+00:00', autocommit = 1,
                 foreign_key_checks = 0, unique_checks = 1,
                 innodb_lock_wait_timeout = {busy_seconds}, lock_wait_timeout = {busy_seconds},
                 sql_safe_updates = 0, sql_select_limit = DEFAULT, sql_big_selects = 1,
                 group_concat_max_len = 1048576, wait_timeout = 86400, {}, {own}{waiting};
                 SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
                text(SQL_MODE),
                self.product.deadline(0)
            ),
        )
        .await?;
        Ok(())
    }
}

/// MySQL has a number of its own for each server, kept with the data. MariaDB has none: the number among the servers of
/// a topology, and where it runs.
pub async fn identity(connection: &mut mysql_async::Conn, product: Product) -> mysql_async::Result<String> {
    let sql = match product {
        Product::MySql => "SELECT @@GLOBAL.server_uuid",
        Product::MariaDb => {
            "SELECT CONCAT(@@GLOBAL.server_id, ' on ', @@GLOBAL.hostname, ':', @@GLOBAL.port)"
        }
    };
    let identity: Option<String> = within(connection.query_first(sql)).await?;
    Ok(identity.unwrap_or_default())
}

/// What only opens a connection can be tried again when it was lost on the way.
async fn again_when_lost<T, F>(open: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    for _ in 1..OPEN_TRIES {
        match open().await {
            Err(error) if error.kind() == ErrorKind::ConnectionLost => {
                tracing::debug!(%error, "connecting again")
            }
            opened => return opened,
        }
    }
    open().await
}

async fn within<T>(asking: impl Future<Output = mysql_async::Result<T>>) -> mysql_async::Result<T> {
    timeout(CONNECT_DEADLINE, asking).await.unwrap_or_else(|_elapsed| {
        let slow = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer");
        Err(mysql_async::Error::from(slow))
    })
}

fn is_without_tls(error: &mysql_async::Error) -> bool {
    use mysql_async::DriverError::NoClientSslFlagFromServer;
    matches!(error, mysql_async::Error::Driver(NoClientSslFlagFromServer))
}

fn refused(error: mysql_async::Error, target: &Target) -> Error {
    let at = format!("{}:{}", target.host, target.port);
    match code(&error) {
        Some(1044 | 1045 | 1698) => {
            Error::new(ErrorKind::Usage, format!("the server at {at} refuses the login"))
                .hint("check user and password of the target")
                .caused_by(error)
        }
        Some(1049) => Error::new(
            ErrorKind::NotFound,
            format!("no database `{}` at {at}", target.schema.as_deref().unwrap_or_default()),
        )
        .caused_by(error),
        Some(_) => from_mysql(error),
        None if is_lost(&error) => from_mysql(error),
        None => nobody(target, &error.to_string()).caused_by(error),
    }
}

fn nobody(target: &Target, said: &str) -> Error {
    let at = format!("{}:{}", target.host, target.port);
    Error::new(ErrorKind::NotFound, format!("no server answers at {at}: {said}"))
        .hint("check host, port and TLS mode of the target")
}

/// How a connection is encrypted, in the words of MySQL's own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// What a URL says.
#[derive(Debug)]
struct Target {
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    schema: Option<String>,
    mode: Mode,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    log_of: Option<(String, u16)>,
}

impl Target {
    /// Reads `mysql://` or `mariadb://user:password@host:port/database?ssl-mode=…&ssl-ca=…&ssl-cert=…&ssl-key=…`, and
    /// `log-of=host:port` of a replica.
    fn read(text: &str) -> Result<Self> {
        // Never the URL itself: it holds a password.
        let usage = |what: String| {
            Error::new(ErrorKind::Usage, what).hint("a target is mysql://user:password@host:port/database")
        };
        let url = Url::parse(text).map_err(|error| usage(format!("the target is no URL: {error}")))?;
        let decoded = |part: &str, what: &str| {
            percent_decoded(part).ok_or_else(|| usage(format!("the target's {what} is not UTF-8")))
        };
        let host = url.host_str().unwrap_or("127.0.0.1").trim_matches(['[', ']']).to_owned();
        let schema = match url.path().trim_start_matches('/') {
            "" => None,
            path if path.contains('/') => {
                return Err(usage("the target's path is not one database".to_owned()));
            }
            path => Some(decoded(path, "database")?),
        };
        let (mut mode, mut ca, mut certificate, mut key) = (None, None, None, None);
        let mut log_of = None;
        for (name, value) in url.query_pairs() {
            match name.replace('_', "-").to_ascii_lowercase().as_str() {
                "ssl-mode" | "sslmode" => {
                    mode = Some(match value.replace('-', "_").to_ascii_uppercase().as_str() {
                        "DISABLED" | "DISABLE" => Mode::Disabled,
                        "PREFERRED" | "PREFER" => Mode::Preferred,
                        "REQUIRED" | "REQUIRE" => Mode::Required,
                        "VERIFY_CA" => Mode::VerifyCa,
                        "VERIFY_IDENTITY" | "VERIFY_FULL" => Mode::VerifyIdentity,
                        other => return Err(usage(format!("unknown ssl-mode `{other}`"))),
                    });
                }
                "ssl-ca" | "sslrootcert" => ca = Some(PathBuf::from(value.as_ref())),
                "ssl-cert" | "sslcert" => certificate = Some(PathBuf::from(value.as_ref())),
                "ssl-key" | "sslkey" => key = Some(PathBuf::from(value.as_ref())),
                "log-of" => log_of = Some(address(&value)?),
                _ => return Err(usage(format!("unknown parameter `{name}` in the target"))),
            }
        }
        let identity = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => return Err(usage("ssl-cert and ssl-key go together".to_owned())),
        };
        let default = if ca.is_some() { Mode::VerifyCa } else { Mode::Preferred };
        Ok(Self {
            host,
            port: url.port().unwrap_or(3306),
            user: match url.username() {
                "" => "root".to_owned(),
                user => decoded(user, "user")?,
            },
            password: url.password().map(|password| decoded(password, "password")).transpose()?,
            schema,
            mode: mode.unwrap_or(default),
            ca,
            identity,
            log_of,
        })
    }

    fn opts(&self) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(self.password.clone())
            .db_name(self.schema.clone())
            // On by default: for a loopback address it would ask the server for the path of its socket, and
            // try that path on this machine, where another server may listen.
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .stmt_cache_size(0)
    }

    fn tls(&self) -> Result<Option<SslOpts>> {
        let opts = match self.mode {
            Mode::Disabled => return Ok(None),
            // Encrypted, but not against somebody in the middle: what these modes mean in every client.
            Mode::Preferred | Mode::Required => SslOpts::default().with_danger_accept_invalid_certs(true),
            Mode::VerifyCa => SslOpts::default().with_danger_skip_domain_validation(true),
            Mode::VerifyIdentity => SslOpts::default(),
        };
        let opts = match &self.ca {
            Some(ca) => opts.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true),
            None => opts,
        };
        Ok(Some(match &self.identity {
            Some((certificate, key)) => opts.with_client_identity(Some(ClientIdentity::new(
                certificate.clone().into(),
                key.clone().into(),
            ))),
            None => opts,
        }))
    }
}

/// `host:port`, or a host alone.
///
/// # Errors
/// [`ErrorKind::Usage`] for anything else.
pub fn address(text: &str) -> Result<(String, u16)> {
    let (host, port) = text.trim().rsplit_once(':').unwrap_or((text.trim(), "3306"));
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok((host.trim_matches(['[', ']']).to_owned(), port)),
        _ => Err(Error::new(ErrorKind::Usage, format!("`{text}` is not host:port"))),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_everything_about_the_connection() {
        let target =
            Target::read("mysql://app:p%40ss@db.example:3307/shop?ssl-mode=VERIFY_CA&ssl-ca=/ca.pem")
                .expect("a good URL");
        assert_eq!((target.host.as_str(), target.port), ("db.example", 3307));
        assert_eq!((target.user.as_str(), target.password.as_deref()), ("app", Some("p@ss")));
        assert_eq!((target.schema.as_deref(), target.mode), (Some("shop"), Mode::VerifyCa));
        assert_eq!(target.log_of, None);
        let read = Target::read("mysql://db.example/shop?log-of=replica.example:3310").expect("a good URL");
        assert_eq!(read.log_of, Some(("replica.example".to_owned(), 3310)));
        let bare = Target::read("mysql://db.example").expect("a good URL");
        assert_eq!((bare.port, bare.mode, bare.schema), (3306, Mode::Preferred, None));
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_without_its_password() {
        for url in [
            "mysql://u:secret@h/a/b",
            "mysql://u:secret@h/a?ssl-mode=maybe",
            "mysql://u:secret@h/a?socket=/x",
            "mysql://u:secret@h/a?ssl-cert=/x",
            "mysql://u:secret@h:99999/a",
            "mysql://u:secret@h/a?log-of=replica:x",
        ] {
            let error = Target::read(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Usage, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
