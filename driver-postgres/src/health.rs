//! How the server stands: what would hold a change up, or make one cost more than it should. For `doctor`; none of it
//! forbids anything.

use replank_core::Result;
use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;

use crate::connect::Conn;
use crate::service::{Service, to_set};
use crate::slot::server_refusals;
use crate::sql::{first, get, ident, rows, text};

/// What is younger is over before it matters. Chosen.
const OLD_SECONDS: u32 = 60;
/// Sessions of a rebuild: copying, applying, the feed, the records, the swap. Counted.
const SESSIONS: i64 = 12;
/// A standby's snapshot that is older keeps dead rows that are worth to be told of. Chosen.
const FEEDBACK_OLD: i64 = 1_000_000;

/// Looks at everything.
pub async fn checks(connection: &mut Conn, service: Option<Service>) -> Result<Vec<Check>> {
    Ok(vec![
        connections(connection, service).await?,
        prepared(connection).await?,
        oldest(connection).await?,
        wraparound(connection).await?,
        standbys(connection).await?,
        slots(connection, service).await?,
        unread_slots(connection).await?,
        timeouts(connection).await?,
    ])
}

fn good(name: &str, found: String) -> Check {
    Check { name: name.to_owned(), state: CheckState::Good, found, mend: None }
}

fn warning(name: &str, found: String, mend: String) -> Check {
    Check { name: name.to_owned(), state: CheckState::Warning, found, mend: Some(mend) }
}

/// Of the server, the database and the login, whichever leaves the least.
async fn connections(connection: &mut Conn, service: Option<Service>) -> Result<Check> {
    let sql = "SELECT least(
             current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
             - coalesce(current_setting('reserved_connections', true)::bigint, 0)
             - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
             (SELECT nullif(datconnlimit, -1) - (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)
              FROM pg_database d WHERE datname = current_database()),
             (SELECT nullif(rolconnlimit, -1) - (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)
              FROM pg_roles r WHERE rolname = current_user)),
             current_setting('max_connections')::bigint";
    let Some(row) = first(connection, sql).await? else {
        return Ok(good("connections", "unknown".to_owned()));
    };
    let (free, all): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    Ok(match free >= SESSIONS {
        true => good("connections", format!("{free} of {all} are free")),
        false => warning(
            "connections",
            format!(
                "{free} are free, and a rebuild opens up to {SESSIONS}: an application could be turned away"
            ),
            format!(
                "end some; or {}; or raise the CONNECTION LIMIT of the login or the database",
                to_set(service, "max_connections", &(all + 20).to_string(), true)
            ),
        ),
    })
}

async fn prepared(connection: &mut Conn) -> Result<Check> {
    let sql =
        "SELECT count(*), min(gid), floor(extract(epoch FROM clock_timestamp() - min(prepared)))::bigint
               FROM pg_prepared_xacts WHERE database = current_database()";
    let Some(row) = first(connection, sql).await? else {
        return Ok(good("prepared transactions", "none".to_owned()));
    };
    Ok(match (get::<i64>(&row, 0)?, get::<Option<String>>(&row, 1)?) {
        (0, _) | (_, None) => good("prepared transactions", "none".to_owned()),
        (some, Some(gid)) => {
            let seconds: i64 = get(&row, 2)?;
            warning(
                "prepared transactions",
                format!("{some} wait to be ended, for up to {seconds} s, and hold their locks meanwhile"),
                format!(
                    "COMMIT PREPARED {0}, or ROLLBACK PREPARED {0}; SELECT * FROM pg_prepared_xacts shows all",
                    text(&gid)
                ),
            )
        }
    })
}

/// Concurrent builds wait for transactions that are older, and so does the swap of a rebuild.
async fn oldest(connection: &mut Conn) -> Result<Check> {
    let sql = format!(
        "SELECT pid::text, floor(extract(epoch FROM clock_timestamp() - xact_start))::bigint, coalesce(usename::text, '?'), coalesce(state, '?')
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
         AND clock_timestamp() - xact_start > interval '{OLD_SECONDS} seconds' ORDER BY xact_start LIMIT 1"
    );
    Ok(match first(connection, sql).await? {
        None => good("old transactions", format!("none is older than {OLD_SECONDS} s")),
        Some(row) => {
            let (pid, seconds): (String, i64) = (get(&row, 0)?, get(&row, 1)?);
            let (login, state): (String, String) = (get(&row, 2)?, get(&row, 3)?);
            warning(
                "old transactions",
                format!(
                    "session {pid} ({login}, {state}) has been in one for {seconds} s: builds and swaps wait for it"
                ),
                format!("SELECT pg_terminate_backend({pid}), or wait for it"),
            )
        }
    })
}

/// A vacuum against wraparound gives way to no lock, and takes as long as the table is large.
async fn wraparound(connection: &mut Conn) -> Result<Check> {
    let sql = "SELECT age(d.datfrozenxid)::bigint, current_setting('autovacuum_freeze_max_age')::bigint,
             (SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'm') ORDER BY age(c.relfrozenxid) DESC LIMIT 1),
             (SELECT min(query) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'autovacuum worker'
              AND query LIKE '%(to prevent wraparound)')
         FROM pg_database d WHERE datname = current_database()";
    let Some(row) = first(connection, sql).await? else {
        return Ok(good("wraparound", "unknown".to_owned()));
    };
    let (age, limit): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    let (table, running): (Option<String>, Option<String>) = (get(&row, 2)?, get(&row, 3)?);
    Ok(match running {
        Some(vacuum) => warning(
            "wraparound",
            format!("`{vacuum}` runs, and gives way to no lock"),
            "wait for it: SELECT * FROM pg_stat_progress_vacuum shows how far it is".to_owned(),
        ),
        None if age > limit - limit / 10 => warning(
            "wraparound",
            format!(
                "rows are up to {age} transactions old: from {limit} on each table is vacuumed, and that gives way to no lock"
            ),
            format!(
                "VACUUM (FREEZE) {}, and then the other old ones, before a long change",
                table.unwrap_or_default()
            ),
        ),
        None => good("wraparound", format!("far: rows are up to {age} transactions old, of {limit}")),
    })
}

/// What standbys do to a change, and it to them.
async fn standbys(connection: &mut Conn) -> Result<Check> {
    let sql = "SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text),
                      age(coalesce(r.backend_xmin, (SELECT s.xmin FROM pg_replication_slots s WHERE s.active_pid = r.pid)))::bigint
               FROM pg_stat_replication r WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
               ORDER BY 2 DESC NULLS LAST";
    let found = rows(connection, sql).await?;
    let Some(row) = found.first() else { return Ok(good("standbys", "none follows".to_owned())) };
    let (name, age): (String, Option<i64>) = (get(row, 0)?, get(row, 1)?);
    let count = found.len();
    Ok(match age {
        Some(age) if age > FEEDBACK_OLD => warning(
            "standbys",
            format!(
                "{name} has a query that is {age} transactions old, and hot_standby_feedback: no dead row that is younger goes"
            ),
            format!("end the old query on {name}, or SET hot_standby_feedback = off there"),
        ),
        Some(age) => good(
            "standbys",
            format!("{count}; {name} has hot_standby_feedback, and holds vacuum back by {age} transactions"),
        ),
        None => good(
            "standbys",
            format!(
                "{count} without hot_standby_feedback: the lock of a swap ends queries there that read the table, after max_standby_streaming_delay"
            ),
        ),
    })
}

/// Triggers need no slot, so that not to have one is no fault.
async fn slots(connection: &mut Conn, service: Option<Service>) -> Result<Check> {
    let refusals = server_refusals(connection, service).await?;
    if !refusals.is_empty() {
        let found = format!("triggers capture changes; -D capture=slot cannot: {}", refusals.join("; "));
        return Ok(good("slots", found));
    }
    let sql = "SELECT current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots),
                      current_setting('max_replication_slots')::bigint, current_setting('max_slot_wal_keep_size')";
    let Some(row) = first(connection, sql).await? else { return Ok(good("slots", "unknown".to_owned())) };
    let (free, all, kept): (i64, i64, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    Ok(good(
        "slots",
        format!("{free} of {all} are free for -D capture=slot, and {kept} of the log are kept for one"),
    ))
}

/// What a rebuild writes is kept for these as well.
async fn unread_slots(connection: &mut Conn) -> Result<Check> {
    let sql = "SELECT slot_name::text, pg_size_pretty(pg_wal_lsn_diff(
                          CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)),
                      (SELECT setting::bigint < 0 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), count(*) OVER ()
               FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost'
               ORDER BY restart_lsn LIMIT 1";
    let Some(row) = first(connection, sql).await? else { return Ok(good("unread slots", "none".to_owned())) };
    let (name, kept, is_unlimited): (String, String, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    let until = if is_unlimited { ", until the disk is full" } else { ", up to max_slot_wal_keep_size" };
    let others = match get::<i64>(&row, 3)? {
        1 => String::new(),
        all => format!(" ({} more)", all - 1),
    };
    let mend = match name.starts_with("_rp_") {
        true => {
            "it is of a run that nobody works on: `replank status` shows it; resume or abort that".to_owned()
        }
        false => format!("start whoever reads it, or SELECT pg_drop_replication_slot({})", text(&name)),
    };
    let found = format!(
        "nobody reads {}{others}: {kept} of the log are kept for it, and what a change writes as well{until}",
        ident(&name)
    );
    Ok(warning("unread slots", found, mend))
}

/// What is set for the login, the database or the server, and would end statements of ours.
async fn timeouts(connection: &mut Conn) -> Result<Check> {
    let sql = "SELECT string_agg(format('%s = %s ms', name, reset_val), ', ' ORDER BY name) FROM pg_settings
               WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')
               AND reset_val <> '0'";
    let found =
        first(connection, sql).await?.map(|row| get::<Option<String>>(&row, 0)).transpose()?.flatten();
    Ok(good(
        "timeouts",
        match found {
            Some(found) => format!("{found} are set here; sessions of replank have their own"),
            None => "none are set here".to_owned(),
        },
    ))
}
