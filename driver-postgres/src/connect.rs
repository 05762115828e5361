//! Connections to one server.
//!
//! Every session of ours has the same settings, so that an expression gives the same value today, after a
//! resume and on the way back. A session whose statement failed, or whose caller was dropped half-way, is
//! closed and never used again: its transaction rolls back, and what it was at is a matter of the fence.

use std::ops::{Deref, DerefMut};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use replank_core::driver::Settings;
use replank_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;
use url::Url;

use crate::error::from_sqlx;
use crate::lookout::Lookout;
use crate::sql::{first, get, is_so, run};

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

/// A session.
pub struct Conn {
    inner: PgConnection,
    lookout: Lookout,
}

impl Conn {
    /// The number of its server process.
    pub fn pid(&self) -> i32 {
        self.lookout.pid
    }

    /// How its answers are waited for.
    pub fn lookout(&self) -> Lookout {
        self.lookout.clone()
    }
}

impl Deref for Conn {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}

/// A server, and the sessions on it.
pub struct Server {
    opts: Arc<PgConnectOptions>,
    /// As `SHOW server_version_num` has it: 180006 is 18.6.
    version: u32,
    /// Which cluster and database it was when this was opened.
    cluster: String,
    /// As soon as it takes writes.
    timeline: OnceLock<String>,
    settings: Settings,
    /// A pooler gives each transaction a server process, so that there are no sessions of ours.
    is_pooled: bool,
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
        // With two providers linked rustls cannot choose, and panics at the first connection. Somebody
        // else may have installed it: that is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let opts = Arc::new(options(url)?);
        again_when_lost(|| Self::open_once(&opts, settings)).await.map_err(|error| refused(error, &opts))
    }

    async fn open_once(opts: &Arc<PgConnectOptions>, settings: &Settings) -> Result<Self> {
        let mut connection = opened(opts).await?;
        let version = first(&mut connection, "SELECT current_setting('server_version_num')::int").await?;
        let version = version.map(|row| get::<i32>(&row, 0)).transpose()?.unwrap_or_default();
        let identity = Identity::read(&mut connection).await?;
        let mut other = opened(opts).await?;
        let is_pooled = are_pooled(&mut connection, &mut other).await?;
        let server = Self {
            opts: Arc::clone(opts),
            version: u32::try_from(version).unwrap_or_default(),
            cluster: identity.cluster,
            timeline: identity.timeline.map_or_else(OnceLock::new, OnceLock::from),
            settings: settings.clone(),
            is_pooled,
            idle: Mutex::default(),
        };
        for mut connection in [connection, other] {
            server.pin(&mut connection).await?;
            server.keep(connection);
        }
        Ok(server)
    }

    /// As `SHOW server_version_num` has it: 180006 is 18.6.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether a pooler is in front of the server that gives each transaction another process. Nothing is changed through
    /// it, and nothing is set.
    pub fn is_pooled(&self) -> bool {
        self.is_pooled
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
        let mut connection = opened(&self.opts).await?;
        self.check_identity(Identity::read(&mut connection).await?)?;
        self.pin(&mut connection).await?;
        Ok(connection)
    }

    /// Half of a run here and half of it there would be neither: what is known of one is not true of the other.
    fn check_identity(&self, now: Identity) -> Result<()> {
        let known = self.timeline.get();
        if now.cluster == self.cluster {
            match &now.timeline {
                // A session that was opened there would outlive its promotion, on a timeline that nobody has looked at.
                None if known.is_some() => {
                    return Err(Error::new(ErrorKind::ConnectionLost, "a standby is in the server's place"));
                }
                None => return Ok(()),
                Some(timeline) if self.timeline.get_or_init(|| timeline.clone()) == timeline => return Ok(()),
                Some(_) => {}
            }
        }
        let before = Identity { cluster: self.cluster.clone(), timeline: known.cloned() };
        Err(Error::new(
            ErrorKind::Fenced,
            "the address leads to another server now, or to one that was promoted",
        )
        .with("before", before.told())
        .with("now", now.told())
        .hint("nothing was written to it; is it the right one? then `replank resume`"))
    }

    /// A session with our settings and no transaction; given back by [`Server::keep`] when all went well,
    /// and closed by dropping it otherwise.
    ///
    /// One that nobody used for a while is asked first: a firewall or an administrator ends all that are idle at once,
    /// and whoever met them one by one would think that the server is gone.
    pub async fn take(&self) -> Result<Conn> {
        let idle = self.idle().pop();
        if let Some((mut connection, since)) = idle {
            if since.elapsed() < TRUSTED {
                return Ok(connection);
            }
            if matches!(timeout(CONNECT_DEADLINE, connection.ping()).await, Ok(Ok(()))) {
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
        if self.is_pooled {
            // Whoever had the process next would have our settings.
            return Ok(());
        }
        let busy = self.settings.busy_timeout.as_millis().max(1);
        run(
            connection,
            format!(
                "SET application_name = 'replank';
                 SET client_min_messages = warning;
                 SET lock_timeout = {busy};
                 SET statement_timeout = 0;
                 SET synchronous_commit = local;
                 SET extra_float_digits = 1;
                 SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_SECONDS}s';
                 SET idle_session_timeout = 0;
                 SET default_transaction_isolation = 'read committed';
                 SET default_transaction_deferrable = off;
                 SET default_transaction_read_only = off;
                 SET default_tablespace = '';
                 SET jit = off;
                 SET standard_conforming_strings = on;
                 SET DateStyle = 'ISO, YMD';
                 SET IntervalStyle = 'postgres';
                 SET TimeZone = 'UTC';
                 SET bytea_output = 'hex';
                 SET xmloption = 'content';
                 SET row_security = off"
            ),
        )
        .await?;
        if self.version >= 170_000 {
            run(connection, "SET transaction_timeout = 0").await?;
        }
        // Only who may set it can have another.
        let other = "SELECT current_setting('session_replication_role') <> 'origin'";
        if is_so(connection, other).await? {
            run(connection, "SET session_replication_role = origin").await?;
        }
        Ok(())
    }
}

/// What a URL says, on top of the `PG…` variables and `~/.pgpass`.
fn options(url: &str) -> Result<PgConnectOptions> {
    let wrong = |why: String| {
        Error::new(ErrorKind::Usage, format!("the target is no address of a PostgreSQL server: {why}"))
            .hint("write it as postgres://user@host:5432/database")
    };
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    const KNOWN: [&str; 20] = [
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-root-cert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "statement-cache-capacity",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
        "connect_timeout",
        "target_session_attrs",
    ];
    for (name, _) in parsed.query_pairs() {
        if !KNOWN.contains(&&*name) && !name.starts_with("options[") {
            return Err(wrong(format!("`{name}` is no parameter of it")));
        }
    }
    let opts = PgConnectOptions::from_str(url).map_err(|error| wrong(error.to_string()))?;
    // Every statement has a message of its own in the log of a server that is set so; ours are ours.
    Ok(opts.disable_statement_logging())
}

async fn opened(opts: &Arc<PgConnectOptions>) -> Result<Conn> {
    let inner = match timeout(CONNECT_DEADLINE, PgConnection::connect_with(opts)).await {
        Ok(opened) => opened.map_err(from_sqlx)?,
        Err(_elapsed) => return Err(Error::new(ErrorKind::ConnectionLost, "the server did not answer")),
    };
    let lookout = Lookout { opts: Arc::clone(opts), pid: 0 };
    let mut connection = Conn { inner, lookout };
    let row = first(&mut connection, "SELECT pg_backend_pid()").await?;
    connection.lookout.pid = row.map(|row| get(&row, 0)).transpose()?.unwrap_or_default();
    Ok(connection)
}

/// Whether two connections share server processes, or one has several. A pool may give each the same one again by chance, so
/// they begin transactions at the same time, and in turns: in some order of these it cannot, whether it gives away what was
/// given back first or last.
async fn are_pooled(one: &mut Conn, other: &mut Conn) -> Result<bool> {
    const PID: &str = "BEGIN; SELECT pg_backend_pid()";
    for (one_begins, one_ends) in [(false, true), (true, true), (true, false)] {
        let mut both = [&mut *one, &mut *other];
        if !one_begins {
            both.reverse();
        }
        let mut is_pooled = false;
        for connection in &mut both {
            let row = first(connection, PID).await?;
            is_pooled |= row.map(|row| get::<i32>(&row, 0)).transpose()? != Some(connection.pid());
        }
        for connection in if one_ends { [&mut *one, &mut *other] } else { [&mut *other, &mut *one] } {
            run(connection, "ROLLBACK").await?;
        }
        if is_pooled {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a server is, as far as what we know of it stays true.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// The number that the cluster was made with, which its standbys share, and the database.
    cluster: String,
    /// Each promotion begins another one, in which numbers of transactions may mean others than before. A standby has
    /// none that counts.
    timeline: Option<String>,
}

impl Identity {
    async fn read(connection: &mut Conn) -> Result<Self> {
        let sql = "SELECT system_identifier::text || ' ' || current_database(),
                          CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END
                   FROM pg_control_system()";
        match first(connection, sql).await? {
            Some(row) => Ok(Self { cluster: get(&row, 0)?, timeline: get(&row, 1)? }),
            None => Err(Error::new(ErrorKind::Internal, "the server does not say who it is")),
        }
    }

    fn told(&self) -> String {
        format!("{}, timeline {}", self.cluster, self.timeline.as_deref().unwrap_or("of a standby"))
    }
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

fn refused(error: Error, opts: &PgConnectOptions) -> Error {
    let at = match opts.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", opts.get_host(), opts.get_port()),
    };
    match error.kind() {
        ErrorKind::Refused => Error::new(ErrorKind::Usage, format!("the server at {at} refuses the login"))
            .hint("check user and password of the target")
            .caused_by(error),
        ErrorKind::NotFound => Error::new(
            ErrorKind::NotFound,
            format!("no database `{}` at {at}", opts.get_database().unwrap_or(opts.get_username())),
        )
        .caused_by(error),
        ErrorKind::ConnectionLost => {
            Error::new(ErrorKind::NotFound, format!("no server answers at {at}: {}", error.message()))
                .hint("check host, port and TLS mode of the target")
                .caused_by(error)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_unknown_parameters_are_told() {
        let opts = options("postgres://u:p%40ss@db.example:5433/shop?sslmode=require").expect("a good URL");
        assert_eq!((opts.get_host(), opts.get_port()), ("db.example", 5433));
        assert_eq!(opts.get_database(), Some("shop"));
        let error = options("postgres://u@h/d?sslmod=require").expect_err("no such parameter");
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().contains("sslmod"), "{error}");
        assert!(options("postgres://u@h:x/d").is_err());
    }
}
