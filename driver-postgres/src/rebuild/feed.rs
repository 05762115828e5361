//! The change feed: reads the log that the capture triggers fill, or [`super::spool`] from a slot.
//!
//! A position is a snapshot; what is new is what the present one sees and that one did not. Nothing is ever taken to be
//! read because of its number. R1 holds by itself: a log row is part of the transaction that it tells of.
//!
//! After a crash the server may give numbers of transactions again that it had given before, to those whose commit had
//! not reached the disk: a position from before would take what they write for read. So none is handed out before a commit
//! of ours, which takes everything before it to the disk as well.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use replank_core::driver::{ChangeFeed, FeedBatch};
use replank_core::ident::Fence;
use replank_core::run::Direction;
use replank_core::value::{Change, Key, Position};
use replank_core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::time::Instant;

use super::snapshot::Snapshot;
use super::{Core, number_of, slot, spool};
use crate::capture::{Capture, TRIGGERS};
use crate::capture_parts;
use crate::connect::Conn;
use crate::sql::{first, get, rows, run, table, text};
use crate::state::{Object, check_token};

/// How long to wait before looking again. A look costs some 300 µs. Chosen.
const POLL: Duration = Duration::from_millis(10);
/// The triggers are looked at as often, and under the lock. Chosen.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// An open feed.
pub struct Feed {
    core: Arc<Core>,
    connection: Conn,
    at: Position,
    /// Where the present look goes to, and the last row of it that was read.
    looking: Option<(Position, String, i64)>,
    checked: Option<Instant>,
    failed: Option<(ErrorKind, String)>,
}

struct Entry {
    xid: String,
    id: i64,
    age: Duration,
    change: Change,
}

impl Feed {
    /// Just after a position.
    pub async fn open(core: Arc<Core>, from: &Position) -> Result<Self> {
        let at = Snapshot::read(from)?;
        let mut connection = core.server.connect().await?;
        let log = the_log(&mut connection, &core).await?;
        if let Some(forgotten) = log.extra["forgotten"].as_str()
            && !at.sees_all_of(&Snapshot::read(&Position(forgotten.to_owned()))?)
        {
            return Err(gap("the log no longer reaches back to the saved position"));
        }
        let mut feed =
            Self { core, connection, at: from.clone(), looking: None, checked: None, failed: None };
        feed.check().await?;
        Ok(feed)
    }

    async fn check(&mut self) -> Result<()> {
        if self.checked.is_some_and(|checked| checked.elapsed() < CHECK_EVERY) {
            return Ok(());
        }
        check_capture(&mut self.connection, &self.core).await?;
        self.core.check_identity(&mut self.connection).await?;
        self.checked = Some(Instant::now());
        Ok(())
    }

    /// One page of what the present snapshot sees and the position does not.
    async fn look(&mut self, keys_max: usize) -> Result<Vec<Entry>> {
        self.check().await?;
        let core = Arc::clone(&self.core);
        if core.captures_by_slot() {
            spool::keep_up(&core).await?;
        }
        let columns = core.flow()?.key.len();
        let slots: Vec<String> = (0..columns).map(|at| format!("k{at}")).collect();
        let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
        let at = text(&self.at.0);
        let more = match &self.looking {
            None => String::new(),
            Some((goal, xid, id)) => format!(
                "AND pg_visible_in_snapshot(l.xid, {}::pg_snapshot) AND (l.xid, l.id) > ('{xid}'::xid8, {id})",
                text(&goal.0)
            ),
        };
        // What the position does not see is of two kinds, and each is one look into the index: a transaction that has been
        // open for long would have all that came since looked at again otherwise.
        let log = table(&core.spec.schema, &core.log_name(core.job.direction));
        let kind = |condition: &str| {
            format!(
                "(SELECT l.xid, l.id, l.removed, l.is_gap, l.at, {} AS key FROM {log} AS l WHERE {condition} {more}
                  ORDER BY l.xid, l.id LIMIT {keys_max})",
                super::range::encoded("l", &slots)
            )
        };
        let sql = format!(
            "SELECT pg_current_snapshot()::text, f.* FROM (SELECT) AS one LEFT JOIN LATERAL (
             SELECT u.xid::text, u.id, u.removed, u.is_gap,
                    greatest(extract(epoch FROM clock_timestamp() - u.at), 0)::float8, u.key
             FROM ({} UNION ALL {}) AS u ORDER BY u.xid, u.id LIMIT {keys_max}) AS f ON true",
            kind(&format!("l.xid >= pg_snapshot_xmax({at}::pg_snapshot)")),
            kind(&format!("l.xid = ANY (ARRAY(SELECT pg_snapshot_xip({at}::pg_snapshot)))")),
        );
        let found = rows(&mut self.connection, sql).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => gap("the log is gone"),
            _ => error,
        })?;
        let mut entries = Vec::new();
        let mut seen = None;
        for row in &found {
            seen = Some(Position(get(row, 0)?));
            let Some(xid) = get::<Option<String>>(row, 1)? else { break };
            if get::<bool>(row, 4)? {
                return Err(gap(
                    "the table was emptied by TRUNCATE in a transaction with a snapshot of its own",
                ));
            }
            let change = core.change(Key(get(row, 6)?), get(row, 3)?)?;
            let age = Duration::from_secs_f64(get(row, 5)?);
            entries.push(Entry { xid, id: get(row, 2)?, age, change });
        }
        let goal = match (self.looking.take(), seen) {
            (Some((goal, ..)), _) | (None, Some(goal)) => goal,
            (None, None) => return Err(Error::new(ErrorKind::Internal, "the server gave no snapshot")),
        };
        match entries.last() {
            Some(last) if entries.len() == keys_max => self.looking = Some((goal, last.xid.clone(), last.id)),
            _ => self.at = goal,
        }
        Ok(entries)
    }
}

#[async_trait]
impl ChangeFeed for Feed {
    async fn next(&mut self, keys_max: usize, wait: Duration) -> Result<FeedBatch> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some((kind, message)) = &self.failed {
                return Err(Error::new(*kind, message.clone()));
            }
            let entries = match self.look(keys_max.max(1)).await {
                Ok(entries) => entries,
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::FeedGap | ErrorKind::ForeignDdl) {
                        self.failed = Some((error.kind(), error.to_string()));
                    }
                    return Err(error);
                }
            };
            let is_whole = self.looking.is_none();
            let left = deadline.saturating_duration_since(Instant::now());
            if !entries.is_empty() || left.is_zero() {
                if is_whole {
                    reach_the_disk(&mut self.connection).await?;
                }
                return Ok(FeedBatch {
                    lag: entries.last().map(|entry| entry.age).unwrap_or_default(),
                    backlog: None,
                    position: is_whole.then(|| self.at.clone()),
                    changes: entries.into_iter().map(|entry| entry.change).collect(),
                });
            }
            tokio::time::sleep(left.min(POLL)).await;
        }
    }
}

/// The position that includes all that was committed before.
pub async fn head(connection: &mut Conn) -> Result<Position> {
    match first(connection, "SELECT pg_current_snapshot()::text").await? {
        Some(row) => Ok(Position(get(&row, 0)?)),
        None => Err(Error::new(ErrorKind::Internal, "the server gave no snapshot")),
    }
}

/// The same, to begin a feed at: it means the same after a crash.
pub async fn lasting_head(connection: &mut Conn) -> Result<Position> {
    let head = head(connection).await?;
    reach_the_disk(connection).await?;
    Ok(head)
}

/// A commit that the server waits for the disk with: it has written something, of which nobody takes notice.
pub async fn reach_the_disk(connection: &mut Conn) -> Result<()> {
    run(connection, "SELECT pg_logical_emit_message(true, 'replank', '')").await.map(drop)
}

/// The log's record.
async fn the_log(connection: &mut Conn, core: &Core) -> Result<Object> {
    core.objects.one(connection, core.log_role()).await?.ok_or_else(|| gap("the log is gone"))
}

/// What shows whether anything about the function and its triggers was changed since, also when it was changed back: as a
/// query for one text.
fn fingerprint(capture: &Capture<'_>) -> String {
    let live = table(capture.schema, capture.table);
    let names: Vec<String> = TRIGGERS.iter().map(|kind| text(&capture.trigger(kind))).collect();
    format!(
        "SELECT concat_ws(' ', (SELECT string_agg(concat_ws('.', t.tgname, t.tgenabled, t.oid, t.xmin), ' ' ORDER BY t.tgname)
                FROM pg_trigger t WHERE t.tgrelid = to_regclass({}) AND t.tgname IN ({})),
                (SELECT concat_ws('.', p.oid, p.xmin) FROM pg_proc p WHERE p.oid = to_regproc({})))",
        text(&live),
        names.join(", "),
        text(&table(capture.schema, &capture.log))
    )
}

/// Fails with [`ErrorKind::FeedGap`] unless function and triggers, or slot and publication, are as they were made.
pub async fn check_capture(connection: &mut Conn, core: &Core) -> Result<()> {
    if core.captures_by_slot() {
        return slot::check(connection, core).await.map(drop);
    }
    let log = the_log(connection, core).await?;
    let capture = core.capture(core.job.direction, None)?;
    let fingerprint = core.fingerprint(&capture, core.job.direction);
    let now: String = match first(connection, fingerprint).await? {
        Some(row) => get(&row, 0)?,
        None => String::new(),
    };
    if log.extra["fingerprint"].as_str() == Some(&now) {
        return Ok(());
    }
    if core.spec.source(core.job.direction).is_partitioned() {
        // It says more where a partition came or went.
        core.check_definition(connection).await?;
        return Err(gap("a trigger that captures changes was changed or switched off, or a partition was taken out and put back")
            .with("now", now));
    }
    Err(gap("a trigger that captures changes is gone, or was changed or switched off").with("now", now))
}

/// Shortens the log: of transactions that were all over at the position nothing can come any more.
pub async fn forget(core: &Core, position: &Position) -> Result<()> {
    /// Log rows deleted at a time. Chosen.
    const PIECE: u64 = 10_000;
    const PIECES: u32 = 5;
    let upto = Snapshot::read(position)?.xmin();
    let mut connection = core.server.take().await?;
    let token = Fence(core.token.load(Ordering::SeqCst));
    check_token(&mut connection, &core.names, &core.job.table, token).await?;
    let mut log = the_log(&mut connection, core).await?;
    let before = log.extra["forgotten"].as_str().map(|text| Snapshot::read(&Position(text.to_owned())));
    if before.transpose()?.is_none_or(|before| before.xmin() < upto) {
        log.extra["forgotten"] = json!(position.0);
        core.objects.put(&mut connection, log.role, &log.name, &log.extra).await?;
        let name = table(&core.spec.schema, &log.name);
        let sql = format!(
            "DELETE FROM {name} WHERE (xid, id) IN
             (SELECT xid, id FROM {name} WHERE xid < '{upto}'::xid8 ORDER BY xid, id LIMIT {PIECE})"
        );
        // The rest goes with the next ones: whoever calls has a lease to renew.
        for _ in 0..PIECES {
            if run(&mut connection, sql.clone()).await? < PIECE {
                break;
            }
        }
    }
    core.server.keep(connection);
    Ok(())
}

impl Core {
    /// The capture of a direction.
    pub(super) fn capture<'a>(&'a self, direction: Direction, swap: Option<&'a str>) -> Result<Capture<'a>> {
        let key = &self.spec.flow(direction)?.key;
        let (schema, table) = (&self.spec.schema, &self.job.table.name);
        Ok(Capture { schema, table, key, log: self.log_name(direction), swap })
    }

    /// The statements that make a capture on the table that applications write in a direction.
    pub(super) fn triggers(&self, capture: &Capture<'_>, direction: Direction) -> Vec<String> {
        let side = self.spec.source(direction);
        match side.is_partitioned() {
            true => capture_parts::triggers(capture, &side.partitions),
            false => capture.triggers(),
        }
    }

    /// What shows whether it was changed since.
    pub(super) fn fingerprint(&self, capture: &Capture<'_>, direction: Direction) -> String {
        match self.spec.source(direction).is_partitioned() {
            true => capture_parts::fingerprint(capture),
            false => fingerprint(capture),
        }
    }

    /// R7: the name is still that of the table which the plan saw.
    pub(super) async fn check_identity(&self, connection: &mut Conn) -> Result<()> {
        let now = number_of(connection, &self.source()).await?;
        if now.is_some() && now == self.live_number(connection, self.job.direction).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::ForeignDdl, format!("`{}` is another table now", self.job.table)))
    }
}

fn gap(what: &str) -> Error {
    Error::new(ErrorKind::FeedGap, what.to_owned())
}
