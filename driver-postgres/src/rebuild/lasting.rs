//! A change from LOGGED to UNLOGGED, or back: a crash of the server empties one of both tables, and the other one stays.
//!
//! The emptying is a change of every row that no capture sees. A sentinel tells of it: a table with one row that is UNLOGGED
//! as well, so that a crash empties it with the other one, and nothing else does. When it is found empty, every key that the
//! crash may have touched goes into the log, together with the sentinel's row, and is read again like any other. The same
//! serves a promoted standby, on which such tables are empty.
//!
//! Looked for whenever a head is read, so that whatever is found to differ after a crash is explained by a key that the feed
//! has not passed, and before a lock is used.
//!
//! After the swap to UNLOGGED the table that is not live is the only one that still has the rows. They are not removed
//! because of a crash: the run stops instead. See decision 20.

use replank_core::driver::RebuildJob;
use replank_core::run::Direction;
use replank_core::{Error, ErrorKind, Result};

use super::Core;
use super::long::holding_the_lease;
use super::prepare::make_helper;
use super::range::same_key;
use crate::connect::Conn;
use crate::spec::Spec;
use crate::sql::{first, get, ident, is_so, rows, run, table};
use crate::state::ObjectRole;

/// What a crash empties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emptied {
    /// The table that applications write.
    Source,
    /// The other one.
    Written,
}

/// Which of both a crash would empty alone, in a direction.
fn emptied(spec: &Spec, job: &RebuildJob) -> Option<Emptied> {
    let source = spec.source(job.direction).definition.is_unlogged();
    let written = spec.written(job.direction).definition.is_unlogged();
    match (source, written) {
        (true, false) => Some(Emptied::Source),
        (false, true) => Some(Emptied::Written),
        _ => None,
    }
}

impl Core {
    fn sentinel_name(&self) -> String {
        format!("_rp_{}_0_sentinel", self.job.run.short())
    }
}

/// Makes the sentinel, with the shadow.
pub async fn make(connection: &mut Conn, core: &Core) -> Result<()> {
    if emptied(&core.spec, &core.job).is_none() {
        return Ok(());
    }
    let name = core.sentinel_name();
    let full = table(&core.spec.schema, &name);
    let made = format!(
        "CREATE UNLOGGED TABLE {full} (since timestamptz NOT NULL DEFAULT clock_timestamp()); INSERT INTO {full} DEFAULT VALUES"
    );
    make_helper(connection, core, ObjectRole::Sentinel, &name, made).await
}

/// Whether the server has not crashed since the sentinel was set.
pub async fn is_standing(connection: &mut Conn, core: &Core) -> Result<bool> {
    if emptied(&core.spec, &core.job).is_none() {
        return Ok(true);
    }
    let sql = format!("SELECT EXISTS (SELECT FROM {})", table(&core.spec.schema, &core.sentinel_name()));
    match is_so(connection, sql).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::FeedGap, "the table that would tell of a crash of the server is gone")
                .hint("whether one of both tables was emptied is not known: `replank abort`, or `replank finalize` after the swap"))
        }
        told => told,
    }
}

/// Makes a crash known to the log, if there was one. Twice is harmless: rows are read again.
///
/// # Errors
/// [`ErrorKind::FeedGap`] where the table that is not live has the only copy of the rows.
pub async fn notice(core: &Core) -> Result<()> {
    let Some(emptied) = emptied(&core.spec, &core.job) else { return Ok(()) };
    let mut connection = core.server.take().await?;
    if is_standing(&mut connection, core).await? {
        core.server.keep(connection);
        return Ok(());
    }
    if emptied == Emptied::Source && core.job.direction == Direction::Reverse {
        return Err(only_copy(core));
    }
    tracing::warn!("the server has crashed, which empties UNLOGGED tables: every row is looked at again");
    let key = &core.flow()?.key;
    let slots: Vec<String> = (0..key.len()).map(|at| format!("k{at}")).collect();
    // Where rows were lost, they are lost: those that are not live must not bring them back.
    let (of, is_removed, keys): (String, bool, Vec<String>) = match emptied {
        Emptied::Source => (
            core.written(),
            true,
            key.iter().map(|column| format!("t.{}::{}", ident(&column.written), column.kind)).collect(),
        ),
        Emptied::Written => {
            (core.source(), false, key.iter().map(|column| format!("t.{}", ident(&column.source))).collect())
        }
    };
    let sentinel = table(&core.spec.schema, &core.sentinel_name());
    let noting = format!(
        "BEGIN; INSERT INTO {} (removed, {}) SELECT {is_removed}, {} FROM ONLY {of} AS t;
         INSERT INTO {sentinel} DEFAULT VALUES; COMMIT",
        table(&core.spec.schema, &core.log_name(core.job.direction)),
        slots.join(", "),
        keys.join(", ")
    );
    // A large table's keys take longer than a lease lasts.
    holding_the_lease(core, run(&mut connection, noting)).await.map_err(|error| core.missed(error))?;
    core.server.keep(connection);
    Ok(())
}

fn only_copy(core: &Core) -> Error {
    let (live, kept) = (&core.job.table, core.written());
    let columns = &core.spec.forward.columns;
    let names: Vec<String> = columns.iter().map(|column| ident(&column.column)).collect();
    let values: Vec<&str> = columns.iter().map(|column| column.expression.as_str()).collect();
    let key: Vec<(&str, &str)> = core
        .spec
        .forward
        .key
        .iter()
        .map(|column| (column.source.as_str(), column.written.as_str()))
        .collect();
    let (was, is): (Vec<&str>, Vec<&str>) = key.into_iter().unzip();
    Error::new(
        ErrorKind::FeedGap,
        format!("the server has crashed since the swap, and that has emptied `{live}`, which is UNLOGGED"),
    )
    .with(
        "still there",
        format!("{kept} has the rows as they were when it was last in step; nothing of it was changed"),
    )
    .hint(format!(
        "take what you need: INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {kept} AS k \
         WHERE NOT EXISTS (SELECT FROM {} AS l WHERE {}); then \
         `replank finalize {}`, which drops it; then ALTER TABLE … SET LOGGED is a change of its own",
        core.source(),
        names.join(", "),
        values.join(", "),
        core.source(),
        same_key("k", &was, "l", &is),
        core.job.run.short()
    ))
}

/// Why a table cannot become UNLOGGED, or no longer be it: what the server would say under the lock of the swap.
pub async fn hindrance(connection: &mut Conn, number: i64, is_unlogged: bool) -> Result<Option<String>> {
    let sql = match is_unlogged {
        true => format!(
            "SELECT format('the publication %I names the table, and publishes no UNLOGGED one: ALTER PUBLICATION %I DROP TABLE it first', p.pubname, p.pubname)
             FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid AND NOT starts_with(p.pubname, '_rp_') WHERE r.prrelid = {number}
             UNION ALL
             SELECT format('the foreign key %I of %s, which is LOGGED, refers to the table: SET UNLOGGED that first, or drop the key', o.conname, o.conrelid::regclass)
             FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
             WHERE o.contype = 'f' AND o.confrelid = {number} AND o.conrelid <> {number} AND c.relpersistence = 'p'"
        ),
        false => format!(
            "SELECT format('the foreign key %I refers to %s, which is UNLOGGED: SET LOGGED that first, or drop the key', o.conname, o.confrelid::regclass)
             FROM pg_constraint o JOIN pg_class c ON c.oid = o.confrelid
             WHERE o.contype = 'f' AND o.conrelid = {number} AND o.confrelid <> {number} AND c.relpersistence = 'u'"
        ),
    };
    first(connection, sql).await?.map(|row| get(&row, 0)).transpose()
}

/// A serial column's sequence lasts as its table does, as with the server's own ALTER TABLE: one that a crash sets back under a
/// table that stays would give numbers again. For the swap, after the sequence has gone with the name.
pub async fn sequences(core: &Core, connection: &mut Conn) -> Result<Vec<String>> {
    // https://www.postgresql.org/docs/release/15.0/: sequences can be UNLOGGED from then on.
    if emptied(&core.spec, &core.job).is_none() || core.server.version() < 150_000 {
        return Ok(Vec::new());
    }
    let is_unlogged = core.spec.written(core.job.direction).definition.is_unlogged();
    let (word, letter) = if is_unlogged { ("UNLOGGED", 'u') } else { ("LOGGED", 'p') };
    let Some(live) = core.live_number(connection, core.job.direction).await? else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT format('ALTER SEQUENCE %I.%I SET {word}', n.nspname, q.relname)
         FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' JOIN pg_namespace n ON n.oid = q.relnamespace
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {live}
         AND d.deptype = 'a' AND q.relpersistence <> '{letter}' ORDER BY 1"
    );
    rows(connection, sql).await?.iter().map(|row| get(row, 0)).collect()
}
