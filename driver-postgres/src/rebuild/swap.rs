//! The swap's statements, in one transaction: two renames, and everything that goes with the name. Nothing is written to
//! the catalogue but by the server's own DDL.

use replank_core::ident::Role;
use replank_core::run::Direction;
use replank_core::{ErrorKind, Result};
use serde_json::json;

use super::matviews::{self, Pair};
use super::parts::Trees;
use super::prepare::closing;
use super::{Core, lasting, slot};
use crate::attached::Attached;
use crate::capture::{TRIGGERS, guard};
use crate::capture_parts;
use crate::connect::Conn;
use crate::inspect::identities;
use crate::spec::opposite;
use crate::sql::{get, ident, rows, run, table, text};
use crate::state::ObjectRole;

/// What the swap does, in order. `swap` is its transaction's number.
pub async fn statements(
    core: &Core,
    connection: &mut Conn,
    (attached, pairs): (&Attached, &[Pair]),
    (live_number, written_number, trees): (i64, i64, &Trees),
    swap: &str,
    captures: bool,
) -> Result<Vec<String>> {
    let direction = core.job.direction;
    let (schema, live) = (&core.spec.schema, &core.job.table.name);
    let (written_role, written_object) = core.written_role();
    let (retiring_role, retiring_object) = core.retiring_role();
    let (written, retired) = (core.name(written_role), core.name(retiring_role));
    let mut all = dropping_capture(core, connection, direction).await?;
    all.extend(attached.off.iter().cloned());
    let counters = counters(core, connection, &written).await?;
    all.extend(counters.iter().map(|counter| {
        format!(
            "SELECT setval({}, s.last_value, s.is_called) FROM {} AS s",
            text(&table(schema, &counter.incoming)),
            table(schema, &counter.outgoing)
        )
    }));
    all.push(format!("ALTER TABLE {} RENAME TO {}", table(schema, live), ident(&retired)));
    all.push(format!("ALTER TABLE {} RENAME TO {}", table(schema, &written), ident(live)));
    let (parts_out, parts_in) =
        core.renaming_parts(trees, live_number, written_number, (retiring_role, written_role))?;
    all.extend(parts_out);
    let outgoing = &core.spec.source(direction).definition.indexes;
    let incoming = &core.spec.written(direction).definition.indexes;
    let rename =
        |from: &str, to: &str| format!("ALTER INDEX {} RENAME TO {}", table(schema, from), ident(to));
    all.extend(
        outgoing
            .iter()
            .enumerate()
            .map(|(at, index)| rename(&index.name, &core.index_name(retiring_role, at))),
    );
    all.extend(
        incoming
            .iter()
            .enumerate()
            .map(|(at, index)| rename(&core.index_name(written_role, at), &index.name)),
    );
    all.extend(parts_in);
    all.extend(matviews::swapping(core, connection, pairs).await?);
    for (at, counter) in counters.iter().enumerate() {
        let letter = if retiring_role == Role::Shadow { 's' } else { 'r' };
        let helper = format!("_rp_{}_0_{letter}q{at}", core.job.run.short());
        let rename =
            |from: &str, to: &str| format!("ALTER SEQUENCE {} RENAME TO {}", table(schema, from), ident(to));
        all.push(rename(&counter.outgoing, &helper));
        all.push(rename(&counter.incoming, &counter.outgoing));
    }
    all.extend(attached.on.iter().cloned());
    all.extend(lasting::sequences(core, connection).await?);
    all.push(core.objects.removing(written_object, &written));
    all.push(core.objects.putting(retiring_object, &retired, &text("{}")));
    if !attached.later.is_empty() {
        let later = json!(attached.later).to_string();
        all.push(core.objects.changing(
            ObjectRole::Live,
            &format!("(extra::jsonb || jsonb_build_object('later', {}::jsonb))::text", text(&later)),
        ));
    }
    if captures {
        let back = opposite(direction);
        let capture = core.capture(back, Some(swap))?;
        all.push(capture.log());
        all.push(closing(&table(schema, &capture.log)));
        all.extend(core.triggers(&capture, back));
        let extra = format!("json_build_object('fingerprint', ({}))::text", core.fingerprint(&capture, back));
        all.push(core.objects.putting(super::log_role(back), &capture.log, &extra));
    } else {
        let name = format!("_rp_{}_0_guard", core.job.run.short());
        let incoming = core.spec.written(direction);
        all.extend(match incoming.is_partitioned() {
            true => capture_parts::guard(schema, live, &incoming.partitions, &name, swap),
            false => guard(schema, live, &name, swap),
        });
        all.push(core.objects.putting(ObjectRole::Guard, &name, &text("{}")));
    }
    Ok(all)
}

/// Takes a direction's capture off the table that applications use.
async fn dropping_capture(core: &Core, connection: &mut Conn, direction: Direction) -> Result<Vec<String>> {
    if direction == Direction::Forward && core.captures_by_slot() {
        return Ok(slot::ending(core));
    }
    let capture = core.capture(direction, None)?;
    let live = core.source();
    let function = table(&core.spec.schema, &capture.log);
    let mut all: Vec<String> = match core.spec.source(direction).is_partitioned() {
        true => super::discard::dropping(connection, &function).await?.1,
        false => TRIGGERS
            .iter()
            .map(|kind| format!("DROP TRIGGER IF EXISTS {} ON {live}", ident(&capture.trigger(kind))))
            .collect(),
    };
    all.push(format!("DROP FUNCTION IF EXISTS {function}()"));
    Ok(all)
}

/// A column that counts by itself in both tables.
struct Counter {
    outgoing: String,
    incoming: String,
}

/// Numbers that were given once are not given again: the incoming table goes on where the outgoing one is.
async fn counters(core: &Core, connection: &mut Conn, written: &str) -> Result<Vec<Counter>> {
    let of = |full: &str| identities(&format!("to_regclass({})", text(full)));
    let sql = format!(
        "SELECT q.relname::text, r.relname::text FROM ({}) AS o JOIN ({}) AS i USING (attname)
         JOIN pg_class q ON q.oid = o.seqrelid JOIN pg_class r ON r.oid = i.seqrelid ORDER BY attname",
        of(&core.source()),
        of(&table(&core.spec.schema, written))
    );
    rows(connection, sql)
        .await?
        .iter()
        .map(|row| Ok(Counter { outgoing: get(row, 0)?, incoming: get(row, 1)? }))
        .collect()
}

/// Does what was left for after a swap, and takes no lock that others wait for: constraints are looked at. Once more is
/// harmless.
pub async fn settle(core: &Core, connection: &mut Conn) -> Result<()> {
    slot::settle(core, connection).await?;
    let Some(live) = core.objects.one(connection, ObjectRole::Live).await? else { return Ok(()) };
    let later: Vec<String> = live.extra["later"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str())
        .map(ToOwned::to_owned)
        .collect();
    for statement in &later {
        match run(connection, statement.clone()).await {
            // Somebody has dropped it since.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
                tracing::info!(%error, statement, "there is nothing to look at any more");
            }
            // It held before only in name: rows were written while keys were not looked at.
            Err(error) if error.kind() == ErrorKind::Unfit => {
                tracing::warn!(%error, statement, "the constraint does not hold for all rows, and stays NOT VALID");
            }
            done => drop(done?),
        }
    }
    if !later.is_empty() {
        let change = core.objects.changing(ObjectRole::Live, "(extra::jsonb - 'later')::text");
        run(connection, change).await?;
    }
    Ok(())
}
