//! The slot and its publication: made, looked at and removed. A slot is the whole server's and of no transaction, so it is
//! registered before it is made.

use std::time::Duration;

use replank_core::journal::lease::TTL;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Core;
use super::polite::{Lock, politely};
use crate::connect::Conn;
use crate::pgoutput::Lsn;
use crate::slot::{identifies, identity_columns, publishing, sent};
use crate::spec::CaptureBy;
use crate::sql::{first, get, ident, is_so, run, text};
use crate::state::{Object, ObjectRole, renew_lease};

/// Older transactions are waited for, and nobody waits meanwhile. As long as for a short lock.
const WAIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
/// A session that was ended lets go of the slot at once.
const DROP_WAIT: Duration = Duration::from_secs(10);

/// How a slot stands.
pub struct Standing {
    /// Up to where the server need not keep the log.
    pub confirmed: Lsn,
    /// Up to where the server's log is on its disk.
    pub flushed: Lsn,
    /// Bytes from where the next look begins to read.
    pub behind: i64,
    /// Its messages hold keys and no other columns.
    pub sends_keys_only: bool,
}

impl Core {
    /// Whether changes come from a slot. On the way back they never do.
    pub(super) fn captures_by_slot(&self) -> bool {
        self.job.direction == Direction::Forward && self.spec.capture == CaptureBy::Slot
    }

    /// The name of the slot and of the publication.
    pub(super) fn slot_name(&self) -> String {
        self.log_name(Direction::Forward)
    }
}

/// Makes both. When it answers, every change is in the slot that a new snapshot does not see.
pub async fn make(core: &Core, table: i64) -> Result<()> {
    let name = core.slot_name();
    let mut connection = core.server.take().await?;
    let sent = sent(&mut connection, core.server.version(), table).await?;
    core.server.keep(connection);
    let fingerprint = format!(
        "jsonb_build_object('fingerprint', ({}), 'sent', {}::jsonb)::text",
        fingerprint(&name),
        text(&json!(sent).to_string())
    );
    let publishing = [
        publishing(&name, &core.source(), &sent),
        still_identifies(core, table)?,
        core.objects.putting(ObjectRole::Slot, &name, &fingerprint),
    ];
    politely(core, Lock::AmongReaders, &[table], &publishing).await?;
    let until = Instant::now() + WAIT;
    create(core, &name, until).await?;
    // A commit may be in the server's log, before the slot's beginning, and be seen later than that: with synchronous
    // replication for as long as no standby answers. What is under way now is over before a row is read.
    let mut connection = core.server.take().await?;
    // A snapshot knows no number of a transaction that is newer than all that are over; one of ours is newer than those.
    let ours = match first(&mut connection, "SELECT pg_current_xact_id()::text").await? {
        Some(row) => get::<String>(&row, 0)?,
        None => String::new(),
    };
    let all_over = format!("SELECT pg_snapshot_xmin(pg_current_snapshot()) > {}::xid8", text(&ours));
    while !is_so(&mut connection, all_over.clone()).await? {
        if Instant::now() > until {
            return Err(too_old());
        }
        renew_lease(&mut connection, &core.names, &core.job.table, core.fence(), TTL).await?;
        sleep(PAUSE).await;
    }
    let spooled = format!(
        "(extra::jsonb || jsonb_build_object('spooled',
          (SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = {})))::text",
        text(&name)
    );
    run(&mut connection, core.objects.changing(ObjectRole::Slot, &spooled)).await?;
    core.server.keep(connection);
    Ok(())
}

/// The plan has asked, and somebody may have changed it since. Under the lock that a publication takes nobody does.
fn still_identifies(core: &Core, table: i64) -> Result<String> {
    let body = format!(
        "BEGIN IF NOT {} THEN RAISE EXCEPTION 'the replica identity of the table was changed since the plan was made, and does \
         not hold its key any more' USING ERRCODE = 'object_not_in_prerequisite_state'; END IF; END",
        identifies(table, &core.flow()?.key)
    );
    Ok(format!("DO {}", text(&body)))
}

/// The server itself waits for transactions that are under way. A runner that was overtaken meanwhile leaves none: nobody
/// would know of it. Not a condition of the statement: the server loses track of a table that is open beside it.
async fn create(core: &Core, name: &str, until: Instant) -> Result<()> {
    let sql = format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", text(name));
    loop {
        let mut connection = core.server.take().await?;
        renew_lease(&mut connection, &core.names, &core.job.table, core.fence(), TTL).await?;
        match run(&mut connection, sql.clone()).await {
            Ok(_) => {
                if let Err(error) = core.check_token(&mut connection).await {
                    run(&mut connection, format!("SELECT pg_drop_replication_slot({})", text(name))).await?;
                    return Err(error);
                }
                core.server.keep(connection);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::LockTimeout | ErrorKind::Retry) => {
                if Instant::now() > until {
                    return Err(too_old().caused_by(error));
                }
                tracing::info!(%error, "the slot waits for older transactions");
            }
            Err(error) => return Err(error),
        }
        sleep(PAUSE).await;
    }
}

fn too_old() -> Error {
    Error::new(ErrorKind::LockTimeout, "the slot waits for transactions that were there before it")
        .hint("end them: SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start; SELECT gid FROM pg_prepared_xacts")
}

/// What shows whether the publication was changed, as a query for one text.
fn fingerprint(name: &str) -> String {
    format!(
        "SELECT concat_ws(' ', concat_ws('.', p.oid, p.xmin), (SELECT string_agg(concat_ws('.', r.oid, r.xmin), ' ' ORDER BY r.oid)
                FROM pg_publication_rel r WHERE r.prpubid = p.oid)) FROM pg_publication p WHERE p.pubname = {}",
        text(name)
    )
}

/// Fails with [`ErrorKind::FeedGap`] unless the slot and the publication are those that were made, and hold all that was
/// written since.
pub async fn check(connection: &mut Conn, core: &Core) -> Result<Standing> {
    let name = core.slot_name();
    let looked = format!(
        "SELECT s.confirmed_flush_lsn::text, s.wal_status, pg_current_wal_flush_lsn()::text,
                pg_wal_lsn_diff(pg_current_wal_flush_lsn(), s.restart_lsn)::bigint, ({}), {}, {}
         FROM (SELECT) AS one
         LEFT JOIN pg_replication_slots s ON s.slot_name = {} AND s.database = current_database()",
        fingerprint(&name),
        identifies(core.spec.original, &core.flow()?.key),
        identity_columns(core.spec.original),
        text(&name)
    );
    let Some(row) = first(connection, looked).await? else { return Err(gap("the slot is gone")) };
    // After the look: what was read from the slot is recorded before the slot is told.
    let record = the_slot(connection, core).await?;
    let sent: Vec<&str> =
        record.extra["sent"].as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect();
    let is_covered = sent.is_empty() || get::<Vec<String>>(&row, 6)? == sent;
    if !get::<bool>(&row, 5)? || !is_covered {
        // Writers fail from now on, or all that they change is not told of: they come first.
        let mut aside = core.server.take().await?;
        run(&mut aside, format!("DROP PUBLICATION IF EXISTS {}", ident(&name))).await?;
        core.server.keep(aside);
        return Err(gap(
            "the table's replica identity was changed and no longer holds its key; so that UPDATE and DELETE do not fail, the \
             publication was dropped",
        ));
    }
    let confirmed: Option<String> = get(&row, 0)?;
    let Some(confirmed) = confirmed.as_deref() else { return Err(gap("the slot is gone")) };
    if get::<Option<String>>(&row, 1)?.is_none_or(|status| status == "lost") {
        return Err(gap(
            "the slot was given up by the server: it lagged by more than it may hold of the log",
        ));
    }
    let fingerprint: Option<String> = get(&row, 4)?;
    if record.extra["fingerprint"].as_str() != fingerprint.as_deref() {
        return Err(gap("the publication is gone, or was changed"));
    }
    let standing = Standing {
        confirmed: Lsn::read(confirmed)?,
        flushed: Lsn::read(&get::<String>(&row, 2)?)?,
        behind: get::<Option<i64>>(&row, 3)?.unwrap_or(0),
        sends_keys_only: !sent.is_empty(),
    };
    let spooled = record.extra["spooled"].as_str().map(Lsn::read).transpose()?;
    if spooled.is_none_or(|spooled| standing.confirmed > spooled) {
        return Err(gap("the slot is another one of the same name, or somebody else reads it"));
    }
    Ok(standing)
}

async fn the_slot(connection: &mut Conn, core: &Core) -> Result<Object> {
    core.objects.one(connection, ObjectRole::Slot).await?.ok_or_else(|| gap("the slot is gone"))
}

fn gap(what: &str) -> Error {
    Error::new(ErrorKind::FeedGap, what.to_owned()).hint(
        "what was written since cannot be known: `replank abort`, then begin again, with more max_slot_wal_keep_size or without \
         -D capture=slot",
    )
}

/// The statements that let go of both in the swap; the slot itself follows once that is committed: see [`settle`].
pub fn ending(core: &Core) -> Vec<String> {
    vec![
        format!("DROP PUBLICATION IF EXISTS {}", ident(&core.slot_name())),
        core.objects.changing(ObjectRole::Slot, "(extra::jsonb || '{\"is_over\": true}')::text"),
    ]
}

/// Removes the slot after a swap. Once more is harmless.
pub async fn settle(core: &Core, connection: &mut Conn) -> Result<()> {
    for object in core.objects.of(connection, ObjectRole::Slot).await? {
        if object.extra["is_over"] == true {
            remove(core, connection, &object.name).await?;
        }
    }
    Ok(())
}

/// Removes both, and whoever of ours still reads the slot or makes it.
pub async fn remove(core: &Core, connection: &mut Conn, name: &str) -> Result<()> {
    let until = Instant::now() + DROP_WAIT;
    let there = format!(
        "SELECT coalesce(a.application_name = 'replank' AND pg_terminate_backend(s.active_pid), false) FROM pg_replication_slots s
         LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = {}",
        text(name)
    );
    while first(connection, there.clone()).await?.is_some() {
        match run(connection, format!("SELECT pg_drop_replication_slot({})", text(name))).await {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Retry && Instant::now() < until => {}
            // It was dropped just now.
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
        sleep(PAUSE).await;
    }
    run(connection, format!("DROP PUBLICATION IF EXISTS {}", ident(name))).await?;
    core.objects.remove(connection, ObjectRole::Slot, name).await
}
