//! Brings keys from the slot into the log, where the feed finds them as if triggers had put them there.
//!
//! Nothing is taken out of the slot: it is looked at, the keys of what was found are committed, and only then the slot is
//! told that it may let go. A crash in between brings the same keys twice, which is harmless.
//!
//! R1: a commit is in the server's log before others see it. So transactions are taken only up to the first one that is not
//! over in a snapshot from after the look; whoever finds the keys in the log sees the changes.

use std::collections::BTreeMap;
use std::time::Duration;

use replank_core::driver::GAVE_WAY;
use replank_core::journal::lease::TTL;
use replank_core::run::Direction;
use replank_core::value::Key;
use replank_core::{Error, ErrorKind, Result};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};

use super::range::keys;
use super::snapshot::Snapshot;
use super::{Core, feed, slot};
use crate::connect::Conn;
use crate::pgoutput::{Decoder, Lsn, Message};
use crate::sql::{first, get, ident, is_so, rows, run, table, text};
use crate::state::{ObjectRole, renew_lease};

/// Messages in a look, but for a last transaction that is longer. Each look reads the server's log from the oldest open
/// transaction on, so it must not be few. Chosen; some 0.4 s.
const LOOK: usize = 20_000;
/// Keys in memory at a time, and messages that hold nothing else. Chosen.
const PIECE: usize = 2_000;
/// Messages in memory at a time where they hold whole rows, of whatever size. Chosen.
const PIECE_OF_ROWS: usize = 50;
/// A look reads the log from where the server thinks it must, so looks rest for twice as long as they take. Chosen.
const REST: Duration = Duration::from_millis(50);
/// Of the server's log without a change to the table: less is not worth a commit. Chosen.
const WORTH: u64 = 1 << 20;
/// From here on the server is asked, where it lets itself be asked, to note where a look may begin. It does so every 15 s.
const FAR: i64 = 8 << 20;
/// The caller's own deadline is a minute. Chosen.
const DRAIN: Duration = Duration::from_secs(30);

/// When a look ended, and how long it took.
#[derive(Default)]
pub struct Looked(Option<(Instant, Duration)>);

impl Looked {
    fn is_due(&self) -> bool {
        self.0.is_none_or(|(ended, took)| ended.elapsed() >= (took * 2).max(REST))
    }
}

/// How far a look came.
struct Came {
    upto: Lsn,
    /// At a transaction that is not over.
    is_held: bool,
}

/// One look, if one is due and nobody else is at it. Behind a long transaction it may take minutes, and the lease is kept.
pub async fn keep_up(core: &Core) -> Result<()> {
    let Ok(mut looked) = core.looked.try_lock() else { return Ok(()) };
    if !looked.is_due() {
        return Ok(());
    }
    let looking = look(core, &mut looked, After::Telling);
    tokio::pin!(looking);
    loop {
        match timeout(TTL / 4, &mut looking).await {
            Ok(came) => return came.map(drop),
            Err(_elapsed) => {
                let mut connection = core.server.take().await?;
                renew_lease(&mut connection, &core.names, &core.job.table, core.fence(), TTL).await?;
                core.server.keep(connection);
            }
        }
    }
}

/// Answers when all that was committed before the call is in the log.
///
/// # Errors
/// [`ErrorKind::Retry`] when that takes too long; what was brought over stays.
pub async fn drain(core: &Core, after: After) -> Result<()> {
    let until = Instant::now() + DRAIN;
    let mut connection = core.server.take().await?;
    let mut goal = end_of_log(&mut connection).await?;
    if goal.1 {
        // Commits that nobody waits for reach the disk later, and only from there they are read: a commit of ours takes
        // them along. Where there are none it would be one itself, after which the end of the log is another one.
        feed::reach_the_disk(&mut connection).await?;
        goal = end_of_log(&mut connection).await?;
    }
    core.server.keep(connection);
    loop {
        let mut looked = core.looked.lock().await;
        match look(core, &mut looked, after).await {
            Ok(came) if came.upto >= goal.0 => return Ok(()),
            Ok(came) if !came.is_held => {}
            Ok(_) => sleep(PAUSE_HELD).await,
            // Somebody whose call was dropped half-way still reads it.
            Err(error) if error.kind() == ErrorKind::Retry && Instant::now() < until => {
                sleep(PAUSE_HELD).await
            }
            Err(error) => return Err(error),
        }
        if Instant::now() > until {
            return Err(Error::new(ErrorKind::Retry, "the slot holds more than can be read at a time"));
        }
    }
}

/// Up to where the server's log is on its disk, and whether there is more of it.
async fn end_of_log(connection: &mut Conn) -> Result<(Lsn, bool)> {
    let sql =
        "SELECT pg_current_wal_flush_lsn()::text, pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()";
    match first(connection, sql).await? {
        Some(row) => Ok((Lsn::read(&get::<String>(&row, 0)?)?, get(&row, 1)?)),
        None => Err(Error::new(ErrorKind::Internal, "the server's log has no end")),
    }
}

/// What follows a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The slot is told how far it was read, for which the server reads its log again.
    Telling,
    /// It need not know: others wait, or it is over soon.
    Nothing,
}

/// A commit that others do not see yet takes milliseconds, if no standby is waited for.
const PAUSE_HELD: Duration = Duration::from_millis(5);

/// Fails with [`ErrorKind::LockTimeout`] when a look takes so long that the swap's lock would be held beyond its budget.
pub async fn check_pace(core: &Core, budget: Duration) -> Result<()> {
    drain(core, After::Telling).await?;
    let began = Instant::now();
    drain(core, After::Nothing).await?;
    let took = began.elapsed();
    if took * 2 <= budget {
        return Ok(());
    }
    let what = format!(
        "a look at the slot takes {} ms: a long transaction, or much that is written",
        took.as_millis()
    );
    // Nobody was kept waiting for it.
    Err(Error::new(ErrorKind::LockTimeout, what).with(GAVE_WAY, "the slot"))
}

async fn look(core: &Core, looked: &mut MutexGuard<'_, Looked>, after: After) -> Result<Came> {
    let began = Instant::now();
    let came = look_once(core, after).await;
    looked.0 = Some((Instant::now(), began.elapsed()));
    came
}

async fn look_once(core: &Core, after: After) -> Result<Came> {
    let mut connection = core.server.take().await?;
    let standing = slot::check(&mut connection, core).await?;
    if standing.behind > FAR {
        shorten(core, &mut connection).await?;
    }
    let name = text(&core.slot_name());
    let number = u32::try_from(core.spec.original)
        .map_err(|error| Error::new(ErrorKind::Internal, "the table has no number").caused_by(error))?;
    let mut reading = Reading::new(Decoder::new(number, core.source_key()?));
    let piece = if standing.sends_keys_only { PIECE } else { PIECE_OF_ROWS };
    let fetching = format!("FETCH {piece} FROM rp_slot");
    let beginning = format!(
        "BEGIN; DECLARE rp_slot NO SCROLL CURSOR FOR SELECT data FROM pg_logical_slot_peek_binary_changes(
         {name}, '{}', {LOOK}, 'proto_version', '1', 'publication_names', {name}); {fetching}",
        standing.flushed
    );
    // The first piece has read the whole look.
    let mut found = rows(&mut connection, beginning).await?;
    let visible = Snapshot::read(&feed::head(&mut connection).await?)?;
    let mut messages = 0;
    loop {
        messages += found.len();
        for row in &found {
            reading.take(&get::<Vec<u8>>(row, 0)?, &visible)?;
            if reading.keys.len() >= PIECE || reading.is_emptied {
                reading.write(&mut connection, core).await?;
            }
        }
        if found.len() < piece || reading.is_held {
            break;
        }
        found = rows(&mut connection, fetching.clone()).await?;
    }
    reading.write(&mut connection, core).await?;
    let is_whole = !reading.is_held && messages < LOOK;
    let upto = if is_whole { standing.flushed } else { reading.ended.unwrap_or(standing.confirmed) };
    let came = Came { upto, is_held: reading.is_held };
    if !reading.has_written && upto.0.saturating_sub(standing.confirmed.0) < WORTH {
        run(&mut connection, "ROLLBACK").await?;
        core.server.keep(connection);
        return Ok(came);
    }
    let spooled = format!(
        "(extra::jsonb || jsonb_build_object('spooled', greatest((extra::jsonb ->> 'spooled')::pg_lsn, '{upto}')::text))::text"
    );
    run(&mut connection, core.objects.changing(ObjectRole::Slot, &spooled)).await?;
    run(&mut connection, "COMMIT").await?;
    if after == After::Nothing {
        core.server.keep(connection);
        return Ok(came);
    }
    match run(&mut connection, format!("SELECT pg_replication_slot_advance({name}, '{upto}')")).await {
        Ok(_) => core.server.keep(connection),
        // Somebody else has come as far, or is at it: the next look finds out.
        Err(error) => tracing::debug!(%error, "the slot was not told how far it was read"),
    }
    Ok(came)
}

/// Makes the next looks begin later, where the login may: the server notes by itself every 15 s where they can.
async fn shorten(core: &Core, connection: &mut Conn) -> Result<()> {
    let may = "SELECT has_function_privilege('pg_log_standby_snapshot()', 'EXECUTE')";
    if core.server.version() >= 160_000 && is_so(connection, may).await? {
        run(connection, "SELECT pg_log_standby_snapshot()").await?;
    }
    Ok(())
}

/// What a look has read so far.
struct Reading<'a> {
    decoder: Decoder<'a>,
    /// Keys that wait to be written, and whether a row of that key was removed.
    keys: BTreeMap<Key, bool>,
    is_emptied: bool,
    /// When the last transaction was committed, in microseconds since 2000.
    at: i64,
    /// Where the last whole transaction ended.
    ended: Option<Lsn>,
    is_held: bool,
    has_written: bool,
}

impl<'a> Reading<'a> {
    fn new(decoder: Decoder<'a>) -> Self {
        Self {
            decoder,
            keys: BTreeMap::new(),
            is_emptied: false,
            at: 0,
            ended: None,
            is_held: false,
            has_written: false,
        }
    }

    fn take(&mut self, message: &[u8], visible: &Snapshot) -> Result<()> {
        if self.is_held {
            return Ok(());
        }
        match self.decoder.read(message)? {
            Message::Begin(xid, at) => {
                self.is_held = !visible.has_ended(xid);
                self.at = at;
            }
            Message::Commit(end) => self.ended = Some(end),
            Message::Written(key) => self.note(key, false),
            Message::Removed(key) => self.note(key, true),
            Message::Moved(old, new) => {
                self.note(old, true);
                self.note(new, false);
            }
            Message::Emptied => self.is_emptied = true,
            Message::Nothing => {}
        }
        Ok(())
    }

    fn note(&mut self, key: Key, removed: bool) {
        *self.keys.entry(key).or_default() |= removed;
    }

    /// Writes what waits into the log.
    async fn write(&mut self, connection: &mut Conn, core: &Core) -> Result<()> {
        let all = std::mem::take(&mut self.keys);
        let (removed, written): (Vec<_>, Vec<_>) = all.iter().partition(|(_, removed)| **removed);
        for (removed, some) in [(true, removed), (false, written)] {
            if !some.is_empty() {
                self.put(
                    connection,
                    core,
                    removed,
                    &keys(some.into_iter().map(|(key, _)| key), &core.flow()?.key),
                )
                .await?;
            }
        }
        if std::mem::take(&mut self.is_emptied) {
            // TRUNCATE names no keys. Whoever read a row from before has committed it: both need the table.
            let key = &core.flow()?.key;
            let slots: Vec<String> = key
                .iter()
                .enumerate()
                .map(|(at, column)| format!("w.{}::{} AS k{at}", ident(&column.written), column.kind))
                .collect();
            let all = format!("SELECT {} FROM {} AS w", slots.join(", "), core.written_rows());
            self.put(connection, core, true, &all).await.map_err(|error| core.missed(error))?;
        }
        Ok(())
    }

    async fn put(&mut self, connection: &mut Conn, core: &Core, removed: bool, keys: &str) -> Result<()> {
        let slots: Vec<String> = (0..core.flow()?.key.len()).map(|at| format!("k{at}")).collect();
        let slots = slots.join(", ");
        let sql = format!(
            "INSERT INTO {} (removed, at, {slots})
             SELECT {removed}, '2000-01-01 00:00:00Z'::timestamptz + {} * interval '1 microsecond', {slots} FROM ({keys}) AS k",
            table(&core.spec.schema, &core.log_name(Direction::Forward)),
            self.at
        );
        self.has_written = true;
        run(connection, sql).await.map(drop)
    }
}
