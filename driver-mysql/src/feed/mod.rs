//! The change feed: the server's binary log.
//!
//! The log runs ahead of visibility: a transaction is sent to replicas before the engine has committed it,
//! and a semi-synchronous replica stretches that. Keys are handed out once a new read sees their transactions (R1);
//! how that is told, and how transactions are numbered, differs between the products. The whole transaction is in
//! the log when its first event is read, so a piece of a large one can be handed out at once.

mod gtid;
mod mariadb;
mod mysql;
pub mod replica;
mod row;
mod statement;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, EventData, RowsEventData, TransactionPayloadEvent};
use mysql_async::{BinlogStream, BinlogStreamRequest};
use replank_core::driver::{ChangeFeed, FeedBatch, RebuildJob};
use replank_core::value::{Change, Position};
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, timeout};

use self::gtid::GtidSet;
use self::mariadb::Domains;
use self::row::{Changed, keys};
use self::statement::{Meaning, meaning};
use crate::connect::{Conn, Product, Server};
use crate::error::{code, codes, from_mysql};
use crate::key::Values;
use crate::preflight::prepared;
use crate::spec::{KeyColumn, Spec};
use crate::sql::{first, get};

/// The server says that it is alive this often when nothing is written. In nanoseconds.
const HEARTBEAT: u64 = 1_000_000_000;
/// A server that says nothing for so long is gone: ten heartbeats were missed.
const SILENCE: Duration = Duration::from_secs(10);
// Most are committed at once: half a minute of patience. Chosen.
const PREPARED_TRIES: u32 = 150;
const PREPARED_PAUSE: Duration = Duration::from_millis(200);
/// What the log shows is committed within this, or something holds all commits.
const SETTLE_SECONDS: u64 = 60;

/// Everything that is committed, and nothing that a new read would not see.
pub async fn head(connection: &mut Conn) -> Result<Position> {
    match connection.product() {
        Product::MySql => mysql::head(connection).await,
        Product::MariaDb => mariadb::head(connection).await,
    }
}

/// The same as far as a table goes that nobody else can write just now: a transaction that wrote it has let go of
/// it, and so is visible. What others do meanwhile is not waited for.
pub async fn head_under_lock(connection: &mut Conn) -> Result<Position> {
    match connection.product() {
        Product::MySql => mysql::head(connection).await,
        Product::MariaDb => mariadb::newest(connection).await,
    }
}

/// Whether a feed at `at` has passed `goal`.
pub fn reached(product: Product, at: &Position, goal: &Position) -> bool {
    match product {
        Product::MySql => passed(at, goal, GtidSet::parse, GtidSet::contains),
        Product::MariaDb => passed(at, goal, Domains::parse, Domains::contains),
    }
}

fn passed<P>(
    at: &Position,
    goal: &Position,
    parse: fn(&str) -> Result<P>,
    contains: fn(&P, &P) -> bool,
) -> bool {
    match (parse(&at.0), parse(&goal.0)) {
        (Ok(at), Ok(goal)) => contains(&at, &goal),
        // A position that was not made here: nothing has passed it.
        _ => false,
    }
}

/// The text of a variable of the server.
async fn global(connection: &mut Conn, name: &str) -> Result<String> {
    match first(connection, format!("SELECT @@GLOBAL.{name}")).await? {
        Some(row) => get(&row, 0),
        None => Ok(String::new()),
    }
}

/// Opens the feed of a rebuild just after `from`.
///
/// # Errors
/// [`ErrorKind::FeedGap`] when the log was purged beyond it, or it is none of this server's. MariaDB may tell so
/// only when the feed is read.
pub async fn open(
    server: &Arc<Server>,
    job: &RebuildJob,
    spec: &Spec,
    lanes: u16,
    from: &Position,
) -> Result<Feed> {
    let mut settler = server.connect().await?;
    check_prepared(&mut settler).await?;
    let offset = clock_offset(&mut settler).await?;
    let (log, stream) = match server.product() {
        Product::MySql => mysql::open(server, settler, from).await?,
        Product::MariaDb => mariadb::open(server, settler, from).await?,
    };
    Ok(Feed {
        stream,
        log,
        watched: Watched {
            schema: spec.schema.clone(),
            name: job.table.name.clone(),
            columns: spec.source(job.direction).columns.len(),
            key: spec.flow(job.direction)?.key.clone(),
            lanes,
        },
        transaction: None,
        pending: VecDeque::new(),
        offset,
        committed: None,
        broken: None,
        silent: Duration::ZERO,
    })
}

/// Asks for the log. What a server that is there answers, it answers within its silence.
async fn stream(connection: Conn, request: BinlogStreamRequest<'_>) -> Result<BinlogStream> {
    let asking = connection.into_inner().get_binlog_stream(request);
    timeout(SILENCE, asking).await.map_or_else(|_elapsed| Err(silent(SILENCE)), |log| log.map_err(log_error))
}

fn silent(for_so_long: Duration) -> Error {
    let said = format!("the server's log has been silent for {} s", for_so_long.as_secs());
    Error::new(ErrorKind::ConnectionLost, said)
}

/// The number of a reader of the log: two with one number push each other out. Those of servers have no such high
/// bit.
fn number_of_ours() -> u32 {
    let chance = RandomState::new().build_hasher().finish();
    u32::try_from(chance & 0x7fff_ffff).unwrap_or(1) | OURS
}

/// The bit that the numbers of our readers have.
pub const OURS: u32 = 0x8000_0000;

/// The rows of a prepared transaction may be in the log before the position, and its commit after it: nobody
/// would ever hear of them. One that is prepared from here on is seen in the log.
async fn check_prepared(connection: &mut Conn) -> Result<()> {
    for _ in 0..PREPARED_TRIES {
        if prepared(connection).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(PREPARED_PAUSE).await;
    }
    Err(gap("a prepared XA transaction waits, whose rows are in the log and not yet visible")
        .hint("`XA RECOVER` names it: commit it or roll it back and try again"))
}

fn gap(what: &str) -> Error {
    Error::new(ErrorKind::FeedGap, what)
}

fn not_settled() -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("a transaction of the log is not visible after {SETTLE_SECONDS} s"),
    )
    .hint("does a semi-synchronous replica hold all commits?")
}

/// The server's clock minus ours, in microseconds.
async fn clock_offset(connection: &mut Conn) -> Result<i64> {
    let row = first(connection, "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").await?;
    let theirs: i64 = match row {
        Some(row) => get(&row, 0)?,
        None => 0,
    };
    Ok(theirs - jiff::Timestamp::now().as_microsecond())
}

/// Errors of the stream. One code means two things: the log is gone, or another reader has our number.
fn log_error(error: mysql_async::Error) -> Error {
    if code(&error) == Some(codes::BINLOG) {
        let said = error.to_string();
        if said.contains("same server_") {
            return Error::new(ErrorKind::ConnectionLost, "another reader of the log took our number")
                .caused_by(error);
        }
        return gap("the server cannot send the log from there").with("it says", said);
    }
    from_mysql(error)
}

/// What differs between the products' logs.
#[async_trait]
trait Log: Send {
    /// Reads what is the product's own. Every event comes by here first.
    fn read(&mut self, event: &Event) -> Result<Read>;

    /// The present transaction is at its end.
    fn ended(&mut self);

    /// The event that was read last has rows that will be handed out.
    fn showed_rows(&mut self);

    /// R1: waits until a new read sees what is about to be handed out.
    async fn settle(&mut self) -> Result<()>;

    /// Everything that was read to its end.
    fn position(&self) -> Position;
}

/// What an event is to a log.
enum Read {
    /// It begins a transaction.
    Begins(Transaction),
    /// It says nothing about rows.
    Passed,
    /// It is the same in all logs.
    Other,
}

/// The table whose changes are read.
struct Watched {
    schema: String,
    name: String,
    columns: usize,
    key: Vec<KeyColumn>,
    lanes: u16,
}

/// The transaction that is being read.
struct Transaction {
    /// Microseconds of the server's clock.
    committed: Option<i64>,
    in_rows: bool,
    is_xa: bool,
}

/// The feed.
pub struct Feed {
    stream: BinlogStream,
    log: Box<dyn Log>,
    watched: Watched,
    transaction: Option<Transaction>,
    /// Changes that were read and not yet handed out.
    pending: VecDeque<Change>,
    offset: i64,
    /// When the newest change was committed, in microseconds of the server's clock.
    committed: Option<i64>,
    broken: Option<(ErrorKind, String)>,
    /// So long was waited for an event since the last one.
    silent: Duration,
}

#[async_trait]
impl ChangeFeed for Feed {
    async fn next(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        if let Some((kind, message)) = &self.broken {
            return Err(Error::new(*kind, message.clone()));
        }
        let batch = self.batch(keys_max.max(1), wait).await;
        if let Err(error) = &batch
            && matches!(error.kind(), ErrorKind::FeedGap | ErrorKind::ForeignDdl)
        {
            self.broken = Some((error.kind(), error.message().to_owned()));
        }
        batch
    }
}

impl Feed {
    async fn batch(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        let deadline = Instant::now() + wait;
        let mut changes = Vec::new();
        loop {
            while changes.len() < keys_max
                && let Some(change) = self.pending.pop_front()
            {
                changes.push(change);
            }
            if changes.len() >= keys_max {
                break;
            }
            // What has arrived already is taken along; only for the first is waited.
            let patience = match changes.is_empty() {
                true => deadline.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            let asked = Instant::now();
            match timeout(patience, self.stream.next()).await {
                Ok(Some(Ok(event))) => {
                    self.silent = Duration::ZERO;
                    self.read(&event)?;
                }
                Ok(Some(Err(error))) => return Err(log_error(error)),
                Ok(None) => {
                    return Err(Error::new(
                        ErrorKind::ConnectionLost,
                        "the server ended the stream of its log",
                    ));
                }
                Err(_elapsed) => {
                    self.silent += asked.elapsed();
                    if self.silent > SILENCE {
                        return Err(silent(self.silent));
                    }
                    break;
                }
            }
            if changes.is_empty() && self.pending.is_empty() && Instant::now() >= deadline {
                break;
            }
        }
        self.log.settle().await?;
        let is_between = self.transaction.is_none() && self.pending.is_empty();
        let lag = match (self.committed.take(), changes.is_empty()) {
            (Some(committed), false) => {
                let now = jiff::Timestamp::now().as_microsecond() + self.offset;
                Duration::from_micros(u64::try_from(now - committed).unwrap_or(0))
            }
            _ => Duration::ZERO,
        };
        let position = is_between.then(|| self.log.position());
        Ok(FeedBatch { changes, position, lag, backlog: None })
    }

    fn read(&mut self, event: &Event) -> Result<()> {
        match self.log.read(event)? {
            Read::Begins(transaction) => {
                self.end_transaction();
                self.transaction = Some(transaction);
                return Ok(());
            }
            Read::Passed => return Ok(()),
            Read::Other => {}
        }
        let kind = match event.header().event_type() {
            Ok(kind) => kind,
            Err(_unknown) if event.header().flags_raw() & IGNORABLE != 0 => return Ok(()),
            Err(unknown) => {
                return Err(gap("the log has an event that is not known").with("event", unknown.0));
            }
        };
        match kind {
            EventType::QUERY_EVENT => self.read_statement(event),
            EventType::XID_EVENT | EventType::XA_PREPARE_LOG_EVENT => {
                self.end_transaction();
                Ok(())
            }
            EventType::WRITE_ROWS_EVENT
            | EventType::UPDATE_ROWS_EVENT
            | EventType::DELETE_ROWS_EVENT
            | EventType::PARTIAL_UPDATE_ROWS_EVENT
            | EventType::WRITE_ROWS_EVENT_V1
            | EventType::UPDATE_ROWS_EVENT_V1
            | EventType::DELETE_ROWS_EVENT_V1 => match event.read_data().map_err(unreadable)? {
                Some(EventData::RowsEvent(rows)) => self.read_rows(&rows),
                _ => Err(gap("a row event of the log cannot be read")),
            },
            EventType::TRANSACTION_PAYLOAD_EVENT => {
                // The stream hands its events out next; one that it cannot unpack it passes over in silence.
                let payload = event.read_event::<TransactionPayloadEvent<'_>>().map_err(unreadable)?;
                payload.decompressed().map(drop).map_err(unreadable)
            }
            EventType::INCIDENT_EVENT => Err(gap("the server says that events of the log were lost")),
            EventType::BEGIN_LOAD_QUERY_EVENT
            | EventType::EXECUTE_LOAD_QUERY_EVENT
            | EventType::LOAD_EVENT
            | EventType::NEW_LOAD_EVENT => Err(hidden("LOAD DATA")),
            EventType::FORMAT_DESCRIPTION_EVENT
            | EventType::ROTATE_EVENT
            | EventType::STOP_EVENT
            | EventType::PREVIOUS_GTIDS_EVENT
            | EventType::HEARTBEAT_EVENT
            | EventType::TABLE_MAP_EVENT
            | EventType::ROWS_QUERY_EVENT
            | EventType::IGNORABLE_EVENT
            | EventType::TRANSACTION_CONTEXT_EVENT
            | EventType::VIEW_CHANGE_EVENT
            // They come before a statement, which is judged by itself.
            | EventType::INTVAR_EVENT
            | EventType::RAND_EVENT
            | EventType::USER_VAR_EVENT => Ok(()),
            other => Err(gap("the log has an event that is not understood").with("event", format!("{other:?}"))),
        }
    }

    fn end_transaction(&mut self) {
        if self.transaction.take().is_some() {
            self.log.ended();
        }
    }

    fn read_statement(&mut self, event: &Event) -> Result<()> {
        let statement = event.read_event().map_err(unreadable)?;
        let in_rows = self.transaction.as_ref().is_some_and(|transaction| transaction.in_rows);
        match meaning(&statement, in_rows, &self.watched.schema, &self.watched.name) {
            Meaning::Begin => self.mark(|transaction| transaction.in_rows = true),
            Meaning::BeginXa => self.mark(|transaction| {
                transaction.in_rows = true;
                transaction.is_xa = true;
            }),
            Meaning::End => self.end_transaction(),
            // A statement outside a transaction is one.
            Meaning::Nothing if !in_rows => self.end_transaction(),
            Meaning::Nothing => {}
            Meaning::Ddl => {
                return Err(Error::new(
                    ErrorKind::ForeignDdl,
                    format!("somebody else changed the definition of `{}`", self.watched.name),
                )
                .with("statement", shortened(&statement.query())));
            }
            Meaning::HiddenRows => return Err(hidden(&shortened(&statement.query()))),
        }
        Ok(())
    }

    fn mark(&mut self, how: impl FnOnce(&mut Transaction)) {
        if let Some(transaction) = &mut self.transaction {
            how(transaction);
        }
    }

    fn read_rows(&mut self, event: &RowsEventData<'_>) -> Result<()> {
        let map = self
            .stream
            .get_tme(event.table_id())
            .ok_or_else(|| gap("the log has rows of a table that it did not name"))?;
        let watched = &self.watched;
        if map.database_name() != watched.schema.as_str() || map.table_name() != watched.name.as_str() {
            return Ok(());
        }
        let transaction =
            self.transaction.as_ref().ok_or_else(|| gap("the log has rows outside of a transaction"))?;
        if transaction.is_xa {
            return Err(gap(
                "an XA transaction wrote to the table: its rows are in the log before they are visible",
            )
            .with("table", &watched.name));
        }
        let columns = usize::try_from(event.num_columns()).unwrap_or(0);
        if columns != watched.columns {
            return Err(Error::new(
                ErrorKind::ForeignDdl,
                format!("the log has {columns} columns of `{}`, the plan {}", watched.name, watched.columns),
            ));
        }
        for Changed { old, new } in keys(event, map, &watched.key)? {
            let change = |values: &Values, removed: bool| Change {
                key: values.encode(),
                lane: values.lane(&watched.key, watched.lanes),
                removed,
            };
            match (&old, &new) {
                (Some(old), Some(new)) if old == new => self.pending.push_back(change(new, false)),
                (old, new) => {
                    self.pending.extend(old.as_ref().map(|old| change(old, true)));
                    // The row under this key is another one than before.
                    self.pending.extend(
                        new.as_ref().map(|new| change(new, old.is_none() || old.as_ref() != Some(new))),
                    );
                }
            }
        }
        self.committed = transaction.committed;
        self.log.showed_rows();
        Ok(())
    }
}

/// LOG_EVENT_IGNORABLE_F: who does not know the event may pass over it.
const IGNORABLE: u16 = 0x80;

fn unreadable(error: std::io::Error) -> Error {
    gap("an event of the log cannot be read").caused_by(error)
}

fn hidden(statement: &str) -> Error {
    gap("the log has a statement instead of the rows that it changed")
        .with("statement", statement)
        .hint("some session set binlog_format to STATEMENT or MIXED")
}

fn shortened(statement: &str) -> String {
    statement.chars().take(200).collect()
}
